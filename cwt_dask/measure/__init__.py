"""Numbers taken from pixels: peaks, centroids, Poisson intervals, the joint likelihood of sources.

It knows arrays only, as `cwt` does.
"""
