"""The report of a run: one page with maps, figures, tables and text.

It reads a run as `results` opens it. Bokeh and Jinja2 are imported here only.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from cwt_dask.cwt.arrays import numpys_own
from cwt_dask.merge.certificate import MOST_NAMED, SEAL
from cwt_dask.report.pyramid import damaged_pyramid, ensure_pyramid
from cwt_dask.results import SurveyRun
from cwt_dask.runtime.executors import InProcess
from cwt_dask.runtime.progress import Reporter
from cwt_dask.runtime.signals import Stop
from cwt_dask.runtime.stages import Stages
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.paths import backend_of, exists, read_file, write_atomically

# The first bytes of a page have the seal of the certificate that it shows, the run's id, and the sha256 of all else.
_HEAD = 1024
_DIGEST = re.compile(rb'<meta name="cwt-dask-digest" content="([0-9a-f]{64})">')


def report_is_current(run: SurveyRun) -> bool:
    """Whether there is a report of the run's present certificate, as it was written."""
    with suppress(OSError):
        return run.certificate[SEAL].encode() in read_file(run.files.report)[:_HEAD] and not damage_of_report(run)
    return False


def damage_of_report(run: SurveyRun) -> str:
    """What is wrong with a report and the reduced maps below it; empty if nothing is, and where there is none."""
    if not exists(run.files.report):
        return ""
    page, damaged = b"", damaged_pyramid(run)
    with suppress(OSError):
        page = read_file(run.files.report)
    whose = f'<meta name="cwt-dask-run" content="{run.stored.run_id}">'.encode()
    # Earlier releases wrote neither.
    damaged += [run.files.report] if run.stored.run_id and (whose not in page[:_HEAD] or page != _sealed(page)) else []
    named = ", ".join(map(str, damaged[:MOST_NAMED]))
    return f"damaged: {named}; the run's own command makes that again" if damaged else ""


def _sealed(page: bytes) -> bytes:
    """A page with the digest of what it has now; nothing where it has no place for that."""
    found = _DIGEST.search(page, 0, _HEAD)
    if not found:
        return b""
    before, after = page[: found.start(1)], page[found.end(1) :]
    return before + hashlib.sha256(before + after).hexdigest().encode() + after


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
        write_atomically(run.files.report, _sealed(_render(run, held).encode()))
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
    from cwt_dask.report.residual import smooth_levels  # noqa: PLC0415

    pyramid = ensure_pyramid(run, stages)
    smoothed = smooth_levels(run, pyramid)
    return render(run, read_rasters(run, pyramid, smoothed), pyramid, gather(run, pyramid, smoothed, stages))
