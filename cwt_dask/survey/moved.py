"""An image, such as one of the whole sky in CAR or AIT, taken to the pixels of a sphere.

Nothing is interpolated: counts and background of a pixel go, whole, to the HEALPix pixel that holds its centre. How
much sky a HEALPix pixel got that way, next to its own size, is a plane of its own, the area: fits of sources need it.
So is where the mean of it lies.
The exposure, a density, is the mean of what a pixel got. One that got nothing is used, with no counts, if its own
centre lies in a pixel of the image that is used.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from astropy.coordinates import Galactic, SkyCoord
from astropy.wcs.utils import proj_plane_pixel_area

from cwt_dask.config.validation import MOST_NSIDE
from cwt_dask.cwt.arrays import Bools, Floats, Ints
from cwt_dask.errors import MachineError
from cwt_dask.geometry.facets import pixel_of
from cwt_dask.geometry.healpix import axes_at, centres_of, numbers_in, order_of, places_of, vectors_of
from cwt_dask.geometry.healpix import number_of as healpix_at
from cwt_dask.storage.scratch import Mapped, Sums
from cwt_dask.survey.healpix_header import FRAME_OF_WORD
from cwt_dask.survey.source import SurveySource
from cwt_dask.survey.sphere import AREA, ASIDE, SkyImage, is_on_sphere
from cwt_dask.survey.statistics import Census
from cwt_dask.survey.strip import Strip
from cwt_dask.survey.strips import OpenSurvey
from cwt_dask.survey.wcs import columns_of_circle, pixel_scale, repeats_edge_column, wcs_from_text

# By how much the pixels of an image may be larger than those that they go to, where nobody says which.
_LARGER = 1.1
# Pixels whose positions are found at once: astropy holds ten numbers a pixel while it works.
_AT_ONCE = 2**17
_ROWS = 64
# Half a pixel, and a little less: beyond a pole, and beyond an ellipse, there is no sky.
_HALF = 0.5 * (1 - 1e-6)
_BEYOND, _USED, _MASKED = 0, 1, 2
_NONE = np.empty(0)
# Relative, of sums of counts that are no whole numbers.
_ROUNDING = 1e-9


@contextmanager
def open_planes(source: SurveySource, scratch: Path | None = None) -> Iterator[OpenSurvey]:
    """Open a survey's planes; those of an image that is to be taken to a sphere, there.

    Parameters
    ----------
    source : SurveySource
    scratch : Path, optional
        Directory for what is put aside on the way.

    Raises
    ------
    SurveyError
        As of `OpenSurvey.open`.
    """
    with OpenSurvey.open(source, scratch) as survey, ExitStack() as stack:
        wcs = wcs_from_text(survey.header_text)
        yield survey if is_on_sphere(wcs) or not source.sphere else _moved(survey, wcs, source, scratch, stack)


def _moved(survey: OpenSurvey, wcs: Any, source: SurveySource, scratch: Path | None, stack: ExitStack) -> MovedSurvey:
    own = "galactic" if isinstance(wcs.pixel_to_world(*_middle(wcs)).frame, Galactic) else "icrs"
    frame = FRAME_OF_WORD[source.frame] if source.frame else own
    size = pixel_scale(wcs, survey.shape)
    sky = SkyImage(source.nside or nside_for(size), frame)
    warnings = list(survey.warnings)
    if size > sky.pixel_deg:
        warnings.append(
            f"the pixels of {survey.where['counts']}, {size:.4g} deg at its centre, are larger than those of NSIDE "
            f"{sky.nside}, {sky.pixel_deg:.4g} deg: some of these get none of them, and nothing is seen finer for it"
        )
    if repeats_edge_column(wcs, survey.shape):
        warnings.append("the last column shows the same sky as the first: counts there are taken twice; cut it off")
    fields = vars(survey) | {"header_text": sky.header_text, "warnings": tuple(warnings)}
    return MovedSurvey(**fields, flat=survey, sky=sky, scratch=scratch, stack=stack)


def _middle(wcs: Any) -> tuple[float, float]:
    return float(wcs.wcs.crpix[0]) - 1, float(wcs.wcs.crpix[1]) - 1


def nside_for(pixel_deg: float) -> int:
    """The finest NSIDE whose pixels are not much smaller than those of an image, of a size in degrees."""
    order = math.floor(math.log2(_LARGER * math.degrees(pixel_of(1)) / pixel_deg))
    return min(max(1 << max(order, 0), 1), MOST_NSIDE)


@dataclass(frozen=True)
class MovedSurvey(OpenSurvey):
    """A survey of flat images, read as one of the sphere."""

    flat: OpenSurvey
    sky: SkyImage
    scratch: Path | None
    stack: ExitStack  # Removes what is put aside.
    of_files: Census = field(default_factory=Census)  # Of the images, once they were read.

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the image of the sky."""
        return self.sky.shape

    @property
    def dtypes(self) -> dict[str, np.dtype[Any]]:
        """Types of the planes of the strips."""
        types: dict[str, np.dtype[Any]] = dict.fromkeys(self.flat.dtypes, np.dtype(np.float64))
        if self.flat.dtypes["counts"].kind in "iu":
            types["counts"] = np.dtype(np.int64)
        return types | {"mask": np.dtype(np.uint8)} | dict.fromkeys((AREA, *ASIDE), np.dtype(np.float32))

    def strips(self) -> Iterator[Strip]:
        """Read the images, once, and give the image of the sky, from its first row to its last.

        Raises SurveyError as `OpenSurvey.strips`, and if images cannot be analysed; MachineError if counts are lost.
        """
        names = [name for name in self.flat.dtypes if name != "mask"]
        n_pixels, block = math.prod(self.shape), _ROWS * self.shape[1]
        sums = {name: Sums(self.scratch, self.stack, n_pixels, block) for name in (*names, AREA, *ASIDE)}
        images = [Mapped(self.scratch, self.stack, np.dtype(dtype)) for dtype in (np.uint8, np.float64)]
        wcs = wcs_from_text(self.flat.header_text)
        for strip in self.flat.strips():
            self.of_files.add(strip)
            for y0, part in _parts(strip):
                places, aside, on_sky = self._places(wcs, y0, part["mask"].shape)
                used = (part["mask"] > 0) & on_sky
                kinds = np.where(used, _USED, np.where(on_sky, _MASKED, _BEYOND))
                images[0].write(kinds.astype(np.uint8).tobytes())
                areas = _areas(wcs, y0, used.shape) / pixel_of(self.sky.nside) ** 2
                if "exposure" in part:
                    images[1].write(part["exposure"].astype(np.float64).tobytes())
                    part["exposure"] = part["exposure"] * areas
                of_places = dict(zip(ASIDE, aside * areas, strict=True))
                _add(sums, {**part, AREA: areas, **of_places}, places[used], used)
        self.of_files.check(self.where, self.type_of_files("background"), self.mask)
        given, found = self.of_files.total("counts"), 0.0
        for y0 in range(0, self.shape[0], _ROWS):
            new = self._strip(y0, sums, images, wcs)
            found += float(new.planes["counts"].sum(dtype=np.float64))
            yield new
        if abs(found - given) > _ROUNDING * given:
            raise MachineError(
                f"of {given:.10g} counts of the image {found:.10g} are on the sphere: a disk or a memory has failed; "
                "try again"
            )

    def _places(self, wcs: Any, y0: int, shape: tuple[int, ...]) -> tuple[Ints, Floats, Bools]:
        """Places in the image of the sky, as flat indices, of the pixels of some rows; and which lie on the sky.

        Between these, how far they are from the centres of the pixels there, to the east and north (2, y, x).
        """
        y, x = np.indices(shape)
        lon, lat = wcs.all_pix2world(x, y + y0, 0)
        on_sky = np.isfinite(lon) & np.isfinite(lat)
        places, aside = np.zeros(shape, np.int64), np.zeros((2, *shape))
        position = wcs.pixel_to_world(x[on_sky], y[on_sky] + y0).transform_to(self.sky.frame).spherical
        order = order_of(self.sky.nside)
        found = healpix_at(position.lon, position.lat, order)
        row, column = places_of(found, self.sky.nside)
        places[on_sky] = row * self.sky.nside + column
        vectors, axes = vectors_of(position.lon.rad, position.lat.rad), axes_at(centres_of(found, order))
        aside[:, on_sky] = [np.einsum("ni,ni->n", vectors, axis) / pixel_of(self.sky.nside) for axis in axes]
        return places, aside, on_sky

    def _strip(self, y0: int, sums: dict[str, Sums], images: list[Mapped], wcs: Any) -> Strip:
        shape = min(_ROWS, self.shape[0] - y0), self.shape[1]
        got = {name: values.read(y0 // _ROWS).reshape(shape) for name, values in sums.items()}
        y, x = self._pixels(wcs, y0, shape)
        inside = y >= 0
        at = y[inside] * self.flat.shape[1] + x[inside]
        kind = np.full(shape, _BEYOND, np.uint8)
        kind[inside] = images[0].rows(at)[at]
        holds = got[AREA] > 0
        used = holds | (kind == _USED)
        means = {name: got[name] / np.where(holds, got[AREA], 1) for name in ("exposure", *ASIDE) if name in got}
        if "exposure" in got:
            at_centre = np.zeros(shape)
            at_centre[inside] = images[1].rows(at)[at]
            means["exposure"] = np.where(holds, means["exposure"], at_centre)
        planes = {name: values.astype(self.dtypes[name]) for name, values in (got | means).items()}
        planes["mask"] = used.astype(np.uint8)
        beyond = int(np.count_nonzero(~used & (kind == _BEYOND)))
        return Strip(y0, planes, beyond, 0, 0, (0.0, 0, 0), _NONE, 0, 0, _NONE)

    def _pixels(self, wcs: Any, y0: int, shape: tuple[int, int]) -> tuple[Ints, Ints]:
        """Rows and columns of the image's pixels at the centres of pixels of the sky; -1 where there is none."""
        numbers = numbers_in(np.arange(y0, y0 + shape[0])[:, np.newaxis], np.arange(shape[1]), self.sky.nside)
        columns, rows = np.meshgrid(np.arange(shape[1]), np.arange(y0, y0 + shape[0]))
        position: SkyCoord = self.sky.pixel_to_world(columns, rows)
        x, y = wcs.world_to_pixel(position)
        circle = columns_of_circle(wcs)
        if np.isfinite(circle):
            x = (x + 0.5) % circle - 0.5
        with np.errstate(invalid="ignore"):
            inside = (x >= -0.5) & (x < self.flat.shape[1] - 0.5) & (y >= -0.5) & (y < self.flat.shape[0] - 0.5)
        place = np.full((2, *numbers.shape), -1)
        place[:, inside] = np.clip(np.rint([y[inside], x[inside]]), 0, np.array(self.flat.shape)[:, np.newaxis] - 1)
        return place[0], place[1]


def _parts(strip: Strip) -> Iterator[tuple[int, dict[str, Any]]]:
    """The planes of a strip, some rows at a time, each with the number of its first row."""
    n_rows, width = strip.planes["mask"].shape
    height = max(1, _AT_ONCE // width)
    for start in range(0, n_rows, height):
        yield strip.y0 + start, {name: plane[start : start + height] for name, plane in strip.planes.items()}


def _areas(wcs: Any, y0: int, shape: tuple[int, ...]) -> Floats:
    """Solid angles of the pixels of some rows, in steradian; at the border of the sky that of others in the row."""
    y, x = np.indices(shape, np.float64)
    steps = []
    for dx, dy in ((_HALF, 0.0), (-_HALF, 0.0), (0.0, _HALF), (0.0, -_HALF)):
        lon, lat = np.radians(wcs.all_pix2world(x + dx, y + y0 + dy, 0))
        steps.append(np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1))
    right, left, above, below = steps
    areas = np.linalg.norm(np.cross(right - left, above - below), axis=-1) / (2 * _HALF) ** 2
    known = np.isfinite(areas)
    whole = math.radians(1.0) ** 2 * float(proj_plane_pixel_area(wcs))
    for row, good in zip(areas, known, strict=True):
        row[~good] = np.median(row[good]) if good.any() else whole
    return np.asarray(areas)


def _add(sums: dict[str, Sums], planes: dict[str, Any], places: Ints, used: Bools) -> None:
    """Add values of the used pixels at their places."""
    where, inverse = np.unique(places, return_inverse=True)
    for name, total in sums.items():
        weights = planes[name][used].astype(np.float64)
        total.add(where, np.bincount(inverse, weights, minlength=len(where)).astype(np.float64))
