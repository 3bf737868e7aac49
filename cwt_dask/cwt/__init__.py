"""The mathematics of one image: kernels, iteration, support, stopping, and `CWT` on arrays.

It knows numpy, scipy, astropy and numba only; neither Dask nor Zarr.
"""
