"""A background estimated from the counts: smoothed outside of sources, which are found by iteration, by tiles."""

from cwt_dask.background.api import BackgroundEstimate, estimate_background, write_background
from cwt_dask.background.files import Means, with_estimate

__all__ = ["BackgroundEstimate", "Means", "estimate_background", "with_estimate", "write_background"]
