"""The survey store: a Zarr v3 group that any number of processes read at once, window by window."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import Bools, Floats
from cwt_dask.cwt.buffers import borrow, give_back
from cwt_dask.cwt.stopping import Moments
from cwt_dask.errors import SurveyError
from cwt_dask.geometry.tiling import Box, on_map
from cwt_dask.geometry.windows import read_box
from cwt_dask.storage.checksum import sha256_of_file
from cwt_dask.storage.marks import remedy_of
from cwt_dask.storage.paths import as_path, exists
from cwt_dask.storage.sealed import BROKEN, SEAL
from cwt_dask.storage.zarr_io import MALFORMED, open_group
from cwt_dask.survey.statistics import SurveyStatistics
from cwt_dask.survey.wcs import wcs_from_text

if TYPE_CHECKING:
    import dask.array
    from astropy.wcs import WCS

CHUNK = 1024
KIND = "cwt_dask survey"
# Arrays of a number or a few a chunk: of the counts on used pixels, and the checksum with which a chunk of each plane
# ends, by which it is known from others.
MOMENTS, CHECKSUMS = "counts_moments", "chunk_checksums"
VERSION = 7
# Of earlier runs, which had no digests of what describes them; no damage makes one of these of one that has them.
_UNSEALED = 5
# What a tile reads, and its types there.
_WINDOW: dict[str, Any] = {"counts": np.float64, "background": np.float64, "mask": np.bool_}


@dataclass(frozen=True)
class Window:
    """The pixels of one tile's box."""

    # (y, x), counts a pixel; 0 where not valid.
    counts: Floats
    background: Floats
    valid: Bools  # (y, x), whether the pixel lies in the window and the map and is not masked.
    digest: str  # SHA-256 of the pixels as read, as `Survey.digest_window` gives it; empty where it was not asked for.
    owned: Bools | None = None  # (y, x), which valid pixels are the tile's own; None where that is all of its core.

    def close(self) -> None:
        """Give back all arrays."""
        give_back(self.counts, self.background, self.valid)
        if self.owned is not None:
            give_back(self.owned)


# Threads that look at chunks.
_READERS = 8


class Survey:
    """A survey store, open for reading; its planes are Dask arrays with the chunks of the store."""

    def __init__(self, path: Path, group: Any, *, ring: bool = False) -> None:
        self.path = path
        self.ring = ring  # Whether the last column is the neighbour of the first: boxes count columns modulo the width.
        self._group = group
        self._arrays: dict[str, Any] = {}
        # sha256 of the file that describes each array of the store; None where it is not known.
        self._descriptions: dict[str, str | None] = group.attrs.get("descriptions") or {
            name: None for name in (*_WINDOW, MOMENTS, "exposure") if name in group
        }
        # Digests of the small arrays; none are known of earlier runs.
        self._tables: dict[str, str] = group.attrs.get("tables") or {}
        self._planes: list[str] = group.attrs.get("planes") or []
        self.header_text: str = group.attrs["wcs"]  # FITS cards of the WCS, one a line.
        self.statistics = SurveyStatistics.from_dict(group.attrs["facts"])

    @classmethod
    def open(cls, path: str | PathLike[str], *, ring: bool = False) -> Self:
        """Open a store that `ingest` made.

        Raises SurveyError if it is no survey store, damaged, or of a version that this release does not know.
        """
        path = as_path(path)
        if not is_store(path):
            raise SurveyError(f"{path} is not a survey store: make one with cwt-dask ingest")
        try:
            group = open_group(path, whole="survey")
        except SurveyError:
            raise
        except MALFORMED as error:
            fault = f"{path / 'zarr.json'} describes no readable Zarr group ({error})"
            raise SurveyError(f"{fault}: {remedy_of(path)}") from error
        attributes = group.attrs.asdict()
        if attributes.get("kind") != KIND:
            raise SurveyError(f"{path} is a Zarr group, but not a survey store: make one with cwt-dask ingest")
        version = attributes.get("version")
        if version == VERSION and SEAL not in attributes:
            raise SurveyError(f"{path / 'zarr.json'} is damaged ({BROKEN}): {remedy_of(path)}")
        if (version, SEAL in attributes) not in ((VERSION, True), (_UNSEALED, False)):
            raise SurveyError(
                f"{path} is a survey store of version {version}, but this release reads version {VERSION}: "
                "ingest the survey again"
            )
        survey = cls(path, group, ring=ring)
        if version == VERSION and not survey.statistics.is_of(survey.header_text):
            raise SurveyError(f"{path / 'zarr.json'} is damaged (its digest is of another WCS): {remedy_of(path)}")
        return survey

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.statistics.shape

    @cached_property
    def wcs(self) -> WCS:  # noqa: D102
        # Tiles open the store and never ask for it.
        return wcs_from_text(self.header_text)

    @property
    def counts(self) -> dask.array.Array:
        """(y, x), counts a pixel, in the type of the file ingested; 0 where masked."""
        return self._lazy("counts")

    @property
    def background(self) -> dask.array.Array:
        """(y, x), expected counts a pixel, in the type of the file ingested; 0 where masked."""
        return self._lazy("background")

    @property
    def exposure(self) -> dask.array.Array | None:
        """(y, x), in the type and unit of the file ingested; None where the survey has none."""
        return self._lazy("exposure") if "exposure" in self._descriptions else None

    @property
    def mask(self) -> dask.array.Array:
        """(y, x), uint8, 1 where the pixel is used."""
        return self._lazy("mask")

    @cached_property
    def moments(self) -> list[list[Moments]]:
        """Of the counts on used pixels in each chunk of `CHUNK` pixels square, row by row."""
        return [[Moments(int(n), *rest) for n, *rest in row] for row in self._table(MOMENTS).tolist()]

    def is_that_of(self, digest: str, facts: str) -> bool:
        """Whether it is the survey of these digests; those of earlier runs know no facts."""
        return self.statistics.digest == digest and facts in ("", self.statistics.facts_digest)

    def refuse_unproven(self) -> None:
        """Check all but the chunks, of which damage is found when they are read.

        Raises SurveyError naming the file that is damaged, or if the store is one that cannot show whether it is.
        """
        if SEAL not in self._group.attrs:
            raise SurveyError(f"{self.path} was made by an earlier release, without digests: ingest the survey again")
        self.refuse_damage()

    def refuse_damage(self) -> None:
        """Check that every array can be opened.

        Raises SurveyError naming the file that is damaged.
        """
        for name in self._descriptions:
            self._array(name)

    def refuse_damaged_chunks(self) -> None:
        """Read all chunks, some at once.

        Raises SurveyError naming the file that is damaged, or lost.
        """
        for name in self._tables:
            self._table(name)
        with ThreadPoolExecutor(_READERS) as pool:
            for name in self._descriptions:
                array = self._array(name)
                starts = (range(0, length, step) for length, step in zip(array.shape, array.chunks, strict=True))
                for _ in pool.map(array.__getitem__, product(*starts)):
                    pass

    def array(self, name: str) -> Any:
        """Give the Zarr array (y, x) of a plane, as ingested; None where the survey has none of this name."""
        return self._array(name) if name in self._descriptions else None

    def _array(self, name: str) -> Any:
        if name not in self._arrays:
            file = self.path / name / "zarr.json"
            try:
                if self._descriptions[name] not in (None, sha256_of_file(file)):
                    raise SurveyError(f"{file} is damaged ({BROKEN}): {remedy_of(self.path)}")
                # Opening an array takes as long as reading a small window of it.
                self._arrays[name] = self._group[name]
            except FileNotFoundError as error:
                raise SurveyError(f"{file} is lost: {remedy_of(self.path)}") from error
            if name in self._planes:
                self._group.store.checksums[name] = self._table(CHECKSUMS)[self._planes.index(name)]
        return self._arrays[name]

    def _table(self, name: str) -> NDArray[Any]:
        """All of a small array."""
        array = self._array(name)
        # It is one chunk.
        fault = f"{self.path.joinpath(name, 'c', *'0' * array.ndim)} is damaged ({BROKEN}): {remedy_of(self.path)}"
        try:
            values: NDArray[Any] = array[:]
        except SurveyError:
            raise
        except MALFORMED as error:
            # Of a chunk of another array, which is sound.
            raise SurveyError(fault) from error
        if self._tables.get(name) not in (None, digest_table(values)):
            raise SurveyError(fault)
        return values

    def _lazy(self, name: str) -> dask.array.Array:
        from dask.array import from_array  # noqa: PLC0415 - ingest and tiles do without Dask

        array = self._array(name)
        return from_array(array, chunks=array.chunks, name=f"survey-{name}-{self.statistics.digest}")

    def read(self, name: str, box: Box) -> NDArray[Any]:
        """Read the pixels (y, x) of a plane in a box of the map, on a ring of any column, in the type of the plane."""
        if name == "mask" and self.statistics.n_masked == 0:
            return np.ones(box.shape, np.uint8)
        return read_box(self._array(name), box, ring=self.ring)

    def read_window(self, window: Box, box: Box, *, digest: bool = True) -> Window:
        """Read the pixels of a tile.

        Parameters
        ----------
        window : Box
            The pixels that the tile may see; they may lie beyond the map, and on a ring hold a column several times.
        box : Box
            The pixels to give back.
        digest : bool, optional
            Whether to digest them on the way.

        Returns
        -------
        Window
            Arrays of ``box.shape``; pixels outside `window` or the map are 0 and not valid.
        """
        seen = on_map(box.intersection(window), self.shape, ring=self.ring)
        digested = hashlib.sha256() if digest else None

        planes = []
        for name, dtype in _WINDOW.items():
            pixels = self.read(name, seen)
            if digested:
                digested.update(_little_endian(pixels))
            planes.append(borrow(box.shape, dtype, None if seen == box else 0))
            planes[-1][seen.within(box)] = pixels
        counts, background, valid = planes
        return Window(counts, background, valid, digested.hexdigest() if digested else "")

    def digest_window(self, window: Box) -> str:
        """SHA-256 of counts, background and mask of the map's pixels in `window`, in their own types, little-endian."""
        seen = on_map(window, self.shape, ring=self.ring)
        digest = hashlib.sha256()
        for name in _WINDOW:
            digest.update(_little_endian(self.read(name, seen)))
        return digest.hexdigest()


def digest_table(values: NDArray[Any]) -> str:
    """SHA-256 of a small array."""
    return hashlib.sha256(_little_endian(values)).hexdigest()


def _little_endian(pixels: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<")).data


def is_store(path: str | PathLike[str]) -> bool:
    """Whether a path is a Zarr v3 store, not a FITS file."""
    return exists(as_path(path) / "zarr.json")
