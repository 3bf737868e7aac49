"""Repair of metadata: files that describe the arrays of maps and seams follow from the plan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from cwt_dask.config.validation import shown
from cwt_dask.results import SurveyRun
from cwt_dask.storage.ledger import read_records
from cwt_dask.storage.maps import describe_maps, has_history
from cwt_dask.storage.paths import write_atomically
from cwt_dask.storage.schema import HISTORY
from cwt_dask.storage.zarr_io import MALFORMED, parsed


class DamagedMetadata(NamedTuple):
    """A file that does not describe what the plan has there."""

    path: Path  # Which file.
    reason: str  # What is wrong with it.
    content: bytes  # What belongs into it.


def damaged_metadata(run: SurveyRun) -> list[DamagedMetadata]:
    """Find files of maps and seams that do not describe what the plan has there: each `zarr.json`, and coordinates.

    Raises SurveyError if the survey cannot be read: the maps have its WCS.
    """
    plan, kept = run.stored.plan, _kept_iterations(run)
    scales = plan.kernels.scales.tolist()
    wanted = describe_maps(run.files, plan.grid, scales, run.survey.header_text, history=kept[0])
    found = []
    for path, content in wanted.items():
        # Chunks are those of coordinates, of which every byte is known.
        read: Callable[[bytes], Any] = parsed if path.name == "zarr.json" else bytes
        right = read(content)
        lengths = kept if path.parent.name == HISTORY else []
        allowed = [right | {"shape": (length, *right["shape"][1:])} for length in lengths] or [right]
        try:
            reason = "" if read(path.read_bytes()) in allowed else "it describes something else"
        except (FileNotFoundError, *MALFORMED) as error:
            reason = shown(error)
        if reason:
            found.append(DamagedMetadata(path, reason, content))
    return found


def repair_metadata(run: SurveyRun) -> list[str]:
    """Write those files again; a line of text for each. Pixels are checked by their digests."""
    damaged = damaged_metadata(run)
    for path, _, content in damaged:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    return [f"{path} was damaged ({reason}): written again, as the plan has it" for path, reason, _ in damaged]


def _kept_iterations(run: SurveyRun) -> list[int]:
    """Numbers of iterations that the history may have, the likeliest first; 0 where there is none."""
    if not has_history(run.files):
        return [0]
    most = run.stored.plan.settings.max_iter
    made = max((record.n_iter for record in read_records(run.files.ledger).values()), default=most)
    # What is beyond the last is cut off before the certificate is written.
    return [made, most] if run.files.certificate.exists() else [most, made]
