"""The promises of a run, checked again from its files.

This proves that nothing was lost or changed since, and that neighbouring tiles agree; it does not prove the
mathematics, which is what the tests' oracle is for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from cwt_dask.ledger import read_records
from cwt_dask.maps import DAMAGE, stored_digests
from cwt_dask.merge.certificate import certify
from cwt_dask.merge.seams import compare_seams
from cwt_dask.products import digest_catalogue

if TYPE_CHECKING:
    from cwt_dask.merge.seams import Seam
    from cwt_dask.plan import Plan
    from cwt_dask.results import SurveyRun

# What the certificate states and the files must still give.
RECOMPUTED = (
    "n_tiles",
    "n_iter",
    "converged",
    "coverage",
    "seam_model_error",
    "seam_support_flips",
    "open_islands",
    "tiling_exact",
    "digest_maps",
    "input_digest",
    "settings_digest",
)


class Check(NamedTuple):
    """One promise: what it is, and what is wrong with it (nothing, if it holds)."""

    promise: str
    fault: str


def verify_run(run: SurveyRun) -> list[Check]:
    """Check coverage, digests, seams and certificate of a finished run from its files.

    Raises
    ------
    InputError
        If the run is not finished.
    RunError
        If a ledger record is damaged.
    """
    certificate = run.certificate
    plan = run.stored.plan
    records = read_records(run.files.ledger)
    tiles = range(plan.grid.n_tiles)
    missing = [tile for tile in tiles if tile not in records]
    foreign = [tile for tile, record in records.items() if record.settings_digest != plan.settings_digest]
    changed = [
        tile
        for tile in tiles
        if tile in records and stored_digests(run.files, plan.grid.tile(tile)) != records[tile].chunk_digests
    ]
    other_input = [tile for tile in tiles if tile in records and _input_digest(run, tile) != records[tile].input_digest]
    seams, unreadable = _seams(run)
    now = certify(plan, run.survey.facts, records, seams)
    stale = [
        f"{name} is {now[name]}, not {certificate.get(name)}"
        for name in RECOMPUTED
        if now[name] != certificate.get(name)
    ]
    return [
        Check("every tile is done", _tiles("no record of", missing)),
        Check("every tile was done under the run's settings", _tiles("other settings in", foreign)),
        Check("maps and seams are as the tiles wrote them", _tiles("other pixels in", changed)),
        Check("the survey is as the tiles read it", _tiles("other pixels in the window of", other_input)),
        Check("the seams can be compared", _tiles("unreadable files of", unreadable)),
        Check("the certificate follows from the files", "; ".join(stale)),
        Check("the catalogue is as the run wrote it", _changed_catalogue(run, certificate)),
        _harm(plan, exact=now["tiling_exact"]),
    ]


def _harm(plan: Plan, *, exact: bool) -> Check:
    if plan.exact:
        return Check("the tiles did no harm", "" if exact else "tiling_exact is false")
    return Check(f"nothing was promised of the tiles (tiling_exact is {str(exact).lower()}, see the warnings)", "")


def _changed_catalogue(run: SurveyRun, certificate: dict[str, Any]) -> str:
    return (
        "" if digest_catalogue(run.files) == certificate.get("digest_catalogue") else f"{run.files.catalogue} differs"
    )


def _input_digest(run: SurveyRun, tile: int) -> str | None:
    """Digest of what a tile reads now; None where it cannot be read."""
    try:
        return run.survey.digest_window(run.stored.plan.grid.tile(tile).window)
    except DAMAGE:
        return None


def _seams(run: SurveyRun) -> tuple[list[Seam], list[int]]:
    """All seams that can be compared, and the tiles of which they cannot."""
    seams, unreadable = [], []
    for tile in range(run.stored.plan.grid.n_tiles):
        try:
            seams += compare_seams(run.files.seams, run.stored.plan.grid, tile)
        except DAMAGE:
            unreadable.append(tile)
    return seams, unreadable


def _tiles(what: str, tiles: list[int]) -> str:
    return f"{what} tiles {', '.join(map(str, tiles))}" if tiles else ""
