"""The planes of a survey, opened together and read in strips of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import Bools, Floats
from cwt_dask.errors import SurveyError
from cwt_dask.survey.fits_file import FitsFile
from cwt_dask.survey.fits_plane import FitsPlane
from cwt_dask.survey.source import SurveySource
from cwt_dask.survey.wcs import celestial_header, on_sky, same_sky, wcs_from_text

# A strip takes some 8 MB a plane as float64, however wide the map is.
_STRIP_PIXELS = 2**20
# A row of chunks is a whole number of strips.
MOST_ROWS = 64


def _used_in_all(masks: Any, axis: int) -> Bools:
    used: Bools = np.all(np.nan_to_num(masks), axis=axis)
    return used


# Planes of a cube, made one. Exposure is no sum: every band saw the same sky for its own effective time and area.
_COMBINE: dict[str, Any] = {"counts": np.sum, "background": np.sum, "exposure": np.mean, "mask": _used_in_all}


@dataclass(frozen=True)
class Strip:
    """Some rows of all planes, free of NaN."""

    y0: int  # The first row.
    # (rows, columns): counts and background, 0 where masked; exposure, if there is any, 0 where it was NaN, infinite or
    # negative, all in the file's type and unit; and mask, uint8, 1 where the pixel is used.
    planes: dict[str, NDArray[Any]]
    n_off_sky: int  # Pixels off the sky, all of them masked.
    # (pixels,), what was above 0 of the counts that are masked because they lie off the sky, not by MASK.
    counts_off_sky: Floats
    n_nan: int  # Pixels masked because counts or background are NaN, neither by MASK nor because they lie off the sky.
    n_bad_exposure: int  # Used pixels with an exposure that was NaN, infinite or negative.


def _clean(y0: int, raw: Mapping[str, NDArray[Any]], sky: Bools) -> Strip:
    """Mask and clear planes (rows, columns) as the files give them; `sky` is True where a pixel lies on the sky."""
    counts, background = raw["counts"], raw["background"]
    used = np.nan_to_num(raw["mask"]) != 0 if "mask" in raw else np.ones(counts.shape, bool)
    lost = counts[used & ~sky & (counts > 0)]
    used &= sky
    nan = used & (np.isnan(counts) | np.isnan(background))
    valid = used & ~nan
    kept, n_bad_exposure = {"counts": valid, "background": valid}, 0
    if (exposure := raw.get("exposure")) is not None:
        kept["exposure"] = np.isfinite(exposure) & (exposure >= 0)
        n_bad_exposure = int(np.count_nonzero(valid & ~kept["exposure"]))
    planes = {name: np.where(good, raw[name], raw[name].dtype.type(0)) for name, good in kept.items()}
    n_off_sky, n_nan = int(np.count_nonzero(~sky)), int(np.count_nonzero(nan))
    planes["mask"] = valid.astype(np.uint8)
    return Strip(y0, planes, n_off_sky, lost.astype(np.float64), n_nan, n_bad_exposure)


@dataclass(frozen=True)
class OpenSurvey:
    """A survey's planes, open at their first row."""

    planes: Mapping[str, FitsPlane]  # By name.
    header_text: str  # The WCS cards of the counts, one a line.
    files: tuple[FitsFile, ...]  # Where they are read from.

    @classmethod
    @contextmanager
    def open(cls, source: SurveySource) -> Iterator[OpenSurvey]:
        """Open all planes of a survey.

        Raises SurveyError if one is missing or cannot be used, or they do not fit together.
        """
        with ExitStack() as stack:
            files: dict[Path, FitsFile] = {}
            planes: dict[str, FitsPlane] = {}
            for name, combine in _COMBINE.items():
                plane = getattr(source, name)
                if plane.path not in files:
                    files[plane.path] = stack.enter_context(FitsFile.open(plane.path))
                file = files[plane.path]
                if (hdu := file.find(plane)) is not None:
                    planes[name] = FitsPlane(hdu, file, band=source.band, combine=combine, stack=stack)
            yield cls(planes, _check_together(planes), tuple(files.values()))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.planes["counts"].shape

    @property
    def where(self) -> dict[str, str]:
        """HDU and file of each plane, for messages."""
        return {name: plane.where for name, plane in self.planes.items()}

    @property
    def dtypes(self) -> dict[str, np.dtype[Any]]:
        """Types of the planes of the strips."""
        return {**{name: plane.dtype for name, plane in self.planes.items()}, "mask": np.dtype(np.uint8)}

    @property
    def exposure_unit(self) -> str:
        """BUNIT of the exposure, in any spelling; empty where there is none."""
        header = self.planes["exposure"].header if "exposure" in self.planes else {}
        return str(header.get("BUNIT", "")).strip()

    def strips(self) -> Iterator[Strip]:
        """Read the survey, once, from its first row to its last.

        Raises SurveyError if a file breaks off, or changed meanwhile.
        """
        n_rows, n_columns = self.shape
        wcs = wcs_from_text(self.header_text)
        height = _strip_height(n_columns)
        for y0 in range(0, n_rows, height):
            rows = range(y0, min(y0 + height, n_rows))
            raw = {name: plane.read(len(rows)) for name, plane in self.planes.items()}
            yield _clean(y0, raw, on_sky(wcs, rows, n_columns))
        for file in self.files:
            file.refuse_changed()


def _strip_height(n_columns: int) -> int:
    """Rows of a strip of a map of `n_columns`, a power of two."""
    height = MOST_ROWS
    while height > 1 and height * n_columns > _STRIP_PIXELS:
        height //= 2
    return height


def _check_together(planes: Mapping[str, FitsPlane]) -> str:
    """Check that planes have one shape, the same bands and one sky; give the WCS cards of the counts."""
    counts = planes["counts"]
    if counts.n_bands == 1 and counts.band not in (None, 0, "sum"):
        raise SurveyError(f"{counts.where} has no band {counts.band}: it is one image; leave out band")
    for name, plane in planes.items():
        # One exposure or mask may serve all bands; the background of one band is not that of another.
        if plane.n_bands != counts.n_bands and (name == "background" or plane.n_bands != 1):
            raise SurveyError(
                f"{plane.where} has {plane.n_bands} bands, but {counts.where} has {counts.n_bands}: give maps of the "
                "same bands"
            )
        if plane.shape != counts.shape:
            raise SurveyError(
                f"{plane.where} is {plane.shape[0]} x {plane.shape[1]} pixels (y, x), but {counts.where} is "
                f"{counts.shape[0]} x {counts.shape[1]}: give maps of one shape"
            )
    headers = {name: celestial_header(plane.header, plane.shape, plane.where) for name, plane in planes.items()}
    header_text = headers["counts"]
    if header_text is None:
        raise SurveyError(
            f"{counts.where} has no celestial WCS (CTYPE1 = {counts.header.get('CTYPE1')}, "
            f"CTYPE2 = {counts.header.get('CTYPE2')}): give a map with sky coordinates"
        )
    for name, other in headers.items():
        if other is not None and not same_sky(header_text, other, counts.shape):
            raise SurveyError(f"{planes[name].where} and {counts.where} cover different sky: their WCS differ")
    return header_text
