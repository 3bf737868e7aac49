"""Convolution with the kernels in a box of fixed shape, by FFT."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import scipy.fft

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cwt_dask.cwt.kernels import CWTKernels


def fast_length(least: int) -> int:
    """Length of an FFT axis: the first good one that is not below `least` (the same on every machine)."""
    return int(scipy.fft.next_fast_len(least, real=True))


@dataclass(frozen=True)
class KernelSpectra:
    """Transforms of the kernels and of their squares in a box of shape (y, x).

    Convolution in the box is circular. It equals the linear one on every pixel from which the box's edge, or a rim
    of zeros at the far edge, is at least the kernels' reach away.

    Attributes
    ----------
    shape : tuple of int
        Shape (y, x) of the box.
    base, base_squared : tuple of ndarray
        One half-spectrum a scale, complex128 (y, x // 2 + 1).
    approx : ndarray
        Half-spectrum of the approximation kernel.
    abs_sum, squared_sum : ndarray
        Sums of the moduli and of the squares of each base kernel, float64 (scale,).
    threads : int
        Threads an FFT may use; they do not change its bits.
    """

    shape: tuple[int, int]
    base: tuple[NDArray[np.complex128], ...]
    base_squared: tuple[NDArray[np.complex128], ...]
    approx: NDArray[np.complex128]
    abs_sum: NDArray[np.float64]
    squared_sum: NDArray[np.float64]
    threads: int

    def forward(self, image: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Half-spectrum of an image of the box's shape."""
        spectrum: NDArray[np.complex128] = scipy.fft.rfft2(image, workers=self.threads)
        return spectrum

    def backward(self, spectrum: NDArray[np.complex128]) -> NDArray[np.float64]:
        """Image of the box's shape with this half-spectrum."""
        image: NDArray[np.float64] = scipy.fft.irfft2(spectrum, s=self.shape, workers=self.threads, overwrite_x=True)
        return image


# A worker's tiles share one box shape, so one entry serves a run; two let a test compare.
@lru_cache(maxsize=2)
def kernel_spectra(kernels: CWTKernels, shape: tuple[int, int], threads: int = 1) -> KernelSpectra:
    """Spectra of `kernels` in a box of `shape` (y, x), computed once a process."""

    def spectrum(kernel: NDArray[np.float64]) -> NDArray[np.complex128]:
        return scipy.fft.rfft2(_centred_on_origin(kernel, shape), workers=threads)

    base = tuple(kernels.kern_base[i] for i in range(kernels.n_scale))
    return KernelSpectra(
        shape=shape,
        base=tuple(spectrum(kernel) for kernel in base),
        base_squared=tuple(spectrum(kernel**2) for kernel in base),
        approx=spectrum(kernels.kern_approx),
        abs_sum=np.array([np.abs(kernel).sum() for kernel in base]),
        squared_sum=np.array([(kernel**2).sum() for kernel in base]),
        threads=threads,
    )


def _centred_on_origin(kernel: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Lay `kernel` into a box with its centre, as 'same' convolution takes it, at (0, 0)."""
    image = np.zeros(shape)
    # Several kernel pixels may fall on one of a small box: circular convolution adds them.
    rows, columns = (
        (np.arange(size) - (size - 1) // 2) % length for size, length in zip(kernel.shape, shape, strict=True)
    )
    np.add.at(image, (rows[:, np.newaxis], columns), kernel)
    return image
