"""Where things lie in a run directory."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

# An object of this name lies where something is being made in an object store, in which nothing can be renamed.
UNFINISHED = "unfinished"


class _Below:
    """A path below a run directory."""

    def __init__(self, name: str) -> None:
        self.name = name  # Of folders with a slash at the end.

    def __get__(self, files: RunDir, _owner: type) -> Path:
        return files.path / self.name


@dataclass(frozen=True)
class RunDir:
    """Paths of a run's files."""

    path: Path

    settings = _Below("run.toml")  # every setting as resolved, digests, versions.
    psf = _Below("psf.json")  # the point spread function, where one was given that is more than a width.
    survey = _Below("survey.zarr/")  # the survey's store, where the run made its own.
    maps = _Below("maps.zarr/")  # the merged maps; one chunk a tile core.
    pyramid = _Below("maps.zarr/pyramid/")  # the maps, reduced, as the report shows them: a group in that of the maps.
    seams = _Below("seams.zarr/")  # what tiles computed on both sides of their seams; one chunk a tile.
    islands = _Below("islands/")  # islands and peaks of each tile's core, one file a tile.
    ledger = _Below("ledger/")  # one record a finished tile, and until the run ends one a tile and block of iterations.
    run_id = _Below("ledger/run-id")  # which run this is, among all that were ever made at this path.
    versions = _Below("ledger/versions.json")  # under which versions tiles were done that records no longer show.
    lock = _Below("lock")  # held by the process that carries the run out.
    unfinished = _Below(UNFINISHED)  # says that the run there is still being made.
    users = _Below("users/")  # which other runs read the survey's store there, one file a run.
    driver = _Below("driver.json")  # the process that holds the run, as JSON.
    checkpoints = _Below("checkpoints/")  # tiles between two blocks of iterations; removed when the run has ended.
    certificate = _Below("certificate.json")  # the evidence, as JSON; written last.
    catalogue = _Below("catalogue.ecsv")  # the catalogue as ECSV.
    catalogue_before = _Below("catalogue-before-match.ecsv")  # that while `match` replaces it, until it is certified.
    catalogue_fits = _Below("catalogue.fits")  # the catalogue as FITS table.
    catalogue_votable = _Below("catalogue.vot")  # the catalogue as VOTable.
    catalogue_regions = _Below("catalogue.reg")  # the sources as regions for DS9.
    candidates = _Below("candidates.ecsv")  # what did not make it into the catalogue, with the same columns.
    associations = _Below("associations.ecsv")  # what the sources were matched with in another catalogue.
    measured = _Below("measured.ecsv")  # what is at positions that were given.
    assessment = _Below("assessment.ecsv")  # what simulations of the run say of its catalogue.
    assessed = _Below("assessment/")  # what each of them has shown.
    report = _Below("report.html")  # all that a run found and did, on one page.
    maps_fits = _Below("maps.fits")  # the maps as FITS images, for small maps.
    maps_hpx = _Below("maps_hpx.fits")  # those of the sphere, by HEALPix pixel.

    @staticmethod
    def is_part(name: str) -> bool:
        """Whether a file of that name, relative to the directory, is one that a run has."""
        return name in _FILES or _MANY.fullmatch(name) is not None

    def detections(self, tile: int) -> Path:
        """What a tile kept of its core's support."""
        return self.islands / f"{_tile(tile)}.npy"

    def found(self, tile: int) -> Path:
        """Islands and peaks of a tile's core."""
        return self.islands / f"{_tile(tile)}.npz"

    def joined(self, tile: int) -> Path:
        """When pixels of a tile's box joined the support, of a run whose tiles decide on islands together."""
        return self.islands / f"{_tile(tile)}.joined.npy"

    def fitted(self, tile: int, margin: int) -> Path:
        """What the fit of a core and so many pixels around it says of a tile's sources."""
        return self.islands / f"{_tile(tile)}.fit-{margin:05d}.npz"

    def open_islands(self, block: int) -> Path:
        """Islands that were not decided in a block of iterations, as JSON, with digests of their pixels' files."""
        return self.islands / f"open-block-{block:05d}.json"

    def open_pixels(self, block: int, tile: int) -> Path:
        """Pixels of such islands in a tile's core."""
        return self.islands / f"open-block-{block:05d}.{_tile(tile)}.npy"

    def copies(self, path: Path) -> tuple[Path, Path]:
        """Where the two copies lie of what `open_islands`, `open_pixels` or `joined` gives."""
        return path, self.ledger / path.name

    def assessed_field(self, kind: str, trial: int, field: int) -> Path:
        """What a simulated field has shown.

        Parameters
        ----------
        kind : str
            Of the simulation.
        trial, field : int
            Their numbers.
        """
        return self.assessed / f"{kind}-{trial:05d}-{field:07d}.npz"

    @property
    def assessed_sources(self) -> Path:
        """The sources that simulations have."""
        return self.assessed / "sources.npz"

    def record(self, tile: int) -> Path:
        """What a finished tile did."""
        return self.ledger / f"{_tile(tile)}.json"

    def record_copy(self, tile: int) -> Path:
        """The copy of that, of a run whose tiles decide on islands together."""
        return self.islands / f"{_tile(tile)}.json"

    def block_record(self, block: int, tile: int, round_: int) -> Path:
        """What a tile did in a block of iterations.

        Parameters
        ----------
        block : int
            Last iteration of the block.
        tile : int
            Number of the tile.
        round_ : int
            How often the tile had been done again in this block, for decisions on islands.
        """
        return self.ledger / f"{_tile(tile)}.block-{block:05d}.round-{round_:05d}.json"

    def failure(self, tile: int, attempt: int) -> Path:
        """Why a tile could not be done."""
        return self.ledger / f"{_tile(tile)}.failed-{attempt:05d}.json"

    def block(self, block: int) -> Path:
        """Checkpoints and island decisions of the block of iterations that ends with number `block`."""
        return self.checkpoints / f"block-{block:05d}"

    def checkpoint(self, block: int, tile: int, round_: int) -> Path:
        """A tile at the end of a block.

        Parameters
        ----------
        block, tile, round_ : int
            As of `block_record`.
        """
        return self.block(block) / f"{_tile(tile)}.round-{round_:05d}.npz"

    def latest_checkpoint(self, block: int, tile: int, before: int | None = None) -> Path:
        """A tile at the end of a block, as of its last round.

        Parameters
        ----------
        block, tile : int
            As of `block_record`.
        before : int, optional
            Only rounds before this one count.
        """
        # There is at most one round an iteration, one more that finds nothing to do, and the first; to list the
        # directory once a tile would take time by the square of their number.
        rounds = range(block + 2 if before is None else before)
        paths = (self.checkpoint(block, tile, round_) for round_ in reversed(rounds))
        return next((path for path in paths if path.exists()), self.checkpoint(block, tile, 0))

    def decisions(self, block: int, tile: int, round_: int) -> Path:
        """Island decisions in a tile's core.

        Parameters
        ----------
        block, tile, round_ : int
            As of `block_record`; for which round they were made.
        """
        return self.block(block) / f"fates-{_tile(tile)}.round-{round_:05d}.npz"


def _tile(tile: int) -> str:
    return f"tile-{tile:07d}"


_ALL = {path.name for path in vars(RunDir).values() if isinstance(path, _Below)}
FOLDERS = {name.rstrip("/") for name in _ALL if name.endswith("/")}
_FILES = {name for name in _ALL if not name.endswith("/")}
# Files of which there are as many as there are tiles, chunks, blocks or users.
_MANY = re.compile(
    r"(survey|maps|seams)\.zarr/(\w+/)*zarr\.json"
    r"|(survey|maps|seams)\.zarr/(\w+/)+c(/\d+)*"
    r"|islands/(open-block-\d+|(open-block-\d+\.)?tile-\d+(\.(fit-\d+|joined))?)\.(json|np[yz])"
    r"|ledger/open-block-\d+(\.tile-\d+)?\.(json|npy)"
    r"|ledger/tile-\d+\.joined\.npy"
    r"|ledger/tile-\d+(\.block-\d+\.round-\d+|\.failed-\d+)?\.json"
    r"|checkpoints/block-\d+/(fates-)?tile-\d+\.round-\d+\.np[yz]"
    r"|assessment/(sources|(null|injected)-\d+-\d+)\.npz"
    r"|users/[0-9a-f]{32}\.json"
)
