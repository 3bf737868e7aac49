"""What is made of all tiles: seams, flags, sources, catalogue, FITS files, certificate, in this order."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cwt_dask.config.settings import SPLIT
from cwt_dask.errors import InputError, RunError
from cwt_dask.measure.false_rows import FalseRows
from cwt_dask.merge.agreement import Windows, differing, until_they_agree
from cwt_dask.merge.borders import Borders
from cwt_dask.merge.catalogue import build_catalogue
from cwt_dask.merge.certificate import SEAL, certify
from cwt_dask.merge.open_islands import read_open_islands
from cwt_dask.merge.seam_flags import bad_sides, flag_tile
from cwt_dask.merge.seams import Seam, compare_seams
from cwt_dask.pipeline.reuse import MOST_NAMED
from cwt_dask.planning.plan import Plan
from cwt_dask.products.files import (
    changed_products,
    damaged_simulations,
    digest_catalogue,
    digest_products,
    write_candidates,
    write_catalogue,
    write_maps_fits,
    write_table,
)
from cwt_dask.products.healpix import write_maps_hpx
from cwt_dask.results import SurveyRun
from cwt_dask.runtime.stages import Stages
from cwt_dask.storage.checksum import sha256_of_file
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.ledger import read_finished, read_run_id
from cwt_dask.storage.maps import cut_history
from cwt_dask.storage.paths import backend_of, remove, write_atomically
from cwt_dask.storage.sealed import sealed
from cwt_dask.survey import open_survey
from cwt_dask.survey.facets import FacetSurvey
from cwt_dask.tiles.fitted import damaged
from cwt_dask.tiles.fitting import Reach, fit_tile
from cwt_dask.tiles.sources import measure_tile

if TYPE_CHECKING:
    from astropy.table import Table


@dataclass
class Merging:
    """The merge of all tiles of one run."""

    run: SurveyRun  # Which run.
    stages: Stages  # Where tiles are done.
    earlier: RunDir | None = None  # A run from which is taken what was made of the same.
    # How far beyond its core each tile was fitted; and by tile, others with sources near it that it does not find as
    # they do.
    windows: Windows = field(default_factory=partial(Windows, 0))
    differing: dict[int, list[int]] = field(default_factory=dict)
    keeps_maps: bool = False  # Whether nothing but the split of the catalogue is another one.
    borders: Borders | None = None  # What was found where facets meet, once the catalogue is made.
    false_rows: FalseRows | None = None  # How many the catalogue is expected to have, once it is built.
    seams: list[Seam] = field(default_factory=list)  # What neighbours found where both computed, once it is compared.
    _started: datetime = field(default_factory=lambda: datetime.now(UTC))
    _clock: float = field(default_factory=time.perf_counter)

    def is_stale(self) -> bool:
        """Whether certificate, catalogue, FITS files or what they are made of are not as they were when the run ended.

        What is not, is reported.
        """
        files = self.run.files
        if not files.certificate.exists():
            return True
        moved = False
        try:
            certificate = self.run.certificate
            changed = changed_products(files, certificate)
            moved = certificate.get(SPLIT) != self._plan.settings.false_sources
        except (InputError, RunError):
            changed = [files.certificate]
        look = partial(damaged, files, self._run_id, Reach.of(files, self._plan, self.run.survey).margins)
        found = self.stages.map_tiles(look, self._tiles, "checking sources")
        changed += [path for tile in sorted(found) for path in found[tile]]
        for path in changed[:MOST_NAMED]:
            self.stages.progress.message(f"{path} is damaged or missing: made again")
        if len(changed) > MOST_NAMED:
            self.stages.progress.message(f"so are {len(changed) - MOST_NAMED} more files")
        if moved:
            self.stages.progress.message(
                f"the catalogue is split again, as {self._plan.settings.false_sources:g} false rows are asked for now"
            )
        for path in damaged_simulations(files, self._run_id):
            self.stages.progress.message(f"{path} is damaged and dropped: cwt-dask assess makes it again")
            remove(path)
        for path, command in ((files.measured, "measure"), (files.assessment, "assess")):
            if (changed or moved) and path.exists():
                self.stages.progress.message(f"{path} is dropped: cwt-dask {command} makes it again")
        if (changed or moved) and files.associations.exists():
            self.stages.progress.message(
                f"{files.associations} and the columns of the catalogue that go with it are dropped: cwt-dask match "
                "makes them again"
            )
        self.keeps_maps = moved and not changed
        return bool(changed) or moved

    def compare_seams(self) -> None:
        """Compare what neighbours found; the certificate and the report of before do not hold any more."""
        files = self.run.files
        remove(files.certificate, files.report)
        found = self.stages.map_tiles(partial(compare_seams, files.seams, self._plan.grid), self._tiles, "seams")
        self.seams = [seam for tile in sorted(found) for seam in found[tile]]

    def flag(self) -> None:
        """Set quality flags where tiles do not agree."""
        files = self.run.files
        bad = bad_sides(self.seams, read_finished(files, self._run_id, len(self._tiles)))
        unsettled = read_open_islands(files, self._run_id)
        to_flag = bad.keys() | {tile for found in unsettled for tile in found.pixels}
        self.stages.map_tiles(partial(flag_tile, files, self._plan, bad, unsettled), sorted(to_flag), "flags")

    def find_candidates(self) -> None:
        """Find the candidates, and measure around them, where that is not done."""
        measure = partial(measure_tile, self.run.files, self._run_id, self._plan, self.run.survey.path)
        self.stages.map_tiles(measure, self._tiles, "candidates")

    def fit(self) -> None:
        """Fit all candidates, in wider windows again where neighbours do not agree; what is there is not done again."""
        files, plan, survey = self.run.files, self._plan, self.run.survey
        reach = Reach.of(files, plan, survey)
        earlier = (self.earlier, read_run_id(self.earlier)) if self.earlier else None
        fitted: list[int] = []

        def fit(margin: int, tiles: Iterable[int]) -> None:
            task = partial(fit_tile, files, self._run_id, plan, survey.path, margin, earlier=earlier)
            done = self.stages.map_tiles(task, tiles, f"sources, margin {margin}")
            fitted.extend(tile for tile, was_fitted in done.items() if was_fitted)

        def compare(windows: Windows) -> dict[int, list[int]]:
            task = partial(differing, files, self._run_id, plan, reach, windows)
            return self.stages.map_tiles(task, self._tiles, "comparing sources")

        self.windows, self.differing = until_they_agree(plan, reach, fit, compare)
        if earlier:
            n_taken = plan.grid.n_tiles - len(set(fitted))
            self.stages.progress.message(f"sources of {n_taken} of {plan.grid.n_tiles} tiles are reused")

    def write_catalogue(self) -> None:
        """Write catalogue and candidates, and drop what was matched with and measured beside those that it replaces."""
        run = self.run
        made_of_it = run.files.associations, run.files.measured, run.files.assessment
        remove(*made_of_it, run.files.catalogue_before)
        statistics, wcs = run.survey.statistics, run.wcs
        built = build_catalogue(run.files, self._run_id, self._plan, statistics, wcs, self.windows)
        catalogue, candidates, self.false_rows, self.borders = built
        write_candidates(run.files, candidates)
        write_catalogue(run.files, catalogue)

    def write_maps(self) -> None:
        """Write the maps as FITS."""
        survey = open_survey(self.run.survey.path, self._plan.grid)
        if isinstance(survey, FacetSurvey):
            write_maps_hpx(self.run.files, self._plan, survey)
        else:
            write_maps_fits(self.run.files, self._plan, survey)

    def certify(self) -> None:
        """Write the certificate, when all that it covers is in its last state."""
        files = self.run.files
        # Workers that were killed leave what they were writing.
        backend_of(files.path).remove_leftovers(files.path, elsewhere=True)
        records = read_finished(files, self._run_id, len(self._tiles))
        if self.run.stored.keeps_history:
            cut_history(files, max(record.n_iter for record in records.values()))
        listed = read_open_islands(files, self._run_id)
        statistics, unsettled = self.run.survey.statistics, [island for found in listed for island in found.islands]
        seconds, earlier = time.perf_counter() - self._clock, self.run.stored.earlier_versions
        certificate = certify(
            self._plan,
            statistics,
            records,
            self.seams,
            unsettled,
            self._started,
            seconds,
            earlier_versions=earlier,
            differing=self.differing,
            borders=self.borders,
            false_rows=self.false_rows,
            peaks=self.stages.peak_memory.values(),
        )
        write_certificate(files, certificate | {"run_id": self._run_id})

    @property
    def _plan(self) -> Plan:
        return self.run.stored.plan

    @property
    def _run_id(self) -> str:
        return self.run.stored.run_id

    @property
    def _tiles(self) -> range:
        return range(self._plan.grid.n_tiles)


def write_certificate(files: RunDir, certificate: dict[str, Any]) -> None:
    """Write a certificate that covers the catalogue and the FITS files as they are now, and seal it."""
    digests = {"digest_catalogue": digest_catalogue(files), "digest_products": digest_products(files)}
    _seal(files, certificate | digests)


def cover(files: RunDir, certificate: dict[str, Any], written: Collection[Path], **more: Any) -> None:
    """Write the certificate of a finished run again, to cover files that were written since, and seal it.

    All others stay covered as they were: what is damaged shows, still.

    Parameters
    ----------
    files : RunDir
        The run, held.
    certificate : dict
        That of before.
    written : collection of Path
        The files.
    **more
        Other entries.
    """
    digests = {path.name: sha256_of_file(path) for path in written}
    catalogue = digests.pop(files.catalogue.name, certificate["digest_catalogue"])
    products = certificate.get("digest_products", {}) | digests
    _seal(files, certificate | {"digest_catalogue": catalogue, "digest_products": products} | more)


def add_table(files: RunDir, certificate: dict[str, Any], path: Path, table: Table, **more: Any) -> None:
    """Write what was made of a finished run beside its catalogue, in place of one of before, and cover it.

    While it is written no certificate covers it: one that is left then is no fault of the run (`changed_products`).

    Parameters
    ----------
    files, certificate, **more
        As of `cover`.
    path : Path
        `measured` or `assessment` of the run.
    table : Table
        What to write.
    """
    known = certificate.get("digest_products", {})
    if path.name in known:
        rest = {name: value for name, value in certificate.items() if name not in more}
        _seal(files, rest | {"digest_products": {name: known[name] for name in known if name != path.name}})
    write_table(path, table)
    cover(files, certificate, [path], **more)


def _seal(files: RunDir, certificate: dict[str, Any]) -> None:
    write_atomically(files.certificate, json.dumps(sealed(certificate, SEAL), indent=1, allow_nan=False).encode())
