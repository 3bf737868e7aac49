"""The promises of a run, checked again from its files and, where that is wanted, by computing again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from cwt_dask.config.settings import ALGORITHM_VERSION
from cwt_dask.config.validation import counted
from cwt_dask.cwt.arrays import numpys_own
from cwt_dask.errors import RunError
from cwt_dask.inspection.recompute import (
    Comparison,
    draw_tiles,
    recompute_tile,
    recompute_whole,
    refuse_what_does_not_fit,
    wider_grid,
)
from cwt_dask.inspection.sources import agreement_of, measure_again, recorded_rows
from cwt_dask.merge.certificate import NEW, certify, fault_of
from cwt_dask.merge.islands import OpenIsland
from cwt_dask.merge.open_islands import faults_of_lists, listed_until, read_open_islands
from cwt_dask.merge.seams import Seam, compare_seams
from cwt_dask.pipeline.repair import damaged_metadata
from cwt_dask.pipeline.reuse import MOST_NAMED
from cwt_dask.planning.runfile import kept_versions
from cwt_dask.products.files import faults_of_products
from cwt_dask.psf import kept_point_spread
from cwt_dask.report import damage_of_report
from cwt_dask.results import SurveyRun
from cwt_dask.storage.ledger import is_ledger_of, read_all_records, read_records, read_run_id
from cwt_dask.storage.maps import changed_files, published_digests
from cwt_dask.storage.paths import exists
from cwt_dask.storage.record_copies import faults_of_record_copies
from cwt_dask.storage.schema import HISTORY, spec_of
from cwt_dask.storage.zarr_io import DAMAGE, open_group
from cwt_dask.survey import Survey, open_survey

# What the certificate states and the files must still give.
# fmt: off
RECOMPUTED = (
    "n_tiles", "n_iter", "converged", "coverage", "seam_model_error", "seam_support_flips", "open_islands",
    "tiling_exact", "sources_exact", "false_sources", "digest_maps", "input_digest", "settings_digest",
)
# fmt: on


class Check(NamedTuple):
    """One promise."""

    promise: str  # What it is, or what was looked at.
    fault: str  # What is wrong with it; empty if it holds.
    promised: bool = True  # Whether it was one: a fault where nothing was promised breaks nothing.

    @property
    def broken(self) -> bool:
        """Whether a promise is broken."""
        return bool(self.fault) and self.promised


def verify_run(
    run: SurveyRun, *, recompute: int | None = None, seed: int = 0, against_whole: bool = False
) -> Iterator[Check]:
    """Check a finished run: coverage, digests, seams, certificate and history from its files, the rest by computing.

    Parameters
    ----------
    run : SurveyRun
        The run; nothing of it is changed.
    recompute : int or None, optional
        How many tiles to make again, with margins wider by twice the kernels' reach; and their sources.
    seed : int, optional
        Decides which tiles.
    against_whole : bool, optional
        Whether to analyse the whole map at once.

    Returns
    -------
    iterator of Check
        What is checked from the files first; the others as soon as they are computed.

    Raises
    ------
    InputError
        If the run is not finished, or the whole map does not fit into memory.
    SettingsError
        If `recompute` or `seed` is impossible.
    RunError
        If a ledger record is damaged.
    """
    plan = run.stored.plan
    tiles = [] if recompute is None else draw_tiles(plan.grid.n_tiles, recompute, seed)
    if against_whole:
        refuse_what_does_not_fit(plan)
    return chain(_from_files(run), _by_computing(run, tiles, against_whole=against_whole))


def scope(run: SurveyRun, *, recompute: int | None = None, against_whole: bool = False) -> list[str]:
    """What these checks can and cannot show, a line each.

    Parameters
    ----------
    run, recompute, against_whole
        As of `verify_run`.
    """
    n_tiles = run.stored.plan.grid.n_tiles
    forged = "whether maps were changed together with their digests"
    again = (
        f"{min(recompute or 0, n_tiles)} of {n_tiles} tiles made again show whether their margins are wide enough, "
        f"whether their rows are as measured, and {forged}"
    )
    lines = {
        "files show whether anything was lost or changed since the run, and whether tiles agree at their seams": True,
        again: recompute is not None,
        f"the whole map shows whether tiling did any harm, and {forged}": against_whole,
        f"not shown: {forged} (--recompute K or --against-whole)": recompute is None and not against_whole,
        "not shown: whether the background is right, or the mathematics, which the project's own tests are for": True,
    }
    return [line for line, holds in lines.items() if holds]


@numpys_own
def _from_files(run: SurveyRun) -> list[Check]:
    certificate = run.read_certificate()
    plan = run.stored.plan
    records = read_records(run.files.ledger, run.stored.run_id)
    done = [(tile, records[tile]) for tile in range(plan.grid.n_tiles) if tile in records]
    # Records that are damaged are named as such.
    missing = [tile for tile in range(plan.grid.n_tiles) if tile not in records and not exists(run.files.record(tile))]
    foreign = [tile for tile, record in records.items() if record.settings_digest != plan.settings_digest]
    changed = list(filter(None, (_changed(run, tile, record.chunk_digests) for tile, record in done)))
    other_input = [tile for tile, record in done if _input_digest(run, tile) != record.input_digest]
    seams, unreadable = _seams(run)
    survey, damage = _survey(run)
    described_otherwise = [f"{path}: {why}" for path, why, _ in damaged_metadata(run, survey)]
    unsettled, unlisted = _open_islands(run, max((record.n_iter for record in records.values()), default=0))
    agreement, lost = agreement_of(run, certificate)
    now = certify(
        plan,
        survey.statistics if survey else None,
        records,
        seams,
        unsettled,
        differing=agreement.differing if agreement else None,
    )
    unknown = {*NEW} - certificate.keys() | (set() if agreement else {"sources_exact"})
    stale = [name for name in RECOMPUTED if name not in unknown and now[name] != certificate.get(name)]
    stale = [f"{name} is {now[name]}, not {certificate.get(name)}" for name in stale]
    products = faults_of_products(run.files, certificate, run.stored.run_id)
    follows = Check("the certificate follows from the files", "; ".join(stale))
    harm = Check("the tiles did no harm", "" if now["tiling_exact"] else "tiling_exact is false")
    if not plan.exact:
        exact = str(now["tiling_exact"]).lower()
        harm = Check(f"nothing was promised of the tiles (tiling_exact is {exact}, see the warnings)", "")
    if len(done) < plan.grid.n_tiles:
        # One record that is lost is one fault.
        follows, harm = (
            check._replace(fault="unknown without the records", promised=False) for check in (follows, harm)
        )
    return [
        Check("the ledger is as the run wrote it", "; ".join(_ledger(run))),
        Check("every tile is done", _tiles("no record of", missing)),
        Check("every tile was done under the run's settings", _tiles("other settings in", foreign)),
        Check("maps and seams are described as planned", "; ".join(described_otherwise)),
        Check("maps and seams are as the tiles wrote them", _some(changed)),
        Check("the survey can be read", damage),
        Check("the survey is as the tiles read it", _tiles("other pixels in the window of", other_input)),
        *([Check("the point spread function is as the run read it", _psf(run))] if plan.settings.psf else []),
        Check("the seams can be compared", _unreadable(unreadable)),
        *([Check("islands left open are listed", unlisted)] if plan.decides_islands else []),
        *_history(run, now["n_iter"]),
        Check("what tiles have found and fitted is as they wrote it", lost),
        follows,
        Check("the certificate is as the run wrote it", _certificate(run, certificate)),
        Check("catalogue and FITS files are as the run wrote them", "; ".join(products)),
        *([Check("the report is as it was written", damage_of_report(run))] if run.files.report.exists() else []),
        harm,
    ]


def _by_computing(run: SurveyRun, tiles: list[int], *, against_whole: bool) -> Iterator[Check]:
    records = read_records(run.files.ledger, run.stored.run_id)
    wider = "no seams" if (margin := wider_grid(run.stored.plan).margin) is None else f"margin {margin} pixels"
    for tile in tiles:
        what = f"tile {tile} again, {wider}"
        if record := records.get(tile):
            yield _again(run, what, partial(recompute_tile, run, tile, record.n_iter), record.near_threshold)
        else:
            yield Check(what, "no record says how many iterations it made")
    yield from _measured_again(run, tiles) if tiles else ()
    if against_whole:
        what = "the whole ring at once" if run.stored.plan.grid.ring else "the whole map as one image"
        near = sum(record.near_threshold for record in records.values())
        yield _again(run, what, partial(recompute_whole, run, records), near)


@numpys_own
def _measured_again(run: SurveyRun, tiles: list[int]) -> Iterator[Check]:
    agreement, lost = agreement_of(run, run.read_certificate())
    if agreement is None:
        yield Check("sources measured again", lost or "the version before kept none", promised=bool(lost))
        return
    recorded, promised = recorded_rows(run), run.stored.plan.algorithm_version == ALGORITHM_VERSION
    for tile in tiles:
        try:
            found = measure_again(run, tile, agreement, recorded)
            yield Check(f"sources of tile {tile} measured again, {found}", found.fault, promised=promised)
        except (RunError, *DAMAGE) as error:
            yield Check(f"sources of tile {tile} measured again", f"files cannot be read ({error})")


def _again(run: SurveyRun, what: str, compare: Callable[[], Comparison], near_threshold: int) -> Check:
    try:
        comparison = compare()
    except DAMAGE as error:
        return Check(what, f"files cannot be read ({error})")
    if comparison.agrees:
        fault = ""
    elif run.stored.plan.exact:
        near = (
            f"; T/E of {counted(near_threshold, 'pixel')} is within rounding of a threshold" if near_threshold else ""
        )
        allowed = ", ".join(f"{name} {spec_of(name).tolerance:g}" for name in comparison.errors)
        fault = f"at most {allowed} and no pixel are allowed{near}"
    else:
        fault = "nothing was promised"
    return Check(f"{what}, {comparison}", fault, promised=run.stored.plan.exact)


def _history(run: SurveyRun, n_iter: int) -> list[Check]:
    """Whether the models that were kept end with the published one."""
    if not run.stored.keeps_history:
        return []
    try:
        maps = open_group(run.files.maps, whole="run")
        history, model = maps[HISTORY], maps["model"]
        kept = history.shape[0]
        differing = [
            tile.id
            for tile in run.stored.plan.grid.tiles()
            if not np.array_equal(history[(kept - 1, *tile.core.slices)], model[tile.core.slices])
        ]
        length = "" if kept == n_iter else f"it has {counted(kept, 'iteration')}, not {n_iter}"
    except DAMAGE as error:
        return [Check("the history ends with the model", f"files cannot be read ({error})")]
    return [Check("the history ends with the model", length or _tiles("another model in", differing))]


def _changed(run: SurveyRun, tile: int, recorded: Mapping[str, str]) -> str:
    """What is not as a tile wrote it."""
    grid = run.stored.plan.grid
    found = published_digests(run.files, grid, tile)
    if found == recorded:
        return ""
    return f"other pixels in tile {tile} ({', '.join(changed_files(run.files, grid, tile, recorded, found))})"


def _some(faults: list[str]) -> str:
    """Faults of tiles, the first of many."""
    left = len(faults) - MOST_NAMED
    return "; ".join([*faults[:MOST_NAMED], *([f"and {counted(left, 'more tile')}"] if left > 0 else [])])


def _input_digest(run: SurveyRun, tile: int) -> str | None:
    """Digest of what a tile reads now; None where it cannot be read."""
    try:
        survey = open_survey(run.survey.path, run.stored.plan.grid)
        return survey.digest_window(run.stored.plan.grid.tile(tile).window)
    except DAMAGE:
        return None


def _ledger(run: SurveyRun) -> list[str]:
    """What is wrong with records, and with the file that says whose they are."""
    _, found = read_all_records(run.files.ledger, run.stored.run_id)
    if run.stored.run_id:
        if not is_ledger_of(run.files, run.stored.run_id):
            found.append(f"{run.files.settings} is of another run than the records in {run.files.ledger}")
        try:
            damaged = read_run_id(run.files) != run.stored.run_id
        except RunError:
            damaged = True
        found += [f"{run.files.run_id} is damaged or lost"] if damaged else []
        found += faults_of_record_copies(run.files, run.stored.run_id)
        kept = kept_versions(run.files, run.stored.run_id)
        found += [f"{run.files.versions} is damaged or lost"] if kept != list(run.stored.earlier_versions) else []
    return found


def _certificate(run: SurveyRun, certificate: dict[str, Any]) -> str:
    fault = fault_of(certificate, run.stored.run_id, run.stored.plan)
    return f"{run.files.certificate}: {fault}" if fault else ""


def _survey(run: SurveyRun) -> tuple[Survey | None, str]:
    """The survey if its metadata are sound, and why not all of it can be read."""
    survey = None
    try:
        run.survey.refuse_damage()
        survey = run.survey
        survey.refuse_damaged_chunks()
    except DAMAGE as error:
        return survey, str(error)
    return survey, ""


def _psf(run: SurveyRun) -> str:
    try:
        kept_point_spread(run.files, run.stored.plan.settings.psf, None)
    except RunError as error:
        return str(error)
    return ""


def _open_islands(run: SurveyRun, n_iter: int) -> tuple[list[OpenIsland], str]:
    """Islands that were left open, and what is wrong with their lists."""
    files, run_id = run.files, run.stored.run_id
    if faults := faults_of_lists(files, run_id):
        return [], "; ".join(faults)
    complete = not run_id or listed_until(files, run_id) >= n_iter
    fault = "" if complete else f"a list is lost from {files.islands}: the run's own command makes it again"
    return [island for listed in read_open_islands(files, run_id) for island in listed.islands], fault


def _seams(run: SurveyRun) -> tuple[list[Seam], dict[int, str]]:
    """All seams that can be compared, and the tiles of which they cannot, with the reasons."""
    seams: list[Seam] = []
    unreadable = {}
    for tile in range(run.stored.plan.grid.n_tiles):
        try:
            seams += compare_seams(run.files.seams, run.stored.plan.grid, tile)
        except DAMAGE as error:
            unreadable[tile] = str(error)
    return seams, unreadable


def _unreadable(reasons: dict[int, str]) -> str:
    """Tiles with seams that cannot be read, and why, each reason once."""
    why = "; ".join(dict.fromkeys(reasons.values()))
    return f"{_tiles('unreadable files of', list(reasons))}: {why}" if reasons else ""


def _tiles(what: str, tiles: list[int]) -> str:
    return f"{what} tile{'s' * (len(tiles) > 1)} {', '.join(map(str, tiles))}" if tiles else ""
