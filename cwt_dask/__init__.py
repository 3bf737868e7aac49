"""Iterative continuous wavelet transform source detection on survey maps of any size, tiled over Dask workers."""
