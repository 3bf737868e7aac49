"""Writing a survey store, from strips of rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from cwt_dask.cwt.stopping import Moments
from cwt_dask.storage.paths import on_disk
from cwt_dask.storage.scratch import ScratchFile
from cwt_dask.storage.sealed import sealed
from cwt_dask.storage.zarr_io import create_array, create_noted_group, flushing_behind
from cwt_dask.survey.statistics import SurveyStatistics
from cwt_dask.survey.store import CHECKSUMS, CHUNK, KIND, MOMENTS, VERSION, digest_table
from cwt_dask.survey.strip import Strip

_CODEC = BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle")


class StoreWriter:
    """Writes a store from strips, a row of whole chunks at a time.

    Parameters
    ----------
    path : Path
        Directory to create.
    shape : tuple of int
        Rows and columns.
    dtypes : mapping
        Types of the planes by name.
    stack : ExitStack
        Removes what is on disk besides the store.
    """

    def __init__(
        self, path: Path, shape: tuple[int, int], dtypes: Mapping[str, np.dtype[Any]], stack: ExitStack
    ) -> None:
        self._group, self._checksums, self._descriptions = create_noted_group(path)
        self._arrays = {
            name: create_array(self._group, name, shape, (CHUNK, CHUNK), dtype, axes=("y", "x"), compressors=(_CODEC,))
            for name, dtype in dtypes.items()
        }
        self._moments: list[list[tuple[float, ...]]] = []
        self._spools = {
            name: _Spool(ScratchFile(on_disk(path), stack), shape[1], dtype) for name, dtype in dtypes.items()
        }

    def add(self, strip: Strip) -> None:
        """Write the next rows; strips never straddle two rows of chunks."""
        first = strip.y0 % CHUNK
        end = strip.y0 + len(strip.planes["mask"])
        for name, plane in strip.planes.items():
            self._spools[name].add(first, plane)
        if end % CHUNK == 0 or end == self._arrays["counts"].shape[0]:
            self._write_chunks(strip.y0 - first, end)

    def _write_chunks(self, start: int, end: int) -> None:
        with flushing_behind(self._group):
            for name, array in self._arrays.items():
                for columns, pixels in self._spools[name].chunks(end - start):
                    array[start:end, columns] = pixels
        counts, mask = ((pixels for _, pixels in self._spools[name].chunks(end - start)) for name in ("counts", "mask"))
        of_valid = (pixels[valid > 0].astype(np.float64) for pixels, valid in zip(counts, mask, strict=True))
        self._moments.append([astuple(Moments.of(pixels)) for pixels in of_valid])

    def finish(self, header_text: str, statistics: SurveyStatistics) -> None:
        """Write moments of the counts and checksums by chunk, and the attributes, with digests of all but chunks."""
        # Axes: row of chunks, column of chunks; count, mean, sum of squared deviations.
        moments = np.array(self._moments)
        tables = {MOMENTS: (moments, ("y", "x", "moment"))}
        shape = moments.shape[:2]
        by_plane = [[self._checksums[f"{name}/c/{y}/{x}"] for y, x in np.ndindex(shape)] for name in self._arrays]
        checksums = np.array(by_plane, np.uint32).reshape(-1, *shape)
        tables[CHECKSUMS] = checksums, ("plane", "y", "x")
        for name, (values, axes) in tables.items():
            create_array(self._group, name, values.shape, values.shape, values.dtype, axes=axes)[:] = values
        content = {
            "kind": KIND,
            "version": VERSION,
            "wcs": header_text,
            "facts": statistics.to_dict(),
            "planes": list(self._arrays),
            "descriptions": {name: self._descriptions[f"{name}/zarr.json"] for name in (*self._arrays, *tables)},
            "tables": {name: digest_table(values) for name, (values, _) in tables.items()},
        }
        # As JSON gives them back.
        self._group.attrs.update(sealed(json.loads(json.dumps(content))))


class _Spool:
    """A row of chunks of one plane, on disk until it is whole: so memory does not grow with the map's width."""

    def __init__(self, file: ScratchFile, width: int, dtype: np.dtype[Any]) -> None:
        self._file = file
        self._columns = [slice(start, min(start + CHUNK, width)) for start in range(0, width, CHUNK)]
        self._dtype = dtype
        self._n_blank = 0  # Rows of zeros with which it begins; the file does not hold them.

    def add(self, first: int, rows: NDArray[Any]) -> None:
        """Put rows (y, x) where the chunks hold them, from row `first` of the row of chunks on."""
        self._n_blank = self._n_blank if first else 0
        if self._n_blank == first:
            # -0.0 is not as 0 is in a digest.
            if not rows.any() and not np.signbit(rows).any():
                self._n_blank += len(rows)
                return
            self._write(0, np.broadcast_to(self._dtype.type(0), (first, rows.shape[1])))
        self._write(first, rows)

    def _write(self, first: int, rows: NDArray[Any]) -> None:
        for columns in self._columns:
            width = columns.stop - columns.start
            place = (columns.start * CHUNK + first * width) * self._dtype.itemsize
            self._file.write(place, [np.ascontiguousarray(rows[:, columns], self._dtype)] if len(rows) else [])

    def chunks(self, n_rows: int) -> Iterator[tuple[slice, NDArray[Any]]]:
        """Give the first rows of each chunk: its columns, and the pixels (y, x)."""
        for columns in self._columns:
            width = columns.stop - columns.start
            if self._n_blank == n_rows:
                yield columns, np.zeros((n_rows, width), self._dtype)
                continue
            place, n_bytes = (length * self._dtype.itemsize for length in (columns.start * CHUNK, n_rows * width))
            content = self._file.read(place, n_bytes)
            yield columns, np.frombuffer(content, self._dtype).reshape(n_rows, width)
