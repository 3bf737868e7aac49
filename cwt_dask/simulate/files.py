"""What a simulation is asked for, and the files that it goes to: all of them whole, or none."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from cwt_dask.config.validation import format_bytes
from cwt_dask.errors import InputError
from cwt_dask.storage.paths import drafted_file, exists

if TYPE_CHECKING:
    from astropy.table import Table

_SOURCES_PER_PIXEL = 60e-6


@dataclass(frozen=True)
class Asked:
    """Size, seed and number of sources of a simulation."""

    size: str  # For messages.
    n_pixels: int
    pixel_bytes: int  # Of all its maps.
    seed: int
    n_sources: int | None

    @property
    def n_drawn(self) -> int:
        """Number of sources."""
        return round(_SOURCES_PER_PIXEL * self.n_pixels) if self.n_sources is None else self.n_sources

    @contextmanager
    def drafts(
        self, out: str | PathLike[str], truth: str | PathLike[str] | None, overwrite: bool
    ) -> Iterator[tuple[Path, Callable[[Table], Table]]]:
        """Where to write the survey, and what the table of its sources goes through: they appear at the end.

        Parameters
        ----------
        out : path-like
            The FITS file.
        truth : path-like, optional
            The table of sources.
        overwrite : bool
            Whether they may replace others.

        Raises
        ------
        InputError
            If what is asked for cannot be.
        """
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}: it must be 0 or more")
        if not 0 <= self.n_drawn <= self.n_pixels:
            raise InputError(f"n_sources is {self.n_drawn}: it must be 0 or more, and at most one a pixel")
        if Path(out).suffix != ".fits":
            raise InputError(f"{out} is no name of a plain FITS file: choose one that ends in .fits")
        if truth is not None and Path(truth).absolute() == Path(out).absolute():
            raise InputError(f"{truth} is the name of the survey, too: give the table of its sources another")
        truth_draft = nullcontext() if truth is None else _draft(Path(truth), overwrite)
        with _draft(Path(out), overwrite) as survey_path, truth_draft as truth_path:
            folder = survey_path.parent
            needed, free = self.pixel_bytes * self.n_pixels, shutil.disk_usage(folder).free
            if needed > free:
                raise InputError(
                    f"{self.size}: the file takes {format_bytes(needed)}, {folder.absolute()} has "
                    f"{format_bytes(free)} free: choose a smaller one or another place"
                )

            def write_truth(sources: Table) -> Table:
                if truth_path:
                    sources.write(truth_path, format="ascii.ecsv")
                return sources

            yield survey_path, write_truth


@contextmanager
def _draft(path: Path, overwrite: bool) -> Iterator[Path]:
    if exists(path) and not overwrite:
        raise InputError(f"{path} exists: choose another name, or --overwrite")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent} is not a directory: create it first")
    with drafted_file(path) as draft:
        try:
            draft.touch()
            # astropy would add to a file that exists.
            draft.unlink()
        except OSError as error:
            raise InputError(f"{path} cannot be written ({error.strerror}): choose another place") from error
        yield draft
