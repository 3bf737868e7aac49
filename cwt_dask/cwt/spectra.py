"""The kernels' spectra in a box of fixed shape, and the FFTs of its images.

Real FFTs of NumPy, done in place and axis by axis, in blocks that stay in the cache: docs/design/0009-step.md.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import Complexes, Floats
from cwt_dask.cwt.buffers import borrow
from cwt_dask.cwt.calibration import Calibration, calibrations
from cwt_dask.cwt.kernels import CWTKernels, Factors
from cwt_dask.cwt.loops import compiled

# Bytes of an image's rows that are worked on at a time: some of them fit a core's second-level cache together.
BLOCK_BYTES = 2**19


def fast_length(least: int) -> int:
    """Length of an FFT axis: the first good one that is not below `least` (the same on every machine)."""
    return int(scipy.fft.next_fast_len(least, real=True))


@dataclass(frozen=True)
class Spectrum:
    """Spectrum of a kernel as a short sum of products, as the kernel is."""

    # Shape (term, y) and (term, x // 2 + 1). Float64 where the kernel is centred and symmetric; along x each value
    # stands twice then, for the real and the imaginary part of what it multiplies. Else complex128.
    along_y: NDArray[Any]
    along_x: NDArray[Any]

    def multiply(self, rows: slice, spectrum: Complexes, out: Complexes, minus: Complexes | None = None) -> None:
        """Multiply rows of a half-spectrum by the kernel's.

        Parameters
        ----------
        rows : slice
            Which they are.
        spectrum, out : ndarray of complex128
            These rows (y, x // 2 + 1), and where their products go; it may be the same array.
        minus : ndarray of complex128, optional
            The same rows of another spectrum, which is subtracted first.
        """
        dtype = self.along_x.dtype
        other = None if minus is None else minus.view(dtype)
        _multiply(spectrum.view(dtype), other, self.along_y[:, rows], self.along_x, out.view(dtype))


@compiled
def _multiply(
    spectrum: NDArray[Any], minus: NDArray[Any] | None, along_y: NDArray[Any], along_x: NDArray[Any], out: NDArray[Any]
) -> None:
    kernel = np.empty(spectrum.shape[1], along_x.dtype)
    for y in range(spectrum.shape[0]):
        for x in range(kernel.size):
            kernel[x] = along_y[0, y] * along_x[0, x]
        for term in range(1, len(along_x)):
            for x in range(kernel.size):
                kernel[x] += along_y[term, y] * along_x[term, x]
        for x in range(kernel.size):
            value = spectrum[y, x] if minus is None else spectrum[y, x] - minus[y, x]
            out[y, x] = value * kernel[x]


@dataclass(frozen=True)
class KernelSpectra:
    """Transforms of the kernels, of their squares and cubes in a box of shape (y, x).

    Convolution in the box is circular. It equals the linear one on every pixel from which the box's edge, or a rim
    of zeros at the far edge, is at least the kernels' reach away.
    """

    shape: tuple[int, int]  # Shape (y, x) of the box.
    # One a scale.
    base: tuple[Spectrum, ...]
    base_squared: tuple[Spectrum, ...]
    base_cubed: tuple[Spectrum, ...]
    # The squares and the cubes themselves.
    squares: tuple[Factors, ...]
    cubes: tuple[Factors, ...]
    calibrations: tuple[Calibration, ...]
    approx: Spectrum  # Of the approximation kernel.
    # Sums of the moduli and of the squares of each base kernel, float64 (scale,).
    abs_sum: Floats
    squared_sum: Floats
    threads: int  # Threads that work on an image; they do not change its bits.

    def new_spectrum(self) -> Complexes:
        """Buffer for a half-spectrum, complex128 (y, x // 2 + 1)."""
        return borrow((self.shape[0], self.shape[1] // 2 + 1), np.complex128)

    def forward(self, *spectra: Complexes, images: Callable[[slice], Iterator[Floats]]) -> None:
        """Fill half-spectra with the transforms of images of the box's shape.

        `images` yields, for a slice of rows, those rows of each image; they are used up before the next is asked for.
        """

        def rows_forward(rows: slice) -> None:
            for spectrum, image in zip(spectra, images(rows), strict=True):
                np.fft.rfft(image, axis=1, out=spectrum[rows])

        self.over_rows(rows_forward)
        for spectrum in spectra:
            self._over_columns(np.fft.fft, spectrum)

    def backward(self, *spectra: Complexes, take: Callable[..., Any], into: Floats | None = None) -> list[Any]:
        """Transform half-spectra back, which are lost: `take` gets a slice of rows and those rows of each image.

        The rows given to `take` may be written to, and are lost when it returns; those of the first image stay where
        there is an image `into` which they go. The results of `take` are given in order.
        """
        for spectrum in spectra:
            self._over_columns(np.fft.ifft, spectrum)

        def rows_back(rows: slice) -> Any:
            shape = rows.stop - rows.start, self.shape[1]
            images = [scratch(number, shape) for number in range(len(spectra))]
            if into is not None:
                images[0] = into[rows]
            for spectrum, image in zip(spectra, images, strict=True):
                np.fft.irfft(spectrum[rows], n=self.shape[1], axis=1, out=image)
            return take(rows, *images)

        return self.over_rows(rows_back)

    def over_rows(self, function: Callable[[slice], Any]) -> list[Any]:
        """Results of a function of slices of rows that are worked on at a time, in their order."""
        return self._over(function, row_blocks(self.shape))

    def _over_columns(self, transform: Callable[..., Any], spectrum: Complexes) -> None:
        width = spectrum.shape[1]
        # Whole cache lines of 64 bytes to each thread.
        step = -(-width // self.threads // 4) * 4

        def columns(part: slice) -> None:
            transform(spectrum[:, part], axis=0, out=spectrum[:, part])

        self._over(columns, [slice(start, min(start + step, width)) for start in range(0, width, step)])

    def _over(self, function: Callable[[slice], Any], parts: list[slice]) -> list[Any]:
        if self.threads == 1 or len(parts) == 1:
            return [function(part) for part in parts]
        return list(_pool(self.threads).map(function, parts))


def row_blocks(shape: tuple[int, int]) -> list[slice]:
    """Slices of rows that are worked on at a time, for images of `shape` (y, x)."""
    height = max(1, BLOCK_BYTES // (8 * shape[1]))
    return [slice(start, min(start + height, shape[0])) for start in range(0, shape[0], height)]


# Each thread's own buffers, by number.
_SCRATCH = threading.local()


def scratch(number: int, shape: tuple[int, int]) -> Floats:
    """Buffer of this thread for some rows of an image, the same one at each call with the same number."""
    buffers, name, size = vars(_SCRATCH), str(number), shape[0] * shape[1]
    if name not in buffers or buffers[name].size < size:
        buffers[name] = np.empty(size)
    return np.asarray(buffers[name][:size].reshape(shape))


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)


# Tiles of a flat map share one box shape, facets have a few.
@lru_cache(maxsize=8)
def kernel_spectra(kernels: CWTKernels, shape: tuple[int, int], threads: int = 1) -> KernelSpectra:
    """Spectra of kernels in a box, computed once a process.

    Parameters
    ----------
    kernels : CWTKernels
        The kernels.
    shape : tuple of int
        Shape (y, x) of the box.
    threads : int, optional
        Threads that will work on an image.
    """
    # Differences of Gaussians sit off their own centre.
    real = not kernels.old
    squares, cubes = (tuple(factors.power(n) for factors in kernels.base_factors) for n in (2, 3))
    return KernelSpectra(
        shape=shape,
        base=tuple(_spectrum_of(factors, shape, real=real) for factors in kernels.base_factors),
        base_squared=tuple(_spectrum_of(factors, shape, real=real) for factors in squares),
        base_cubed=tuple(_spectrum_of(factors, shape, real=real) for factors in cubes),
        squares=squares,
        cubes=cubes,
        calibrations=calibrations(kernels),
        approx=_spectrum_of(kernels.approx_factors, shape, real=True),
        abs_sum=np.array([factors.abs_sum for factors in kernels.base_factors]),
        squared_sum=np.array([factors.along_y.sum(axis=1) @ factors.along_x.sum(axis=1) for factors in squares]),
        threads=threads,
    )


def _spectrum_of(factors: Factors, shape: tuple[int, int], *, real: bool) -> Spectrum:
    """Spectrum in a box of `shape` of a kernel with its centre, as 'same' convolution takes it, at (0, 0)."""
    along_y = np.fft.fft(_centred_on_origin(factors.along_y, shape[0]))
    along_x = np.fft.rfft(_centred_on_origin(factors.along_x, shape[1]))
    if not real:
        return Spectrum(along_y, along_x)
    return Spectrum(np.ascontiguousarray(along_y.real), np.repeat(along_x.real, 2, axis=1))


def _centred_on_origin(profiles: Floats, length: int) -> Floats:
    """Lay profiles (term, size) into lines of `length` with their centre at 0."""
    lines = np.zeros((len(profiles), length))
    size = profiles.shape[1]
    # Several kernel pixels may fall on one of a small box: circular convolution adds them.
    for line, profile in zip(lines, profiles, strict=True):
        np.add.at(line, (np.arange(size) - (size - 1) // 2) % length, profile)
    return lines
