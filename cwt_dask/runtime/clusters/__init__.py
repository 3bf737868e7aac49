"""Dask clusters of every kind: all that a run needs of one is its client.

`choice` finds the kind's module; each kind is one module that makes a client, the others are what these share.
"""
