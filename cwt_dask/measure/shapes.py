"""Shares of a source by pixel, wherever in its pixel it is, for a few point spread functions and widths.

The share of a pixel is a smooth function F of its distance from the source: the density, summed over a pixel. F is kept
as a cubic spline with some knots a pixel, and as a sum of products of functions along both axes (a Gaussian is one
product, a round profile some), so that it is quick to evaluate at any position, with derivatives, and takes no room.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cwt_dask.cwt.arrays import Floats, Ints
from cwt_dask.cwt.loops import compiled
from cwt_dask.measure.planes import add_products, along, fill_beside

# Knots in a width: with 5 the spline of a Gaussian is off by 1e-5 of its maximum.
_KNOTS = 5.0
# Products are left out whose sum is below this share of the maximum.
_LEFT_OUT = 1e-7
# Widths of a Gaussian beyond which nothing is kept: 3e-7 lie outside.
WIDEST = 5.5
# From one width of extended sources to the next.
_STEP = 2**0.125
# Zeros on either side while coefficients are computed, beyond which the border is not felt.
_AROUND = 16


class Shapes(NamedTuple):
    """Shapes by node (which point spread function) and width, as compiled loops take them.

    Shape `node * len(extensions) + width` is the point spread function of a node, convolved with a round Gaussian.

    Parameters
    ----------
    values : ndarray
        Spline coefficients, flat: of each shape those along y (term, knot), then those along x.
    start : ndarray of int64
        Where those of each shape begin, (shape,).
    half : ndarray of int64
        Pixels on either side of the middle one, (shape,): beyond there is nothing.
    knots : ndarray of int64
        Knots a pixel, (shape,).
    terms : ndarray of int64
        Products that are summed, (shape,).
    sigma : ndarray
        Widths in pixels, (shape,).
    extensions : ndarray
        Widths of the Gaussians in pixels, (width,); the first is 0, the point spread function itself.
    tried : ndarray of int64
        Which of the extensions are tried for each candidate; those between serve to refine.
    centres : ndarray, optional
        How far from its middle the counts of each pixel lie, as (dy and dx, y, x) of an image; without it nowhere.
    """

    values: Floats
    start: Ints
    half: Ints
    knots: Ints
    terms: Ints
    sigma: Floats
    extensions: Floats
    tried: Ints
    centres: Floats = np.zeros((2, 0, 0))

    @property
    def reach(self) -> int:
        """The most pixels on either side."""
        return int(self.half.max())

    def draw(self, shape: int, y: float, x: float, size: tuple[int, int]) -> Floats:
        """Shares of a source in an image.

        Parameters
        ----------
        shape : int
            Which shape.
        y, x : float
            Position of the source, in pixels.
        size : tuple of int
            Rows and columns of the image.
        """
        image = np.zeros(size)
        add(image, self, shape, y, x, 1.0, patch_for(self))
        return image

    def shares(self, shape: int, dy: Floats, dx: Floats) -> Floats:
        """Shares of a source by pixels anywhere.

        Parameters
        ----------
        shape : int
            Which shape.
        dy, dx : ndarray
            How far from the source their centres lie, in pixels, (pixel,).
        """
        knots, n_terms = int(self.knots[shape]), int(self.terms[shape])
        side = _side(int(self.half[shape]), knots)
        splines = self.values[self.start[shape] :][: 2 * n_terms * side].reshape(2, n_terms, side)
        lines = []
        for spline, offset in zip(splines, (dy, dx), strict=True):
            # Beyond the last knots there is nothing.
            at = np.clip(offset * knots + side // 2, 1, side - 3)
            whole = np.floor(at).astype(np.int64)
            t, s = at - whole, 1 - (at - whole)
            weights = s**3, 3 * t**3 - 6 * t**2 + 4, 3 * s**3 - 6 * s**2 + 4, t**3
            lines.append(sum(w * spline[:, whole + k - 1] / 6 for k, w in enumerate(weights)))
        return np.asarray(np.maximum((lines[0] * lines[1]).sum(axis=0), 0.0))


class Products(NamedTuple):
    """One shape: functions (term, knot) along both axes whose products add up to F at distances of 1 / knots pixels."""

    along_y: Floats
    along_x: Floats
    knots: int
    sigma: float

    @classmethod
    def gaussian(cls, sigma: float) -> Products:
        """Make those of a round Gaussian of some width in pixels."""
        from scipy.special import ndtr  # noqa: PLC0415 - it takes longer to load than a small map to measure

        half, knots = math.ceil(WIDEST * sigma), knots_for(sigma)
        distance = np.arange(-half * knots, half * knots + 1) / knots
        along = ndtr((distance + 0.5) / sigma) - ndtr((distance - 0.5) / sigma)
        return cls(along[np.newaxis], along[np.newaxis], knots, sigma)

    @classmethod
    def of_image(cls, image: Floats, knots: int, sigma: float) -> Products:
        """Make those of an image.

        Parameters
        ----------
        image : ndarray
            F (y, x), with equal odd sides and its centre in the middle.
        knots, sigma
            As of the class.
        """
        y, strength, x = np.linalg.svd(image)
        rest = np.sqrt(np.append(np.cumsum(strength[::-1] ** 2)[::-1], 0.0))
        n_terms = max(1, int(np.flatnonzero(rest <= _LEFT_OUT * image.max())[0]))
        scale = np.sqrt(strength[:n_terms])
        return cls((y[:, :n_terms] * scale).T, x[:n_terms] * scale[:, np.newaxis], knots, sigma)


def knots_for(sigma: float) -> int:
    """Knots a pixel that a shape of some width in pixels needs: a power of two."""
    return 1 << max(0, math.ceil(math.log2(_KNOTS / sigma)))


def make_shapes(products: Sequence[Products], extensions: Floats, tried: Ints) -> Shapes:
    """Make shapes of products.

    Parameters
    ----------
    products : sequence of Products
        In the order of `Shapes`.
    extensions, tried : ndarray
        As of `Shapes`.
    """
    half = [each.along_y.shape[1] // 2 // each.knots for each in products]
    values = [
        _coefficients(along, _side(reach, each.knots)).ravel()
        for each, reach in zip(products, half, strict=True)
        for along in (each.along_y, each.along_x)
    ]
    ends = np.cumsum([2 * along.size for along in values[::2]])
    return Shapes(
        np.concatenate(values),
        np.append(0, ends[:-1]).astype(np.int64),
        np.array(half, np.int64),
        np.array([each.knots for each in products], np.int64),
        np.array([len(each.along_y) for each in products], np.int64),
        np.array([each.sigma for each in products], np.float64),
        np.asarray(extensions, np.float64),
        np.asarray(tried, np.int64),
    )


def gaussian_shapes(sigma: float, extensions: Sequence[float] = ()) -> Shapes:
    """Make those of a Gaussian point spread function.

    Parameters
    ----------
    sigma : float
        Its width in pixels.
    extensions : sequence of float, optional
        Rising widths of extended sources that are tried, in pixels.

    Examples
    --------
    >>> from cwt_dask.measure.shapes import gaussian_shapes
    >>> gaussian_shapes(1.3, [2.6, 5.2]).draw(0, 10.0, 10.2, (21, 21)).sum().round(6)
    np.float64(1.0)
    """
    all_of_them, tried = widths(extensions)
    return make_shapes([Products.gaussian(math.hypot(sigma, width)) for width in all_of_them], all_of_them, tried)


def widths(tried: Sequence[float]) -> tuple[Floats, Ints]:
    """Widths of shapes, from half of the first that is tried to the last in steps of a tenth, and which are tried."""
    every, indices = [0.0], list[int]()
    for before, width in zip([tried[0] / 2, *tried[:-1]] if len(tried) else [], tried, strict=True):
        n_steps = max(1, math.ceil(math.log(width / before) / math.log(_STEP)))
        every += [width * (before / width) ** (1 - k / n_steps) for k in range(0 if not indices else 1, n_steps + 1)]
        indices.append(len(every) - 1)
    return np.array(every), np.array(indices, np.int64)


def _coefficients(along: Floats, side: int) -> Floats:
    """Spline coefficients of functions (term, knot) at so many knots, with the same in the middle."""
    from scipy.ndimage import spline_filter1d  # noqa: PLC0415 - it takes longer to load than a small map to measure

    around = max(side - along.shape[1], 0) // 2 + _AROUND
    filtered = spline_filter1d(np.pad(along, ((0, 0), (around, around))), order=3, axis=1, mode="mirror")
    first = (filtered.shape[1] - side) // 2
    return np.asarray(filtered[:, first : first + side])


class Patch(NamedTuple):
    """Room for one source: planes (6, y, x) of its share and derivatives, lines (6, y or x), curve (2, pixel)."""

    planes: Floats
    lines: Floats
    curve: Floats


def patch_for(shapes: Shapes) -> Patch:
    """Room for the largest of shapes."""
    size = 2 * shapes.reach + 1
    return Patch(np.zeros((6, size, size)), np.zeros((6, size)), np.zeros((2, size**2)))


@compiled
def nearest(position: float) -> int:
    """Index of the pixel that a position is in."""
    return math.floor(position + 0.5)


@compiled
def render(shapes: Shapes, shape: int, y: float, x: float, order: int, patch: Patch) -> tuple[int, int, int]:
    """Fill a patch with shares of a source at (y, x): the first pixel's row and column, and the side.

    Parameters
    ----------
    shapes : Shapes
        All of them.
    shape : int
        Which.
    y, x : float
        Position in pixels.
    order : int
        0 for shares (plane 0), 2 for derivatives by position as well: d/dy, d/dx, d²/dy², d²/dx², d²/dydx.
    patch : Patch
        Filled from its first row and column on.
    """
    half, knots = shapes.half[shape], shapes.knots[shape]
    size = 2 * half + 1
    row, column = nearest(y), nearest(x)
    side = _side(half, knots)
    start, n_terms = shapes.start[shape], shapes.terms[shape]
    planes, lines = patch.planes, patch.lines
    if shapes.centres.size > 0:
        corner, spline = (row - half, column - half, size), (start, side, side // 2, n_terms)
        fill_beside(planes, shapes.values, spline, knots, shapes.centres, corner, (y, x), order)
    else:
        for term in range(n_terms):
            along(shapes.values, start + term * side, half, knots, y - row, order, lines[:3])
            along(shapes.values, start + (n_terms + term) * side, half, knots, x - column, order, lines[3:])
            add_products(planes, lines, size, order, term == 0)
    for i in range(size):
        for j in range(size):
            planes[0, i, j] = max(planes[0, i, j], 0.0)
    return row - half, column - half, size


@compiled
def _side(half: int, knots: int) -> int:
    """Knots of a shape: a pixel's distance is up to half + 1/2, and two more count."""
    return 2 * (math.ceil((half + 0.5) * knots) + 2) + 1


@compiled
def add(image: Floats, shapes: Shapes, shape: int, y: float, x: float, amplitude: float, patch: Patch) -> None:
    """Add a source at (y, x) to an image (y, x).

    Parameters
    ----------
    image : ndarray
        Updated.
    shapes, shape, y, x, patch
        As of `render`.
    amplitude : float
        Counts of the whole source.
    """
    top, left, size = render(shapes, shape, y, x, 0, patch)
    height, width = image.shape
    for i in range(max(0, -top), min(size, height - top)):
        for j in range(max(0, -left), min(size, width - left)):
            image[top + i, left + j] += amplitude * patch.planes[0, i, j]
