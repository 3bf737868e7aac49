"""The mathematics of one image: numpy, scipy and astropy only, no dask, no zarr."""
