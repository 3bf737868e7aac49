"""Where things lie in a run directory, and how one appears."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cwt_dask.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class RunDir:
    """Paths of a run's files."""

    path: Path

    @property
    def replaceable(self) -> bool:
        """Whether what lies there may be replaced: a run, or what is left of one."""
        return self.settings.exists() and self.ledger.is_dir()

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


@contextmanager
def fresh_directory(path: Path) -> Iterator[Path]:
    """A directory that appears at `path` whole, in place of what was there, or not at all.

    Raises
    ------
    InputError
        If it cannot be made there.
    """
    absent = [parent for parent in path.parents if not parent.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    except OSError as error:
        _remove_empty(absent)
        raise InputError(f"cannot write to {path.parent} ({error.strerror}): choose another directory") from error
    try:
        yield fresh
        fresh.chmod(0o755)
        if path.exists():
            old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
            path.replace(old)
            fresh.replace(path)
            shutil.rmtree(old)
        else:
            fresh.replace(path)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        _remove_empty(absent)
        raise


def _remove_empty(directories: list[Path]) -> None:
    """Remove directories that are empty, innermost first; leave the others."""
    for directory in directories:
        with suppress(OSError):
            directory.rmdir()
