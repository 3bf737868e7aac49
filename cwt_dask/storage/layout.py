"""Where things lie in a run directory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


# An object of this name lies where something is being made in an object store, in which nothing can be renamed.
UNFINISHED = "unfinished"


@dataclass(frozen=True)
class RunDir:
    """Paths of a run's files."""

    path: Path

    @property
    def foreign(self) -> list[str]:
        """Names of the files there that are no part of a run."""
        stores = (self.survey, self.maps, self.seams, self.islands, self.ledger, self.checkpoints)
        files = (
            *(self.settings, self.lock, self.driver, self.unfinished),
            *(self.certificate, self.maps_fits, self.report, self.associations),
            *(self.catalogue, self.catalogue_fits, self.catalogue_votable, self.catalogue_regions),
        )
        own = {path.name for path in (*stores, *files)}
        # What a killed writer leaves has a hidden name.
        return sorted(entry.name for entry in self.path.iterdir() if entry.name not in own and entry.name[0] != ".")

    @property
    def settings(self) -> Path:
        """Every setting as resolved, digests, versions."""
        return self.path / "run.toml"

    @property
    def survey(self) -> Path:
        """The survey's store, where the run made its own."""
        return self.path / "survey.zarr"

    @property
    def maps(self) -> Path:
        """The merged maps; one chunk a tile core."""
        return self.path / "maps.zarr"

    @property
    def pyramid(self) -> Path:
        """The maps, reduced, as the report shows them: a group in that of the maps."""
        return self.maps / "pyramid"

    @property
    def seams(self) -> Path:
        """What tiles computed on both sides of their seams; one chunk a tile."""
        return self.path / "seams.zarr"

    @property
    def islands(self) -> Path:
        """Islands and peaks of each tile's core, one file a tile."""
        return self.path / "islands"

    def detections(self, tile: int) -> Path:
        """What a tile kept of its core's support."""
        return self.islands / f"{_tile(tile)}.npy"

    def open_islands(self, block: int) -> Path:
        """Islands whose fates were not settled in a block of iterations, as JSON."""
        return self.islands / f"open-block-{block:05d}.json"

    def open_pixels(self, block: int, tile: int) -> Path:
        """Pixels of such islands in a tile's core."""
        return self.islands / f"open-block-{block:05d}.{_tile(tile)}.npy"

    def all_open_pixels(self, tile: int | None = None) -> list[Path]:
        """All files of such pixels, or those of one tile."""
        return sorted(self.islands.glob(f"open-block-*.{'*' if tile is None else _tile(tile)}.npy"))

    @staticmethod
    def tile_of(path: Path) -> int:
        """The tile that a file of open pixels belongs to."""
        return int(path.stem.rpartition("-")[2])

    @property
    def ledger(self) -> Path:
        """One record a finished tile, and until the run ends one a tile and block of iterations."""
        return self.path / "ledger"

    def record(self, tile: int) -> Path:
        """What a finished tile did."""
        return self.ledger / f"{_tile(tile)}.json"

    def block_record(self, block: int, tile: int, round_: int) -> Path:
        """What a tile did in the block of iterations that ends with number `block`."""
        return self.ledger / f"{_tile(tile)}.block-{block:05d}.round-{round_:05d}.json"

    def failure(self, tile: int, attempt: int) -> Path:
        """Why a tile could not be done."""
        return self.ledger / f"{_tile(tile)}.failed-{attempt:05d}.json"

    @property
    def run_id(self) -> Path:
        """Which run this is, among those that ever were at this place."""
        return self.ledger / "run-id"

    @property
    def lock(self) -> Path:
        """Held by the process that carries the run out."""
        return self.path / "lock"

    @property
    def unfinished(self) -> Path:
        """Says that the run there is still being made."""
        return self.path / UNFINISHED

    @property
    def driver(self) -> Path:
        """Which process that is, as JSON."""
        return self.path / "driver.json"

    @property
    def begun_blocks(self) -> list[int]:
        """Blocks of iterations of which there are records, by their last iterations."""
        names = (path.name for path in self.ledger.glob("tile-*.block-*.json"))
        return sorted({int(name.partition("block-")[2].partition(".")[0]) for name in names})

    @property
    def checkpoints(self) -> Path:
        """Tiles between two blocks of iterations; removed when the run has ended."""
        return self.path / "checkpoints"

    def block(self, block: int) -> Path:
        """Checkpoints and fates of the block of iterations that ends with number `block`."""
        return self.checkpoints / f"block-{block:05d}"

    def checkpoint(self, block: int, tile: int, round_: int) -> Path:
        """A tile at the end of a block, after fates of islands were told `round_` times."""
        return self.block(block) / f"{_tile(tile)}.round-{round_:05d}.npz"

    def latest_checkpoint(self, block: int, tile: int, before: int | None = None) -> Path:
        """A tile at the end of a block, as of its last round (before round `before`)."""
        # There is at most one round an iteration, one more that finds nothing to do, and the first; to list the
        # directory once a tile would take time by the square of their number.
        rounds = range(block + 2 if before is None else before)
        paths = (self.checkpoint(block, tile, round_) for round_ in reversed(rounds))
        return next((path for path in paths if path.exists()), self.checkpoint(block, tile, 0))

    def decisions(self, block: int, tile: int, round_: int) -> Path:
        """Decisions of the pieces of islands in a tile's core, as told in a round."""
        return self.block(block) / f"fates-{_tile(tile)}.round-{round_:05d}.npz"

    @property
    def certificate(self) -> Path:
        """The evidence, as JSON; written last."""
        return self.path / "certificate.json"

    @property
    def catalogue(self) -> Path:
        """The catalogue as ECSV."""
        return self.path / "catalogue.ecsv"

    @property
    def catalogue_fits(self) -> Path:
        """The catalogue as FITS table."""
        return self.path / "catalogue.fits"

    @property
    def catalogue_votable(self) -> Path:
        """The catalogue as VOTable."""
        return self.path / "catalogue.vot"

    @property
    def catalogue_regions(self) -> Path:
        """The sources as regions for DS9."""
        return self.path / "catalogue.reg"

    @property
    def associations(self) -> Path:
        """What the sources were matched with in another catalogue."""
        return self.path / "associations.ecsv"

    @property
    def report(self) -> Path:
        """All that a run found and did, on one page."""
        return self.path / "report.html"

    @property
    def maps_fits(self) -> Path:
        """The maps as FITS images, for small maps."""
        return self.path / "maps.fits"


def _tile(tile: int) -> str:
    return f"tile-{tile:07d}"
