"""The wavelet family: base kernels, approximation kernel, and what tiling needs to know of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from astropy.table import Table

from cwt_dask.errors import SettingsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# A residual error of frequency k is multiplied by 1 - gain(k) in each iteration: from 2 on it grows.
GAIN_LIMIT = 2.0
# Kernels eight times as wide as this take half a gigabyte each: whoever asks for more took the units for others.
LARGEST_SCALE = 1000.0


@dataclass(frozen=True)
class CWTKernels:
    """Kernels of the continuous wavelet transform.

    Scale i is ``min_scale * step_scale**i``. The base kernel of scale i is a Mexican hat of width
    ``w = scale * step_scale`` pixels, ``(1 - r²/2w²) exp(-r²/2w²) / (pi w⁴)``; the approximation kernel is a
    Gaussian of width ``min_scale * step_scale**n_scale``. Both are cut to a centred square whose side is the
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
    """

    n_scale: int
    min_scale: float
    step_scale: float
    old: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.n_scale, int | np.integer) or self.n_scale < 1:
            raise SettingsError(f"n_scale is {self.n_scale}: it must be a whole number of at least 1")
        if not (math.isfinite(self.min_scale) and self.min_scale > 0):
            raise SettingsError(f"min_scale is {self.min_scale}: it must be a positive number of pixels")
        if not (math.isfinite(self.step_scale) and self.step_scale > 1):
            raise SettingsError(f"step_scale is {self.step_scale}: it must be above 1")
        # By logarithms: the power itself may overflow.
        if math.log(self.min_scale) + self.n_scale * math.log(self.step_scale) > math.log(LARGEST_SCALE):
            raise SettingsError(
                f"min_scale {self.min_scale} times step_scale {self.step_scale} to the power n_scale {self.n_scale} is "
                f"above {LARGEST_SCALE:g} pixels: lower one of them"
            )
        if min(k.shape[0] for k in self.kern_base.values()) < 3:
            raise SettingsError(
                f"min_scale is {self.min_scale}: the finest kernel is less than 3 pixels; raise min_scale"
            )
        if self.gain >= GAIN_LIMIT:
            raise SettingsError(
                f"the iteration diverges with these kernels: their summed gain is {self.gain:.3f}, it must be below 2; "
                f"raise min_scale (now {self.min_scale}) or step_scale (now {self.step_scale})"
            )

    def __getstate__(self) -> dict[str, float]:
        # Kernels travel with every task: what can be computed again stays behind.
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def scales(self) -> NDArray[np.float64]:
        """Scales in pixels, shape (n_scale,)."""
        return np.array([self.min_scale * self.step_scale**i for i in range(self.n_scale)], dtype=np.float64)

    @cached_property
    def widths(self) -> NDArray[np.float64]:
        """Widths of the base kernels in pixels, shape (n_scale,)."""
        return self.scales * self.step_scale

    @cached_property
    def kern_base(self) -> dict[int, NDArray[np.float64]]:
        """Base kernels by scale index: square arrays, float64."""
        make = _difference_of_gaussians if self.old else _mexican_hat
        return {i: make(float(scale), self.step_scale) for i, scale in enumerate(self.scales)}

    @cached_property
    def kern_approx(self) -> NDArray[np.float64]:
        """Approximation kernel: a square array, float64."""
        width = self.min_scale * self.step_scale**self.n_scale
        return _gaussian(_squared_radius(_odd_size(width)), width)

    @cached_property
    def reach(self) -> int:
        """Largest distance in pixels, along an axis, over which one convolution carries anything."""
        return max(len(kernel) // 2 for kernel in (*self.kern_base.values(), self.kern_approx))

    @cached_property
    def gain(self) -> float:
        """Largest modulus of the summed Fourier transforms of the base kernels.

        It is the largest share of a source that one iteration takes up; from 2 on the iteration diverges.
        """
        near_peaks = [np.linspace(0, 4 / width, 65) for width in self.widths]
        k = np.unique(np.concatenate([np.linspace(0, np.pi, 129), *near_peaks]))
        k = k[k <= np.pi]
        total = np.zeros((2 * k.size, k.size), dtype=np.complex128)
        for kernel in self.kern_base.values():
            pixels = np.arange(kernel.shape[0]) - (kernel.shape[0] - 1) // 2
            along_x = np.exp(-1j * np.outer(k, pixels))
            along_y = np.concatenate([along_x, along_x.conj()])
            total += along_y @ kernel @ along_x.T
        return float(np.abs(total).max())

    @property
    def info_table(self) -> Table:
        """Numbers that identify the kernels: columns Name and Source."""
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


def _odd_size(width: float) -> int:
    size = math.ceil(8 * width)
    return size + 1 if size % 2 == 0 else size


def _squared_radius(size: int, centre: float | None = None) -> NDArray[np.float64]:
    x = np.arange(size) - ((size - 1) / 2 if centre is None else centre)
    squared: NDArray[np.float64] = x[:, np.newaxis] ** 2 + x**2
    return squared


def _gaussian(r2: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    # Not astropy's Gaussian2DKernel: today's renormalises to sum 1, the published kernel does not.
    values: NDArray[np.float64] = np.exp(-r2 / (2 * width**2)) / (2 * np.pi * width**2)
    return values


def _mexican_hat(scale: float, step: float) -> NDArray[np.float64]:
    width = scale * step
    u = _squared_radius(_odd_size(width)) / (2 * width**2)
    values: NDArray[np.float64] = (1 - u) * np.exp(-u) / (np.pi * width**4)
    return values


def _difference_of_gaussians(scale: float, step: float) -> NDArray[np.float64]:
    n = int(8 * step * scale)
    r2 = _squared_radius(max(n - 1, 0), centre=0.5 * n)
    return _gaussian(r2, scale) - _gaussian(r2, step * scale)
