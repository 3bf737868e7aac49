"""Iterative continuous wavelet transform source detection on survey maps of any size, tiled over Dask workers."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from cwt_dask.cwt.analysis import CWT
from cwt_dask.cwt.data import CWTData
from cwt_dask.cwt.kernels import CWTKernels

if TYPE_CHECKING:
    from cwt_dask.run import SurveyRun, run_survey

__all__ = ["CWT", "CWTData", "CWTKernels", "SurveyRun", "__version__", "run_survey"]

__version__ = version("cwt_dask")


def __getattr__(name: str) -> Any:
    # The detector on one image works without Dask and Zarr: they are imported when a survey is asked for.
    if name in {"SurveyRun", "run_survey"}:
        from cwt_dask import run  # noqa: PLC0415

        return getattr(run, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
