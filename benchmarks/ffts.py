"""Real FFTs of a square box by every library there is, each as it does best, on one thread.

Those that are not installed are left out.
"""

from __future__ import annotations

import hashlib
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy.fft
from common import apart, interleaved, markdown, say

if TYPE_CHECKING:
    from collections.abc import Callable

LENGTHS = (2048, 2160, 2400, 2500, 3000)
REPETITIONS = 7


class Transforms(NamedTuple):
    """A transform of an image to a spectrum that is kept, and back; back, the spectrum may be lost."""

    forward: Callable[[], np.ndarray]
    backward: Callable[[], np.ndarray]

    def seven(self) -> None:
        """The transforms of an iteration with two scales."""
        for _ in range(2):
            self.forward()
        for _ in range(5):
            self.backward()


def numpy_in_place(image: np.ndarray) -> Transforms:
    """As in the package: axis by axis, columns in place."""
    return _axis_by_axis(np.fft, image)


def mkl_in_place(image: np.ndarray) -> Transforms:
    """The same with MKL."""
    return _axis_by_axis(import_module("mkl_fft"), image)


def numpy_2d(image: np.ndarray) -> Transforms:
    """As a user calls NumPy."""
    return _two_dimensional(np.fft, image)


def scipy_2d(image: np.ndarray) -> Transforms:
    """As a user calls SciPy."""
    return _two_dimensional(scipy.fft, image)


def scipy_overwriting(image: np.ndarray) -> Transforms:
    """Axis by axis; SciPy has no room to write to but that of its argument."""
    kept = {}

    def forward() -> np.ndarray:
        kept["spectrum"] = scipy.fft.fft(scipy.fft.rfft(image, axis=1), axis=0, overwrite_x=True)
        return kept["spectrum"]

    def backward() -> np.ndarray:
        kept["spectrum"] = scipy.fft.ifft(kept["spectrum"], axis=0, overwrite_x=True)
        return scipy.fft.irfft(kept["spectrum"], image.shape[1], axis=1)

    return Transforms(forward, backward)


def ducc_2d(image: np.ndarray) -> Transforms:
    """Both axes at once, into arrays that are kept."""
    fft: Any = import_module("ducc0").fft
    spectrum, back = _rooms(image)

    def forward() -> np.ndarray:
        return fft.r2c(image, axes=(0, 1), out=spectrum, nthreads=1)

    def backward() -> np.ndarray:
        sizes = {"lastsize": image.shape[1], "forward": False, "inorm": 2}
        return fft.c2r(spectrum, axes=(0, 1), out=back, nthreads=1, **sizes)

    return Transforms(forward, backward)


def ducc_in_place(image: np.ndarray) -> Transforms:
    """Axis by axis, columns in place."""
    fft: Any = import_module("ducc0").fft
    spectrum, back = _rooms(image)

    def forward() -> np.ndarray:
        fft.r2c(image, axes=(1,), out=spectrum, nthreads=1)
        return fft.c2c(spectrum, axes=(0,), out=spectrum, nthreads=1)

    def backward() -> np.ndarray:
        fft.c2c(spectrum, axes=(0,), out=spectrum, forward=False, inorm=2, nthreads=1)
        sizes = {"lastsize": image.shape[1], "forward": False, "inorm": 2}
        return fft.c2r(spectrum, axes=(1,), out=back, nthreads=1, **sizes)

    return Transforms(forward, backward)


def fftw_estimated(image: np.ndarray) -> Transforms:
    """Planned by rules, the same on every run."""
    return _fftw(image, "FFTW_ESTIMATE")


def fftw_timed(image: np.ndarray) -> Transforms:
    """Planned by trying: what is fastest today."""
    return _fftw(image, "FFTW_MEASURE")


LIBRARIES = {
    "NumPy, in place (the choice)": ("numpy", numpy_in_place),
    "NumPy rfft2, irfft2": ("numpy", numpy_2d),
    "scipy.fft rfft2, irfft2": ("scipy", scipy_2d),
    "scipy.fft, axis by axis, overwriting": ("scipy", scipy_overwriting),
    "ducc0, both axes at once": ("ducc0", ducc_2d),
    "ducc0, in place": ("ducc0", ducc_in_place),
    "FFTW, planned by estimate": ("pyfftw", fftw_estimated),
    "FFTW, planned by timing": ("pyfftw", fftw_timed),
    "MKL, in place": ("mkl_fft", mkl_in_place),
}
INSTALLED = {name: make for name, (module, make) in LIBRARIES.items() if find_spec(module)}


def digests(length: int) -> dict[str, str]:
    """Digest of the spectrum of one image by each library."""
    image = noise(length)
    return {name: hashlib.sha256(make(image).forward().tobytes()).hexdigest() for name, make in INSTALLED.items()}


def noise(length: int) -> np.ndarray:
    """An image, the same every time."""
    return np.random.default_rng(0).poisson(1.0, (length, length)).astype(np.float64)


def tables(lengths: tuple[int, ...] = LENGTHS, repetitions: int = REPETITIONS) -> str:
    """Nanoseconds a pixel of seven FFTs, and whether two processes find the same bits."""
    costs: dict[str, list[str]] = {name: [] for name in INSTALLED}
    for length in lengths:
        say(f"FFTs of {length} x {length} pixels")
        image = noise(length)
        times = interleaved({name: make(image).seven for name, make in INSTALLED.items()}, repetitions)
        for name, time in times.items():
            costs[name].append(f"{time / length**2 * 1e9:.1f}")
    first, second = apart(digests, lengths[0]), apart(digests, lengths[0])
    rows = ([name, *costs[name], "yes" if first[name] == second[name] else "no"] for name in INSTALLED)
    return markdown(["seven real FFTs, ns a pixel", *lengths, "same bits in two processes"], rows)


def _rooms(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.empty((image.shape[0], image.shape[1] // 2 + 1), np.complex128), np.empty_like(image)


def _axis_by_axis(library: Any, image: np.ndarray) -> Transforms:
    spectrum, back = _rooms(image)

    def forward() -> np.ndarray:
        library.rfft(image, axis=1, out=spectrum)
        return library.fft(spectrum, axis=0, out=spectrum)

    def backward() -> np.ndarray:
        library.ifft(spectrum, axis=0, out=spectrum)
        return library.irfft(spectrum, n=image.shape[1], axis=1, out=back)

    return Transforms(forward, backward)


def _two_dimensional(library: Any, image: np.ndarray) -> Transforms:
    kept = {}

    def forward() -> np.ndarray:
        kept["spectrum"] = library.rfft2(image)
        return kept["spectrum"]

    return Transforms(forward, lambda: library.irfft2(kept["spectrum"], image.shape))


def _fftw(image: np.ndarray, effort: str) -> Transforms:
    pyfftw: Any = import_module("pyfftw")
    spectrum, back = _rooms(image)
    source, spectrum, back = (pyfftw.byte_align(array) for array in (image.copy(), spectrum, back))
    there = pyfftw.FFTW(source, spectrum, axes=(0, 1), flags=(effort,), threads=1)
    flags = (effort, "FFTW_DESTROY_INPUT")
    again = pyfftw.FFTW(spectrum, back, axes=(0, 1), direction="FFTW_BACKWARD", flags=flags, threads=1)
    # Planning by timing writes to its arrays.
    source[:] = image

    def forward() -> np.ndarray:
        there.execute()
        return spectrum

    def backward() -> np.ndarray:
        again.execute()
        return back

    return Transforms(forward, backward)
