"""Numbers taken from pixels: peaks, centroids, Poisson intervals.

It knows arrays only, as `cwt` does.
"""
