"""What is done to each pixel at one scale, but for the FFTs: compiled by numba, by numexpr, by NumPy."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from common import KERNELS, THRESHOLD, interleaved, markdown, say, sky

from cwt_dask.cwt.loops import CLEARLY, TIE, find_significant, keep_largest
from cwt_dask.cwt.spectra import KernelSpectra, kernel_spectra, row_blocks
from cwt_dask.cwt.state import rounding_level

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE = 2048
REPETITIONS = 9
SCALE, ITERATION = 0, 1


@dataclass(frozen=True)
class Before:
    """What is known: spectra (y, x // 2 + 1) before the FFTs, and T and the square of E (y, x) after them."""

    spectra: KernelSpectra
    counts_hat: np.ndarray
    excess_hat: np.ndarray
    transform: np.ndarray
    variance: np.ndarray
    valid: np.ndarray
    joined: np.ndarray
    rounding: float
    floor: float

    @classmethod
    def of_sky(cls, size: int) -> Before:
        """The first iteration of a simulated sky."""
        counts, background = sky(size)
        spectra = kernel_spectra(KERNELS, counts.shape)
        counts_hat, excess_hat = np.fft.rfft2(counts), np.fft.rfft2(counts - background)
        hats = excess_hat * _full(spectra.base[SCALE]), (counts_hat - excess_hat) * _full(spectra.base_squared[SCALE])
        transform, variance = (np.fft.irfft2(hat, counts.shape) for hat in hats)
        level = rounding_level(float(counts.max()))
        return cls(
            spectra,
            counts_hat,
            excess_hat,
            transform,
            variance,
            valid=np.ones(counts.shape, dtype=bool),
            joined=np.zeros(counts.shape, dtype=np.uint16),
            rounding=level * float(spectra.abs_sum[SCALE]),
            floor=level * float(spectra.squared_sum[SCALE]),
        )


@dataclass
class After:
    """What is wanted: the spectra of T and of the square of E, and what follows of these two."""

    shape: tuple[int, int]
    transform_hat: np.ndarray = field(init=False)
    variance_hat: np.ndarray = field(init=False)
    ratio: np.ndarray = field(init=False)
    above: np.ndarray = field(init=False)
    wanted: np.ndarray = field(init=False)
    near: np.ndarray = field(init=False)
    significance: np.ndarray = field(init=False)
    best_scale: np.ndarray = field(init=False)
    best_iteration: np.ndarray = field(init=False)
    hidden: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        half = self.shape[0], self.shape[1] // 2 + 1
        self.transform_hat, self.variance_hat = np.empty(half, np.complex128), np.empty(half, np.complex128)
        self.ratio = np.empty(self.shape)
        self.above, self.wanted, self.near, self.hidden = (np.empty(self.shape, dtype=bool) for _ in range(4))
        self.significance = np.full(self.shape, -np.inf)
        self.best_scale = np.full(self.shape, -1, np.int16)
        self.best_iteration = np.zeros(self.shape, np.uint16)


def by_numba(before: Before, after: After) -> None:
    """As in the package: in blocks of rows."""
    b, a, spectra = before, after, before.spectra
    for rows in row_blocks(a.shape):
        spectra.base[SCALE].multiply(rows, b.excess_hat[rows], a.transform_hat[rows])
        squared = spectra.base_squared[SCALE]
        squared.multiply(rows, b.counts_hat[rows], a.variance_hat[rows], minus=b.excess_hat[rows])
        images = b.transform[rows], b.variance[rows], b.valid[rows], b.joined[rows]
        found = a.ratio[rows], a.above[rows], a.wanted[rows], a.near[rows], a.hidden[rows]
        find_significant(*images, b.floor, b.rounding, (THRESHOLD, THRESHOLD), False, *found)
        best = a.significance[rows], a.best_scale[rows], a.best_iteration[rows]
        keep_largest(a.ratio[rows], SCALE, ITERATION, *best)


def by_numpy_in_blocks(before: Before, after: After) -> None:
    """NumPy, in the same blocks."""
    for rows in row_blocks(after.shape):
        _by_numpy(before, after, rows)


def by_numpy(before: Before, after: After) -> None:
    """NumPy, whole arrays."""
    _by_numpy(before, after, slice(0, after.shape[0]))


def by_numexpr(before: Before, after: After) -> None:
    """Expressions, which numexpr cuts into blocks itself."""
    evaluate: Any = import_module("numexpr").evaluate
    b, a = before, after
    known = {"t": b.transform, "v": b.variance, "valid": b.valid, "joined": b.joined, "ratio": a.ratio}
    known |= {"best": a.best_scale, "largest": a.significance}
    known |= {
        "least": b.floor,
        "standing": THRESHOLD * b.floor**0.5,
        "rounding": b.rounding,
        "threshold": THRESHOLD,
        "scale": SCALE,
        "iteration": ITERATION,
        "nothing": -np.inf,
    }

    def put(out: np.ndarray, expression: str, names: dict[str, Any] = known) -> None:
        evaluate(expression, local_dict=names, global_dict={}, out=out, casting="same_kind")

    product, factors = _sum_of_products(b.spectra.base[SCALE])
    put(a.transform_hat, f"excess * ({product})", factors | {"excess": b.excess_hat})
    product, factors = _sum_of_products(b.spectra.base_squared[SCALE])
    put(a.variance_hat, f"(counts - excess) * ({product})", factors | {"counts": b.counts_hat, "excess": b.excess_hat})
    put(a.ratio, "where(valid & (v > least), t / sqrt(v), nothing)")
    put(a.above, "ratio > threshold")
    put(a.wanted, "(ratio > threshold) | (joined > 0)")
    put(
        a.near,
        "valid & ((v > least) & "
        "(2 * sqrt(v) * abs(t - threshold * sqrt(v)) <= 2 * sqrt(v) * rounding + abs(threshold) * least)"
        " | (t > standing) & (abs(v - least) <= least / 4))",
    )
    put(a.best_iteration, f"where(ratio - largest > {TIE} * abs(ratio), iteration, when)")
    put(a.best_scale, "where(ratio > largest, scale, best)")
    put(a.significance, "where(ratio > largest, ratio, largest)")
    put(a.hidden, f"valid & ~(v > least) & ((t > standing) | (v < {-CLEARLY} * least))")


WAYS = {
    "numba (the choice)": ("numba", by_numba),
    "numexpr": ("numexpr", by_numexpr),
    "NumPy, in blocks of rows": ("numpy", by_numpy_in_blocks),
    "NumPy, whole arrays": ("numpy", by_numpy),
}
INSTALLED: dict[str, Callable[[Before, After], None]] = {
    name: way for name, (module, way) in WAYS.items() if find_spec(module)
}


def tables(size: int = SIZE, repetitions: int = REPETITIONS) -> str:
    """Nanoseconds a pixel of one scale."""
    before = Before.of_sky(size)
    say(f"element-wise work on {size} x {size} pixels")
    ways = {name: partial(way, before, After((size, size))) for name, way in INSTALLED.items()}
    times = interleaved(ways, repetitions)
    head = [f"element-wise work of one scale, {size} x {size}", "ns a pixel"]
    return markdown(head, [(name, f"{time / size**2 * 1e9:.1f}") for name, time in times.items()])


def _by_numpy(before: Before, after: After, rows: slice) -> None:
    b, a = before, after
    np.multiply(b.excess_hat[rows], _full(b.spectra.base[SCALE], rows), out=a.transform_hat[rows])
    difference = np.subtract(b.counts_hat[rows], b.excess_hat[rows], out=a.variance_hat[rows])
    difference *= _full(b.spectra.base_squared[SCALE], rows)
    transform, variance, valid = b.transform[rows], b.variance[rows], b.valid[rows]
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.sqrt(variance)
        defined = valid & (variance > b.floor)
        ratio = a.ratio[rows]
        ratio[:] = np.where(defined, transform / error, -np.inf)
        a.above[rows] = ratio > THRESHOLD
        a.wanted[rows] = a.above[rows] | (b.joined[rows] > 0)
        distance = 2 * error * np.abs(transform - THRESHOLD * error)
        stands_out = valid & (transform > THRESHOLD * b.floor**0.5)
        a.near[rows] = defined & (distance <= 2 * error * b.rounding + abs(THRESHOLD) * b.floor)
        a.near[rows] |= stands_out & (np.abs(variance - b.floor) <= b.floor / 4)
        a.hidden[rows] = valid & ~defined & (stands_out | (variance < -CLEARLY * b.floor))
    better = ratio > a.significance[rows]
    with np.errstate(invalid="ignore"):
        a.best_iteration[rows][ratio - a.significance[rows] > TIE * np.abs(ratio)] = ITERATION
    a.best_scale[rows][better] = SCALE
    np.maximum(a.significance[rows], ratio, out=a.significance[rows])


def _full(spectrum: Any, rows: slice = slice(None)) -> np.ndarray:
    """A kernel's spectrum (y, x // 2 + 1); along x each value stands twice in its factors."""
    return spectrum.along_y[:, rows].T @ spectrum.along_x[:, ::2]


def _sum_of_products(spectrum: Any) -> tuple[str, dict[str, np.ndarray]]:
    """A kernel's spectrum as an expression, and the profiles along y and x that are its variables."""
    terms = range(len(spectrum.along_y))
    along_y = {f"y{term}": spectrum.along_y[term][:, np.newaxis] for term in terms}
    along_x = {f"x{term}": spectrum.along_x[term, ::2] for term in terms}
    return " + ".join(f"y{term} * x{term}" for term in terms), along_y | along_x
