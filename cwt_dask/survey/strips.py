"""The planes of a survey, opened together and read in strips of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import Bools
from cwt_dask.errors import SurveyError
from cwt_dask.survey.bands import MisfitError, open_energies
from cwt_dask.survey.choice import Chosen, choose
from cwt_dask.survey.exposure import Weighting
from cwt_dask.survey.fits_file import FitsFile, is_healpix
from cwt_dask.survey.fits_plane import FitsPlane
from cwt_dask.survey.healpix_plane import HealpixPlane
from cwt_dask.survey.misfits import Plane, doubts_about, header_of_counts, refuse_misfit, weighting_of
from cwt_dask.survey.regrid import FromSphere, on_pixels_of
from cwt_dask.survey.source import OPTIONAL, MaskChoice, PlaneSource, SurveySource
from cwt_dask.survey.source_maps import SourceMap, as_counts
from cwt_dask.survey.spectra import SourceModel
from cwt_dask.survey.sphere import is_on_sphere
from cwt_dask.survey.strip import Strip, blank, clean
from cwt_dask.survey.wcs import on_sky, wcs_from_text

# A strip takes some 8 MB a plane as float64, however wide the map is.
_STRIP_PIXELS = 2**20
# Of more planes than that strips are lower.
_FEW_PLANES = 16
# A row of chunks is a whole number of strips.
MOST_ROWS = 64
# Of a background that is still to be estimated.
_NOT_YET = np.dtype(np.float32)


def _combined(name: str, bands: list[NDArray[Any]], used: list[Bools]) -> NDArray[Any]:
    """Add planes (y, x) of those of cubes; `used` is True where the mask of each uses it, empty without a mask."""
    if len(bands) == 1:
        return bands[0]
    if name == "mask":
        anywhere: NDArray[Any] = np.logical_or.reduce(used)
        return anywhere
    kind = _type_of(name, np.result_type(*(band.dtype for band in bands)))
    if len(used) > 1:
        # Of each component of the background there are as many planes.
        parts = zip(used * (len(bands) // len(used)), bands, strict=True)
        bands = [np.where(use, band, band.dtype.type(0)) for use, band in parts]
    total: NDArray[Any] = np.add.reduce(bands, axis=0, dtype=kind)
    return total


def _type_of(name: str, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Type of planes of `dtype` made one: float32 has no 2**24 + 1."""
    if name == "mask":
        return np.dtype(np.uint8)
    return np.dtype(np.float64) if dtype.kind == "f" else np.zeros(1, dtype).sum().dtype


@dataclass(frozen=True)
class OpenSurvey:
    """A survey's planes, open at their first row."""

    planes: Mapping[str, tuple[Plane, ...]]  # By name: one, or of the background the components that are summed.
    chosen: Chosen  # Which bands are taken.
    weighting: Weighting | None  # How the exposure of these is made; None where there is none.
    header_text: str  # The WCS cards of the counts, one a line.
    files: tuple[FitsFile, ...]  # Where they are read from.
    warnings: tuple[str, ...]  # What was left out, or taken though it may not fit.
    mask: MaskChoice  # Which mask was taken.
    model: SourceModel | None  # Spectra of components of the background.

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

            def find(plane: PlaneSource) -> Iterator[Plane]:
                """None of a plane that is not there and need not be."""
                if plane.path not in files:
                    files[plane.path] = stack.enter_context(FitsFile.open(plane.path))
                if (hdu := files[plane.path].find(plane)) is not None:
                    yield _plane_of(hdu, files[plane.path], plane.name, counts, source)

            counts: Plane | None = None
            (counts,) = find(source.counts)
            header_text = header_of_counts(counts)
            chosen = choose(counts.bands, counts.n_bands, source.selection, counts.where)
            warnings = [*chosen.warnings]
            planes: dict[str, tuple[Plane, ...]] = {"counts": (counts,)}
            model = SourceModel.read(source.source_model) if source.source_model else None
            planes["background"] = tuple(
                as_counts(plane, counts, chosen, model) for each in source.background for plane in find(each)
            )
            if model and not any(isinstance(plane, SourceMap) for plane in planes["background"]):
                raise SurveyError(
                    f"source_model {model.path} is given, and no background is a map of gtsrcmaps: leave it out, or "
                    "name the HDUs of some, --background 'FILE[HDU,HDU...]'"
                )
            for component in planes["background"]:
                refuse_misfit("background", component, counts, header_text)
            weighting = None
            for name in OPTIONAL:
                wanted = getattr(source, name)
                if wanted is None:
                    continue
                try:
                    found = tuple(find(wanted))
                    for plane in found:
                        if name == "exposure":
                            weighting = weighting_of(plane, counts, chosen, source.index)
                            found = (on_pixels_of(counts, header_text, plane),)
                        else:
                            refuse_misfit(name, plane, counts, header_text)
                except MisfitError as misfit:
                    if wanted.required:
                        raise
                    # Without the path, which of a dataset in memory is another one each time.
                    reason = misfit.reason.replace(f" of {wanted.path}", "").replace(str(wanted.path), "the file")
                    warnings.append(reason + _LEFT_OUT[name])
                else:
                    planes |= {name: found} if found else {}
            weighting = weighting if "exposure" in planes else None
            _refuse_words_of_the_sphere(source, planes)
            for name, each in planes.items():
                for plane in each:
                    plane.open(_taken(name, plane, chosen, weighting), stack, scratch)
            warnings += [doubt for plane in planes.get("exposure", ()) for doubt in doubts_about(plane, counts)]
            mask = _mask_choice(source, planes)
            yield cls(planes, chosen, weighting, header_text, tuple(files.values()), tuple(warnings), mask, model)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.planes["counts"][0].shape

    @property
    def where(self) -> dict[str, str]:
        """HDU and file of each plane, for messages."""
        return {name: " + ".join(plane.where for plane in each) for name, each in self.planes.items()}

    @property
    def dtypes(self) -> dict[str, np.dtype[Any]]:
        """Types of the planes of the strips."""
        types = {name: self._type(name) for name in self.planes}
        return types | {"mask": np.dtype(np.uint8)}

    def type_of_files(self, name: str) -> np.dtype[Any]:
        """Type of the pixels of a plane in its files; a background that is still to be estimated is 0, of float32."""
        return np.result_type(*(plane.dtype for plane in self.planes[name])) if self.planes[name] else _NOT_YET

    def planes_taken(self, name: str, plane: Plane) -> range:
        """Which planes of an image are read."""
        return _taken(name, plane, self.chosen, self.weighting)

    @property
    def energies(self) -> str:
        """Those of the counts that are taken, for people; empty where the file does not say them."""
        return self.chosen.energies or open_energies(self.planes["counts"][0].header)

    @property
    def weighted(self) -> bool:
        """Whether the exposure is weighted by a power law."""
        n_masks = sum(mask.n_open for mask in self.planes.get("mask", ()))
        return bool(self.weighting and self.weighting.shares is not None and not self.weighting.keeps_type(n_masks))

    @property
    def exposure_unit(self) -> str:
        """BUNIT of the exposure, in any spelling; empty where there is none."""
        header = self.planes["exposure"][0].header if "exposure" in self.planes else {}
        return str(header.get("BUNIT", "")).strip()

    def _type(self, name: str) -> np.dtype[Any]:
        planes = self.planes[name]
        if name == "exposure" and self.weighting:
            n_masks = sum(mask.n_open for mask in self.planes.get("mask", ()))
            return planes[0].dtype if self.weighting.keeps_type(n_masks) else np.dtype(np.float64)
        dtype = self.type_of_files(name)
        return dtype if sum(plane.n_open for plane in planes) == 1 else _type_of(name, dtype)

    def strips(self) -> Iterator[Strip]:
        """Read the survey, once, from its first row to its last.

        Raises SurveyError if a file breaks off, or changed meanwhile.
        """
        n_rows, n_columns = self.shape
        wcs = wcs_from_text(self.header_text)
        height = _strip_height(n_columns, sum(plane.n_open for each in self.planes.values() for plane in each))
        for y0 in range(0, n_rows, height):
            rows = range(y0, min(y0 + height, n_rows))
            if self._are_blank(len(rows)):
                yield blank(y0, (len(rows), n_columns), self.dtypes)
                continue
            bands = {
                name: [band for plane in each for band in plane.read(len(rows))] for name, each in self.planes.items()
            }
            used = [np.nan_to_num(mask) != 0 for mask in bands.get("mask", [])]
            raw = {name: _combined(name, each, used) for name, each in bands.items() if each and name != "exposure"}
            if self.weighting:
                raw["exposure"] = self.weighting.combine(bands["exposure"], used)
            raw.setdefault("background", np.zeros(raw["counts"].shape, _NOT_YET))
            # What a file of the sphere has no value for is not part of the survey.
            sky = ~np.isnan(raw["counts"]) if is_on_sphere(wcs) else on_sky(wcs, rows, n_columns)
            yield clean(y0, raw, sky)
        for file in self.files:
            file.refuse_changed()

    def _are_blank(self, n_rows: int) -> bool:
        """Leave the next rows out if there is nothing to be kept of them: most of a file of a part of the sky."""
        every = [(name, plane) for name, each in self.planes.items() for plane in each]
        planes = [(name, plane) for name, plane in every if isinstance(plane, HealpixPlane)]
        # Without counts all is masked, of which an exposure keeps its values.
        kept = [plane for name, plane in planes if name in ("counts", "exposure")]
        if len(planes) < len(every) or not all(plane.is_blank(n_rows) for plane in kept):
            return False
        for _, plane in planes:
            plane.skip(n_rows)
        return True


def _plane_of(hdu: Any, file: FitsFile, name: str, counts: Plane | None, source: SurveySource) -> Plane:
    if not is_healpix(hdu):
        return FitsPlane(hdu, file)
    plane = HealpixPlane(hdu, file, source.frame)
    if isinstance(counts, HealpixPlane):
        plane.onto(counts.nside, density=name in OPTIONAL, mask=name == "mask")
    elif name == "counts":
        _sum_counts(plane, source.nside)
    return plane


def _sum_counts(counts: HealpixPlane, nside: int | None) -> None:
    """Take counts to the pixels that are wanted, if any are."""
    if nside is not None and nside > counts.nside:
        raise SurveyError(
            f"{counts.where} has NSIDE = {counts.nside}, and counts cannot be shared among the finer pixels of NSIDE = "
            f"{nside}: leave out --nside, or take a smaller one"
        )
    counts.onto(nside or counts.nside, density=False)


def _refuse_words_of_the_sphere(source: SurveySource, planes: Mapping[str, tuple[Plane, ...]]) -> None:
    """Refuse options of HEALPix files where there are none, and that of images where counts are a HEALPix file."""
    counts = planes["counts"][0]
    if source.sphere and isinstance(counts, HealpixPlane):
        raise SurveyError(f"sphere is given, and {counts.where} is a map of the sphere already: leave it out")
    if any(isinstance(plane, HealpixPlane | FromSphere) for each in planes.values() for plane in each):
        return
    for name in () if source.sphere else ("frame", "nside"):
        if (value := getattr(source, name)) is not None:
            raise SurveyError(
                f"{name} is {value}, and {counts.where} is an image, which says where its pixels are: "
                "leave it out, or take the image to a sphere, --sphere"
            )


def _taken(name: str, plane: Plane, chosen: Chosen, weighting: Weighting | None) -> range:
    return weighting.planes if weighting and name == "exposure" else chosen.of(plane.n_bands)


def _strip_height(n_columns: int, n_planes: int) -> int:
    """Rows of a strip of maps of `n_columns`, of which so many planes are read; a power of two."""
    height = MOST_ROWS
    while height > 1 and height * n_columns * max(1, n_planes / _FEW_PLANES) > _STRIP_PIXELS:
        height //= 2
    return height


_LEFT_OUT = {
    "exposure": ": it is left out, so there is no photon flux",
    "mask": ": it is left out, so no pixel is masked by it",
}


def _mask_choice(source: SurveySource, planes: Mapping[str, tuple[Plane, ...]]) -> MaskChoice:
    wanted = source.mask
    if "mask" not in planes or wanted is None:
        return MaskChoice()
    (mask,) = planes["mask"]
    name = f"{mask.label} of {mask.path.name}" if wanted.own_file else mask.label
    return MaskChoice(name, wanted.required)
