"""The planes of a survey, opened together and read in strips of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwt_dask.config.validation import counted
from cwt_dask.cwt.arrays import Bools, Floats
from cwt_dask.errors import SurveyError
from cwt_dask.survey.bands import MisfitError
from cwt_dask.survey.fits_file import FitsFile
from cwt_dask.survey.fits_plane import FitsPlane
from cwt_dask.survey.source import OPTIONAL, Band, MaskChoice, PlaneSource, SurveySource
from cwt_dask.survey.wcs import celestial_header, on_sky, refuse_other_axes, same_sky, wcs_from_text

# A strip takes some 8 MB a plane as float64, however wide the map is.
_STRIP_PIXELS = 2**20
# A row of chunks is a whole number of strips.
MOST_ROWS = 64
# Rows and columns of a map. A strip is at least a row, which takes 150 bytes a pixel; sums are kept of all rows.
_LONGEST = 2**22


PLANES = ("counts", "background", *OPTIONAL)


def _combined(name: str, bands: list[NDArray[Any]], used: list[Bools]) -> NDArray[Any]:
    """Make one plane (y, x) of those of a cube; `used` is True where the mask of each uses it, empty without a mask."""
    if len(bands) == 1:
        return bands[0]
    if name == "mask":
        anywhere: NDArray[Any] = np.logical_or.reduce(used)
        return anywhere
    kind = _type_of(name, bands[0].dtype)
    if name != "exposure" and len(used) > 1:
        bands = [np.where(use, band, band.dtype.type(0)) for use, band in zip(used, bands, strict=True)]
    total: NDArray[Any] = np.add.reduce(bands, axis=0, dtype=kind)
    # Exposure is no sum: every band saw the same sky for its own effective time and area.
    return total / len(bands) if name == "exposure" else total


def _type_of(name: str, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Type of planes of `dtype` made one: float32 has no 2**24 + 1."""
    if name == "mask":
        return np.dtype(np.uint8)
    return np.dtype(np.float64) if name == "exposure" or dtype.kind == "f" else np.zeros(1, dtype).sum().dtype


@dataclass(frozen=True)
class Strip:
    """Some rows of all planes, free of NaN."""

    y0: int  # The first row.
    # (rows, columns): counts and background, 0 where masked; exposure, if there is any, 0 where it was NaN, infinite or
    # negative, all in the file's type and unit; and mask, uint8, 1 where the pixel is used.
    planes: dict[str, NDArray[Any]]
    n_off_sky: int  # Pixels off the sky, all of them masked.
    n_masked_with_counts: int  # Pixels on the sky with counts above 0 that are masked, by MASK or as NaN.
    n_negative: int  # Used pixels with a background that was negative, and is 0 in `planes`.
    lowest: tuple[float, int, int]  # The lowest of these values, its y and x.
    # (pixels,), what was above 0 of the counts that are masked because they lie off the sky, not by MASK.
    counts_off_sky: Floats
    n_nan: int  # Pixels masked because counts or background are NaN, neither by MASK nor because they lie off the sky.
    n_bad_exposure: int  # Used pixels with an exposure that was NaN, infinite or negative.
    counts_unexposed: Floats  # (pixels,), what is above 0 of the counts of used pixels whose exposure was 0.


def _clean(y0: int, raw: Mapping[str, NDArray[Any]], sky: Bools) -> Strip:
    """Mask and clear planes (rows, columns) as the files give them; `sky` is True where a pixel lies on the sky."""
    counts, background = raw["counts"], raw["background"]
    used = np.nan_to_num(raw["mask"]) != 0 if "mask" in raw else np.ones(counts.shape, bool)
    lost = counts[used & ~sky & (counts > 0)]
    used &= sky
    nan = used & (np.isnan(counts) | np.isnan(background))
    valid = used & ~nan
    kept, n_bad_exposure, unexposed = {"counts": valid, "background": valid}, 0, counts[:0]
    if (exposure := raw.get("exposure")) is not None:
        kept["exposure"] = np.isfinite(exposure) & (exposure >= 0)
        n_bad_exposure = int(np.count_nonzero(valid & ~kept["exposure"]))
        unexposed = counts[valid & (exposure == 0) & (counts > 0)]
    planes = {name: np.where(good, raw[name], raw[name].dtype.type(0)) for name, good in kept.items()}
    n_off_sky, n_nan = int(np.count_nonzero(~sky)), int(np.count_nonzero(nan))
    planes["mask"] = valid.astype(np.uint8)
    n_negative, lowest = _clear_negative(planes["background"])
    return Strip(
        y0,
        planes,
        n_off_sky=n_off_sky,
        n_masked_with_counts=int(np.count_nonzero((counts > 0) & sky & ~valid)),
        n_negative=n_negative,
        lowest=(lowest[0], lowest[1] + y0, lowest[2]),
        counts_off_sky=lost.astype(np.float64),
        n_nan=n_nan,
        n_bad_exposure=n_bad_exposure,
        counts_unexposed=unexposed.astype(np.float64),
    )


def _clear_negative(background: NDArray[Any]) -> tuple[int, tuple[float, int, int]]:
    """Set what is negative, and finite, to 0; say how many pixels, and the lowest value with its y and x."""
    negative = background < 0
    if not negative.any():
        return 0, (0.0, 0, 0)
    negative &= np.isfinite(background)
    y, x = np.unravel_index(np.argmin(np.where(negative, background, 0)), background.shape)
    lowest = float(background[y, x]), int(y), int(x)
    background[negative] = 0
    return int(np.count_nonzero(negative)), lowest


@dataclass(frozen=True)
class OpenSurvey:
    """A survey's planes, open at their first row."""

    planes: Mapping[str, FitsPlane]  # By name.
    header_text: str  # The WCS cards of the counts, one a line.
    files: tuple[FitsFile, ...]  # Where they are read from.
    warnings: tuple[str, ...]  # What was left out, or taken though it may not fit.
    mask: MaskChoice  # Which mask was taken.

    @classmethod
    @contextmanager
    def open(cls, source: SurveySource, scratch: Path | None = None) -> Iterator[OpenSurvey]:
        """Open all planes of a survey. What nobody asked for and does not fit is left out.

        In `scratch`, by default the system's temporary directory, are large tiles of compressed planes while their rows
        are read.

        Raises SurveyError if one is missing or cannot be used, or they do not fit together.
        """
        with ExitStack() as stack:
            files: dict[Path, FitsFile] = {}

            def find(plane: PlaneSource) -> FitsPlane | None:
                if plane.path not in files:
                    files[plane.path] = stack.enter_context(FitsFile.open(plane.path))
                hdu = files[plane.path].find(plane)
                return None if hdu is None else FitsPlane(hdu, files[plane.path])

            planes: dict[str, FitsPlane] = {}
            header_text, warnings = "", []
            for name in PLANES:
                wanted = getattr(source, name)
                if wanted is None:
                    continue
                try:
                    plane = find(wanted)
                    if plane is None:
                        continue
                    if name == "counts":
                        header_text = _header_of_counts(plane, source.band)
                    else:
                        _refuse_misfit(name, plane, planes["counts"], header_text)
                except MisfitError as misfit:
                    if wanted.required:
                        raise
                    # Without the path, which of a dataset in memory is another one each time.
                    reason = misfit.reason.replace(f" of {wanted.path}", "").replace(str(wanted.path), "the file")
                    warnings.append(reason + _LEFT_OUT[name])
                else:
                    planes[name] = plane
            for plane in planes.values():
                plane.open(source.band, stack, scratch)
            if "exposure" in planes and _may_not_fit(planes["exposure"], planes["counts"]):
                warnings.append(
                    f"exposure has {planes['exposure'].n_bands} planes as the counts have, and nothing says that they "
                    "are of the same energies: they are taken so, and fluxes are wrong if they are not"
                )
            yield cls(planes, header_text, tuple(files.values()), tuple(warnings), _mask_choice(source, planes))

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
        types = {
            name: plane.dtype if plane.n_open == 1 else _type_of(name, plane.dtype)
            for name, plane in self.planes.items()
        }
        return types | {"mask": np.dtype(np.uint8)}

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
            bands = {name: plane.read(len(rows)) for name, plane in self.planes.items()}
            used = [np.nan_to_num(mask) != 0 for mask in bands.get("mask", [])]
            raw = {name: _combined(name, each, used) for name, each in bands.items()}
            yield _clean(y0, raw, on_sky(wcs, rows, n_columns))
        for file in self.files:
            file.refuse_changed()


def _strip_height(n_columns: int) -> int:
    """Rows of a strip of a map of `n_columns`, a power of two."""
    height = MOST_ROWS
    while height > 1 and height * n_columns > _STRIP_PIXELS:
        height //= 2
    return height


_LEFT_OUT = {
    "exposure": ": it is left out, so there is no photon flux",
    "mask": ": it is left out, so no pixel is masked by it",
}


def _header_of_counts(counts: FitsPlane, band: Band) -> str:
    """Check the counts, and give their WCS cards."""
    if counts.n_bands == 1 and band not in (None, 0, "sum"):
        raise SurveyError(f"{counts.where} has no band {band}: it is one image; leave out --band")
    if max(counts.shape) > _LONGEST:
        raise SurveyError(
            f"{counts.where} is {counts.shape[0]} x {counts.shape[1]} pixels (y, x), and a map may have up to "
            f"{_LONGEST} rows and columns: cut it into several"
        )
    header_text = _sky_of(counts)
    if header_text is None:
        raise SurveyError(
            f"{counts.where} has no celestial WCS (CTYPE1 = {counts.header.get('CTYPE1')}, "
            f"CTYPE2 = {counts.header.get('CTYPE2')}): give a map with sky coordinates"
        )
    return header_text


def _sky_of(plane: FitsPlane) -> str | None:
    """The WCS cards of a plane; MisfitError if they cannot be used."""
    try:
        refuse_other_axes(plane.header, plane.where)
        return celestial_header(plane.header, plane.shape, plane.where)
    except SurveyError as error:
        reason, _, remedy = str(error).rpartition(": ")
        raise MisfitError(reason, remedy) from error


def _refuse_misfit(name: str, plane: FitsPlane, counts: FitsPlane, header_text: str) -> None:
    """Raise MisfitError unless a plane has the pixels and the bands of the counts."""
    leave_out = f", or leave it out, --{name}-hdu none" if name in OPTIONAL else ""
    # One exposure or mask may serve all bands; the background of one band is not that of another.
    if plane.n_bands != counts.n_bands and (name not in OPTIONAL or plane.n_bands != 1):
        raise MisfitError(
            f"{plane.where} has {counted(plane.n_bands, 'band')}, but {counts.where} has {counts.n_bands}",
            f"give maps of the same bands{leave_out}",
        )
    if plane.shape != counts.shape:
        raise MisfitError(
            f"{plane.where} is {plane.shape[0]} x {plane.shape[1]} pixels (y, x), but {counts.where} is "
            f"{counts.shape[0]} x {counts.shape[1]}",
            f"give maps of one shape{leave_out}",
        )
    if plane.n_bands > 1 and (
        plane.bands.true != counts.bands.true or plane.bands.same_energies(counts.bands) is False
    ):
        raise MisfitError(
            f"{plane.where} has {plane.bands.kind}, but {counts.where} has {counts.bands.kind}",
            f"give maps of the same bands{leave_out}",
        )
    other = _sky_of(plane)
    if other is not None and not same_sky(header_text, other, counts.shape):
        raise MisfitError(
            f"{plane.where} and {counts.where} cover different sky: their WCS differ",
            f"give maps of one sky{leave_out}",
        )


def _mask_choice(source: SurveySource, planes: Mapping[str, FitsPlane]) -> MaskChoice:
    mask, wanted = planes.get("mask"), source.mask
    if mask is None or wanted is None:
        return MaskChoice()
    name = f"{mask.label} of {mask.path.name}" if wanted.own_file else mask.label
    return MaskChoice(name, wanted.required)


def _may_not_fit(exposure: FitsPlane, counts: FitsPlane) -> bool:
    """Whether planes of exposure are taken for those of the counts without a word about it in the files."""
    return exposure.n_bands > 1 and exposure.bands.same_energies(counts.bands) is None
