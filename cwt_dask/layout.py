"""Where things lie in a run directory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class RunDir:
    """Paths of a run's files."""

    path: Path

    @property
    def is_run(self) -> bool:
        """Whether a run lies there, or what is left of one."""
        return self.settings.exists() and self.ledger.is_dir()

    @property
    def foreign(self) -> list[str]:
        """Names of the files there that are no part of a run."""
        stores = (self.survey, self.maps, self.seams, self.islands, self.ledger)
        files = (self.settings, self.certificate, self.catalogue, self.catalogue_fits, self.maps_fits)
        own = {path.name for path in (*stores, *files)}
        # What a killed writer leaves has a hidden name.
        return sorted(entry.name for entry in self.path.iterdir() if entry.name not in own and entry.name[0] != ".")

    @property
    def free(self) -> bool:
        """Whether nothing lies there, or an empty directory."""
        return not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir()))

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
    def seams(self) -> Path:
        """What tiles computed on both sides of their seams; one chunk a tile."""
        return self.path / "seams.zarr"

    @property
    def islands(self) -> Path:
        """Islands and peaks of each tile's core, one file a tile."""
        return self.path / "islands"

    @property
    def ledger(self) -> Path:
        """One record a finished tile."""
        return self.path / "ledger"

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
    def maps_fits(self) -> Path:
        """The maps as FITS images, for small maps."""
        return self.path / "maps.fits"
