"""Repair of what follows from proven data: the plan describes maps and seams, FITS files hold the survey again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from cwt_dask.config.validation import shown
from cwt_dask.errors import RunError, SurveyError
from cwt_dask.psf import PointSpread, keep_point_spread, kept_point_spread
from cwt_dask.results import SurveyRun
from cwt_dask.storage.ledger import read_records, read_run_id, write_run_id
from cwt_dask.storage.maps import describe_maps
from cwt_dask.storage.paths import make_directory, read_file, remove_folder, write_atomically
from cwt_dask.storage.schema import HISTORY, SIGMA_SINCE
from cwt_dask.storage.zarr_io import MALFORMED, parsed
from cwt_dask.survey import Survey, is_store


class DamagedMetadata(NamedTuple):
    """A file that does not describe what the plan has there."""

    path: Path  # Which file.
    reason: str  # What is wrong with it.
    content: bytes  # What belongs into it.


def damaged_metadata(run: SurveyRun, survey: Survey | None) -> list[DamagedMetadata]:
    """Find files of maps and seams that do not describe what the plan has there: each `zarr.json`, and coordinates.

    Parameters
    ----------
    run : SurveyRun
        The run.
    survey : Survey, optional
        Its survey, of which the maps have the WCS; without it the file that holds that is not looked at.
    """
    plan, kept = run.stored.plan, _kept_iterations(run)
    scales = plan.kernels.scales.tolist()
    wanted = describe_maps(run.files, plan.grid, scales, survey.header_text if survey else "", history=kept[0])
    if plan.algorithm_version < SIGMA_SINCE:
        del wanted[run.files.maps / "sigma" / "zarr.json"]
    if not survey:
        del wanted[run.files.maps / "zarr.json"]
    found = []
    for path, content in wanted.items():
        # Chunks are those of coordinates, of which every byte is known.
        read: Callable[[bytes], Any] = _described if path.name == "zarr.json" else bytes
        right = read(content)
        lengths = kept if path.parent.name == HISTORY else []
        allowed = [right | {"shape": (length, *right["shape"][1:])} for length in lengths] or [right]
        try:
            reason = "" if read(read_file(path)) in allowed else "it describes something else"
        except (FileNotFoundError, IsADirectoryError, *MALFORMED) as error:
            reason = shown(error)
        if reason:
            found.append(DamagedMetadata(path, reason, content))
    return found


def _described(content: bytes) -> dict[str, Any]:
    """What a description says, but for the name for people: that of runs made before may be another one."""
    found = parsed(content)
    attributes = {name: value for name, value in found["attributes"].items() if name != "long_name"}
    return found | {"attributes": attributes}


def repair_metadata(run: SurveyRun) -> list[str]:
    """Write those files again; a line of text for each. Pixels are checked by their digests.

    Raises SurveyError if the survey cannot be read.
    """
    damaged = damaged_metadata(run, run.survey)
    for path, _, content in damaged:
        make_directory(path.parent)
        write_atomically(path, content)
    return [f"{path} was damaged ({reason}): written again, as the plan has it" for path, reason, _ in damaged]


def repair_run_id(run: SurveyRun) -> list[str]:
    """Write again which run it is, where that is lost or damaged; a line of text."""
    files, run_id = run.files, run.stored.run_id
    with suppress(RunError):
        if read_run_id(files) == run_id:
            return []
    write_run_id(files, run_id)
    return [f"{files.run_id} was damaged: written again, as {files.settings.name} has it"]


def repair_point_spread(run: SurveyRun, spread: PointSpread) -> list[str]:
    """Write the point spread function again, where it is lost or damaged; a line of text."""
    with suppress(RunError):
        kept_point_spread(run.files, run.stored.plan.settings.psf, run.wcs)
        return []
    keep_point_spread(run.files, spread)
    return [f"{run.files.psf} was damaged or lost: written again"]


def repair_survey(run: SurveyRun, survey: Path, make: Callable[[Path], object]) -> list[str]:
    """Make the run's own survey store again where anything of it is damaged; a line of text.

    Parameters
    ----------
    run : SurveyRun
        The run.
    survey : Path
        File of the same survey; where it is a store, that is the one the run reads.
    make : callable
        Reads that file, and writes the store.
    """
    own = run.files.survey
    # What a link leads to is not the run's to replace.
    if is_store(survey) or own.is_symlink() or run.stored.places != (own.resolve(),):
        return []
    try:
        stored = Survey.open(own)
        stored.refuse_unproven()
        stored.refuse_damaged_chunks()
        if stored.is_that_of(run.stored.plan.survey_digest, run.stored.plan.survey_facts):
            return []
        reason = f"{own / 'zarr.json'} is damaged (it is of another survey)"
    except SurveyError as error:
        reason = str(error).partition(": ")[0]
    remove_folder(run.files, own)
    make(own)
    return [f"{reason}: the survey was read again from {survey}"]


def _kept_iterations(run: SurveyRun) -> list[int]:
    """Numbers of iterations that the history may have, the likeliest first; 0 where there is none."""
    if not run.stored.keeps_history:
        return [0]
    most = run.stored.plan.settings.max_iter
    made = max((record.n_iter for record in read_records(run.files.ledger, run.stored.run_id).values()), default=most)
    # What is beyond the last is cut off before the certificate is written.
    return [made, most] if run.files.certificate.exists() else [most, made]
