"""Iterative continuous wavelet transform source detection on survey maps of any size, tiled over Dask workers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cwt_dask.cwt.data import CWTData
    from cwt_dask.cwt.detector import CWT
    from cwt_dask.cwt.kernels import CWTKernels
    from cwt_dask.run import SurveyRun, run_survey

    __version__: str

__all__ = ["CWT", "CWTData", "CWTKernels", "SurveyRun", "__version__", "run_survey"]

_WHERE = {
    "CWT": "cwt.detector",
    "CWTData": "cwt.data",
    "CWTKernels": "cwt.kernels",
    "SurveyRun": "run",
    "run_survey": "run",
}


def __getattr__(name: str) -> Any:
    # The detector on one image works without Dask and Zarr, and the command line listens to signals and answers before
    # anything is imported that takes its time: all is imported when it is asked for.
    if name == "__version__":
        return import_module("importlib.metadata").version("cwt_dask")
    if name in _WHERE:
        return getattr(import_module(f"cwt_dask.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
