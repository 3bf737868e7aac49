"""The point spread function: read from the field's files, weighted by energy, kept in the run, known at any pixel."""

from cwt_dask.psf.keeping import keep_point_spread, kept_point_spread
from cwt_dask.psf.point_spread import PointSpread
from cwt_dask.psf.reading import OF_PSF, own_of, point_spread_of
from cwt_dask.psf.response import Spectrum, TargetMap

__all__ = [
    "OF_PSF",
    "PointSpread",
    "Spectrum",
    "TargetMap",
    "keep_point_spread",
    "kept_point_spread",
    "own_of",
    "point_spread_of",
]
