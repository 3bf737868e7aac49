"""The wavelet family: base kernels, approximation kernel, and what tiling needs to know of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import Complexes, Floats, Ints, numpys_own
from cwt_dask.errors import SettingsError

if TYPE_CHECKING:
    from astropy.table import Table


@dataclass(frozen=True)
class Factors:
    """A square kernel as a short sum of products: ``sum_j along_y[j, y] * along_x[j, x]``.

    Gaussians, and polynomials in r² times Gaussians, are such sums exactly, cut to a square too: so are their spectra,
    which then need no memory and hardly any time.
    """

    # Shape (term, size).
    along_y: Floats
    along_x: Floats

    @property
    def size(self) -> int:
        """Pixels along a side."""
        return int(self.along_x.shape[1])

    @property
    def image(self) -> Floats:
        """The kernel, float64 (y, x)."""
        return np.asarray(sum(np.outer(*term) for term in zip(self.along_y, self.along_x, strict=True)))

    @property
    def abs_sum(self) -> float:
        """Sum of the moduli of the kernel's pixels, row by row: the widest take half a gigabyte at once."""
        return float(sum(np.abs(row @ self.along_x).sum() for row in self.along_y.T))

    def power(self, exponent: int) -> Factors:
        """A power of the kernel's pixels, as a sum of products too."""
        along_y, along_x = [], []
        for terms in combinations_with_replacement(range(len(self.along_x)), exponent):
            ways = math.factorial(exponent) // math.prod(math.factorial(terms.count(term)) for term in set(terms))
            along_y.append(ways * math.prod(self.along_y[term] for term in terms))
            along_x.append(math.prod(self.along_x[term] for term in terms))
        return Factors(np.array(along_y), np.array(along_x))

    def transform_y(self, wavenumbers: Floats) -> Complexes:
        """Sums of `along_y` times ``exp(-i ky y)``, (ky, term), with y from the centre; ky in radians per pixel.

        Times `transform_x` it is the kernel's Fourier transform (ky, kx).
        """
        return np.asarray(np.exp(-1j * np.outer(wavenumbers, self._pixels)) @ self.along_y.T)

    def transform_x(self, exponents: Complexes) -> Complexes:
        """Sums of `along_x` times ``exp(-kx x)``, (term, kx), for exponents kx per pixel.

        i times a wavenumber is a plane wave, a real part lets it grow or fall.
        """
        return np.asarray(self.along_x @ np.exp(-np.outer(self._pixels, exponents)))

    @property
    def _pixels(self) -> Ints:
        # The centre as 'same' convolution takes it.
        return np.arange(self.size) - (self.size - 1) // 2


# A residual error of frequency k is multiplied by 1 - gain(k) in each iteration: from 2 on it grows.
GAIN_LIMIT = 2.0
# Kernels eight times as wide as this take half a gigabyte each: a larger scale was given in other units.
LARGEST_SCALE = 1000.0
# Steps of a quarter over all scales that there can be; what is known of kernels takes memory by the square of it.
MOST_SCALES = 32


@dataclass(frozen=True)
class CWTKernels:
    """Kernels of the continuous wavelet transform.

    Scale i is ``min_scale * step_scale**i``. The base kernel of scale i is a Mexican hat of width
    ``w = scale * step_scale`` pixels, ``(1 - r²/2w²) exp(-r²/2w²) / (pi w⁴)``; the approximation kernel is a
    Gaussian of width ``min_scale * step_scale**n_scale``. Both are cut to a centred square with a side of the
    smallest odd integer not below eight widths, and, as published, not renormalised.

    Parameters
    ----------
    n_scale : int
        Number of scales, at least 1.
    min_scale : float
        Finest scale in pixels.
    step_scale : float
        Factor from one scale to the next, above 1.
    old : bool, optional
        Use differences of Gaussians as base kernels, as first published. They sit off their own centre.

    Raises
    ------
    SettingsError
        If a parameter is impossible, or the iteration would diverge with these kernels (`gain` of 2 or more).

    References
    ----------
    R. Terrier et al. 2001, "Wavelet analysis of EGRET data", ICRC 27, 2923.

    Examples
    --------
    >>> from cwt_dask import CWTKernels
    >>> kernels = CWTKernels(n_scale=2, min_scale=6.0, step_scale=1.3)
    >>> kernels.scales
    array([6. , 7.8])
    >>> kernels.reach, kernels.kern_approx.shape
    (41, (83, 83))
    >>> print(kernels.kern_approx.sum().round(6))
    0.999915
    """

    n_scale: int
    min_scale: float
    step_scale: float
    old: bool = False

    @numpys_own
    def __post_init__(self) -> None:
        if not isinstance(self.n_scale, int | np.integer) or self.n_scale < 1:
            raise SettingsError(f"n_scale is {self.n_scale}: it must be a whole number of at least 1")
        if not (math.isfinite(self.min_scale) and self.min_scale > 0):
            raise SettingsError(f"min_scale is {self.min_scale}: it must be a positive number of pixels")
        if not (math.isfinite(self.step_scale) and self.step_scale > 1):
            raise SettingsError(f"step_scale is {self.step_scale}: it must be above 1")
        # By logarithms: the power itself may overflow, and so may the product with a whole number of any size.
        if self.n_scale > math.log(LARGEST_SCALE / self.min_scale, self.step_scale):
            raise SettingsError(
                f"min_scale of {self.min_scale:g} pixels times step_scale {self.step_scale:g} to the power n_scale "
                f"{self.n_scale} is above {LARGEST_SCALE:g} pixels: lower one of them"
            )
        if self.n_scale > MOST_SCALES:
            raise SettingsError(f"n_scale is {self.n_scale}: it must be at most {MOST_SCALES}; raise step_scale")
        if min(factors.size for factors in self.base_factors) < 3:
            raise SettingsError(
                f"min_scale is {self.min_scale:g} pixels: the finest kernel is less than 3 pixels; raise min_scale"
            )
        if self.gain >= GAIN_LIMIT:
            raise SettingsError(
                f"the iteration diverges with these kernels: their summed gain is {self.gain:.3f}, it must be below 2; "
                f"raise min_scale (now {self.min_scale:g} pixels) or step_scale (now {self.step_scale:g})"
            )

    def __getstate__(self) -> dict[str, float]:
        # Kernels travel with every task: what can be computed again stays behind.
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def scales(self) -> Floats:
        """Scales in pixels, shape (n_scale,)."""
        return np.array([self.min_scale * self.step_scale**i for i in range(self.n_scale)], dtype=np.float64)

    @cached_property
    def widths(self) -> Floats:
        """Widths of the base kernels in pixels, shape (n_scale,)."""
        return self.scales * self.step_scale

    @cached_property
    def base_factors(self) -> tuple[Factors, ...]:
        """Base kernels by scale index, as sums of products."""
        make = _difference_of_gaussians if self.old else _mexican_hat
        return tuple(make(float(scale), self.step_scale) for scale in self.scales)

    @cached_property
    def approx_factors(self) -> Factors:
        """Approximation kernel, as a product."""
        width = self.min_scale * self.step_scale**self.n_scale
        return _gaussian(_pixels_across(width), width)

    @cached_property
    def kern_base(self) -> dict[int, Floats]:
        """Base kernels by scale index: square arrays, float64."""
        return {i: factors.image for i, factors in enumerate(self.base_factors)}

    @cached_property
    def kern_approx(self) -> Floats:
        """Approximation kernel: a square array, float64."""
        return self.approx_factors.image

    @cached_property
    def reach(self) -> int:
        """Largest distance in pixels, along an axis, over which one convolution carries anything."""
        return max(factors.size // 2 for factors in (*self.base_factors, self.approx_factors))

    @property
    def gain(self) -> float:
        """Largest modulus of the summed transforms of the base kernels: what one iteration can add of a source."""
        return _gain_of(self)

    @property
    def info_table(self) -> Table:
        """Numbers that identify the kernels: columns Name and Source."""
        from astropy.table import Table  # noqa: PLC0415 - checks of settings do without

        rows: list[tuple[str, str]] = [
            ("Number of scales", str(self.n_scale)),
            ("Minimal scale", str(self.min_scale)),
            ("Step scale", str(self.step_scale)),
            ("Scales", str(self.scales)),
            ("Reach", str(self.reach)),
            ("Gain", f"{self.gain:.12g}"),
        ]
        named = {"Kernels approx": self.kern_approx}
        named |= {f"Kernels base, {self.scales[i]} scale,": kernel for i, kernel in self.kern_base.items()}
        for name, kernel in named.items():
            rows.append((f"{name} width", str(kernel.shape[0])))
            rows.append((f"{name} sum", f"{kernel.sum():.12g}"))
            rows.append((f"{name} max", f"{kernel.max():.12g}"))
        return Table(rows=rows, names=["Name", "Source"])

    def _repr_html_(self) -> str:
        from astropy.table import Table  # noqa: PLC0415

        from cwt_dask.cwt.tables import html_overview  # noqa: PLC0415

        kernels = {"approximation": (self.widths[-1], self.kern_approx)}
        kernels |= {f"base, scale {self.scales[i]:g}": (self.widths[i], image) for i, image in self.kern_base.items()}
        rows = [(name, float(width), len(image), image.sum(), image.max()) for name, (width, image) in kernels.items()]
        table = Table(rows=rows, names=["kernel", "width in pixels", "side in pixels", "sum", "largest value"])
        return html_overview(repr(self), f"reach {self.reach} pixels, gain {self.gain:.3g}", table)


def wavenumbers(widths: Floats, n: int) -> NDArray[Any]:
    """Radians per pixel from 0 to pi: n even steps, and n // 2 around the peak of each kernel's transform."""
    near_peaks = [np.linspace(0, 4 / width, n // 2 + 1) for width in widths]
    k = np.unique(np.concatenate([np.linspace(0, np.pi, n + 1), *near_peaks]))
    return k[k <= np.pi]


def _pixels_across(width: float) -> Floats:
    """Pixels of a kernel, from its centre; their number is odd."""
    size = math.ceil(8 * width) | 1
    return np.arange(size, dtype=np.float64) - (size - 1) / 2


def _gaussian(x: Floats, width: float) -> Factors:
    # Not astropy's Gaussian2DKernel: today's renormalises to sum 1, the published kernel does not.
    profile = np.exp(-(x**2) / (2 * width**2))
    return Factors(profile[np.newaxis] / (2 * np.pi * width**2), profile[np.newaxis])


# A run makes the same kernels several times.
@lru_cache(maxsize=16)
def _gain_of(kernels: CWTKernels) -> float:
    k = wavenumbers(kernels.widths, 128)
    along_y = np.concatenate([k, -k])
    summed = sum(base.transform_y(along_y) @ base.transform_x(1j * k) for base in kernels.base_factors)
    return float(np.abs(summed).max())


def _mexican_hat(scale: float, step: float) -> Factors:
    width = scale * step
    u = _pixels_across(width) ** 2 / (2 * width**2)
    profile = np.exp(-u)
    # (1 - uy - ux) exp(-uy - ux)
    return Factors(np.array([profile, -u * profile]) / (np.pi * width**4), np.array([(1 - u) * profile, profile]))


def _difference_of_gaussians(scale: float, step: float) -> Factors:
    n = int(8 * step * scale)
    x = np.arange(max(n - 1, 0), dtype=np.float64) - 0.5 * n
    inner, outer = _gaussian(x, scale), _gaussian(x, step * scale)
    return Factors(np.concatenate([inner.along_y, -outer.along_y]), np.concatenate([inner.along_x, outer.along_x]))
