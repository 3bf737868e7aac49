"""What is made of all tiles: seams, flags, sources, catalogue, FITS files, certificate, in this order."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from typing import Any

from cwt_dask.errors import InputError, RunError
from cwt_dask.merge.agreement import differing
from cwt_dask.merge.catalogue import build_catalogue
from cwt_dask.merge.certificate import SEAL, certify
from cwt_dask.merge.open_islands import read_open_islands
from cwt_dask.merge.seam_flags import bad_sides, flag_tile
from cwt_dask.merge.seams import Seam, compare_seams
from cwt_dask.planning.plan import Plan
from cwt_dask.products.files import (
    changed_products,
    digest_catalogue,
    digest_products,
    write_candidates,
    write_catalogue,
    write_maps_fits,
)
from cwt_dask.results import SurveyRun
from cwt_dask.runtime.stages import Stages
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.ledger import read_finished
from cwt_dask.storage.maps import cut_history
from cwt_dask.storage.paths import backend_of, remove, write_atomically
from cwt_dask.storage.sealed import sealed
from cwt_dask.tiles.fitting import Reach, fit_tile
from cwt_dask.tiles.sources import measure_tile


@dataclass
class Merging:
    """The merge of all tiles of one run."""

    run: SurveyRun  # Which run.
    stages: Stages  # Where tiles are done.
    # By tile, others with sources near it that it does not find as they do.
    differing: dict[int, list[int]] = field(default_factory=dict)
    seams: list[Seam] = field(default_factory=list)  # What neighbours found where both computed, once it is compared.
    _started: datetime = field(default_factory=lambda: datetime.now(UTC))
    _clock: float = field(default_factory=time.perf_counter)

    def is_stale(self) -> bool:
        """Whether certificate, catalogue or FITS files are not as they were when the run ended; what, is reported."""
        files = self.run.files
        if not files.certificate.exists():
            return True
        try:
            changed = changed_products(files, self.run.certificate)
        except (InputError, RunError):
            changed = [files.certificate]
        for path in changed:
            self.stages.progress.message(f"{path} is damaged or missing: made again")
        if changed and files.associations.exists():
            self.stages.progress.message(
                f"{files.associations} and the columns of the catalogue that go with it are dropped: cwt-dask match "
                "makes them again"
            )
        return bool(changed)

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
        """Find the candidates, and measure around them."""
        measure = partial(measure_tile, self.run.files, self._run_id, self._plan, self.run.survey.path)
        self.stages.map_tiles(measure, self._tiles, "candidates")

    def fit(self) -> None:
        """Fit all candidates, in wider windows again where neighbours do not agree."""
        files, plan, survey = self.run.files, self._plan, self.run.survey
        reach = Reach.of(files, plan, survey)
        margin, tiles = reach.margin, list(self._tiles)
        while True:
            self.stages.map_tiles(
                partial(fit_tile, files, self._run_id, plan, survey.path, margin), tiles, f"sources, margin {margin}"
            )
            if not plan.grid.has_seams:
                return
            differ = partial(differing, files, self._run_id, plan, reach)
            found = self.stages.map_tiles(differ, self._tiles, "comparing sources")
            self.differing = {tile: others for tile, others in found.items() if others}
            tiles = sorted({*self.differing, *chain.from_iterable(self.differing.values())})
            if not tiles or margin == reach.most:
                return
            margin = min(2 * margin, reach.most)

    def write_catalogue(self) -> None:
        """Write catalogue and candidates, and drop the associations of the one that it replaces."""
        run = self.run
        remove(run.files.associations, run.files.catalogue_before)
        statistics, wcs = run.survey.statistics, run.wcs
        catalogue, candidates = build_catalogue(run.files, self._run_id, self._plan, statistics, wcs)
        write_candidates(run.files, candidates)
        write_catalogue(run.files, catalogue)
        remove(*map(run.files.found, self._tiles), *map(run.files.fitted, self._tiles))

    def write_maps(self) -> None:
        """Write the maps as FITS."""
        write_maps_fits(self.run.files, self._plan, self.run.survey)

    def certify(self) -> None:
        """Write the certificate, when all that it covers is in its last state."""
        files = self.run.files
        # Workers that were killed leave what they were writing.
        backend_of(files.path).remove_leftovers(files.path)
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
    """Write a certificate that covers the catalogue and the FITS files as they are now, and seal it.

    One that has covered `maps.fits` goes on to do so as it was: nobody but a run writes that, before its certificate.
    """
    products, maps = digest_products(files), files.maps_fits.name
    before = certificate.get("digest_products", {})
    products |= {maps: before[maps]} if maps in before else {}
    content = sealed(certificate | {"digest_catalogue": digest_catalogue(files), "digest_products": products}, SEAL)
    write_atomically(files.certificate, json.dumps(content, indent=1, allow_nan=False).encode())
