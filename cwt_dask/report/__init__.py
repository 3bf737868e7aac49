"""The report of a run: one page with maps, figures, tables and text.

It reads a run as `results` opens it. Bokeh and Jinja2 are imported here only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from cwt_dask.cwt.arrays import numpys_own
from cwt_dask.merge.certificate import SEAL
from cwt_dask.report.pyramid import ensure_pyramid
from cwt_dask.results import SurveyRun
from cwt_dask.runtime.executors import InProcess
from cwt_dask.runtime.progress import Reporter
from cwt_dask.runtime.signals import Stop
from cwt_dask.runtime.stages import Stages
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.paths import backend_of, open_file, write_atomically
from cwt_dask.storage.zarr_io import DAMAGE

# The mark stands in the first bytes of a page.
_HEAD = 1024


def report_is_current(run: SurveyRun) -> bool:
    """Whether there is a report of the run's present certificate."""
    with suppress(OSError), open_file(run.files.report) as file:
        return run.certificate[SEAL].encode() in file.read(_HEAD)
    return False


@numpys_own
def write_report(run: SurveyRun, stages: Stages | None = None) -> Path:
    """Write the report of a finished run, in memory that does not depend on the survey's size.

    Parameters
    ----------
    run : SurveyRun
        Finished.
    stages : Stages, optional
        Of a run that is being carried out; by default all is done in this process, which holds the run meanwhile.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    InputError
        If the run is not finished, or another process holds it.
    RunError
        If its files are damaged, or the maps cannot be reduced.
    """
    with _held(run.files) if stages is None else nullcontext(stages) as held:
        write_atomically(run.files.report, _render(run, held).encode())
    return run.files.report


@contextmanager
def _held(files: RunDir) -> Iterator[Stages]:
    """Hold a run, with all tasks in this process."""
    stop = Stop()
    with backend_of(files.path).hold(files, stop.ask):
        yield Stages(InProcess(stop), Reporter(), files)


def _render(run: SurveyRun, stages: Stages) -> str:
    # Imported here: nothing else needs Jinja2 and Bokeh.
    from cwt_dask.report.data import gather  # noqa: PLC0415
    from cwt_dask.report.page import render  # noqa: PLC0415
    from cwt_dask.report.rasters import read_rasters  # noqa: PLC0415

    pyramid = ensure_pyramid(run, stages)
    try:
        rasters, numbers = read_rasters(run, pyramid), gather(run, pyramid, stages)
    except DAMAGE:
        pyramid = ensure_pyramid(run, stages, rebuild=True)
        rasters, numbers = read_rasters(run, pyramid), gather(run, pyramid, stages)
    return render(run, rasters, pyramid, numbers)
