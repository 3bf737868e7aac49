"""The transforms of one iteration, over all pixels of a box."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import Bools, Complexes, Floats, Ints
from cwt_dask.cwt.buffers import borrow, give_back
from cwt_dask.cwt.calibration import keep_calibrated
from cwt_dask.cwt.loops import find_significant, keep_largest, not_isolated, replace_by_sums
from cwt_dask.cwt.spectra import KernelSpectra, row_blocks, scratch
from cwt_dask.cwt.state import Criteria, Detected, Field, State
from cwt_dask.cwt.stopping import Moments

# Between these, over the floor, the first iteration makes E² again by sums. FFTs are good to an eighth of the floor:
# what they put below the one is below the floor, and what they put above the other is known to a ten-thousandth.
NEAR_FLOOR = 0.75, 1024.0


@dataclass(eq=False)
class Workspace:
    """What the iterations of one field share: the spectrum of its counts, and buffers for those of an iteration.

    Seven real FFTs make an iteration with two scales: everything else is linear in spectra that are known.
    """

    field: Field
    spectra: KernelSpectra  # In the field's box.
    criteria: Criteria
    ring: bool = False  # Whether the last column of the box is the neighbour of its first.

    def __post_init__(self) -> None:
        field, spectra = self.field, self.spectra
        self._all_valid = bool(field.valid.all())
        self._above = borrow(spectra.shape, np.bool_)
        self._counts_hat = spectra.new_spectrum()
        self._excess_hat = spectra.new_spectrum()
        self._buffers = spectra.new_spectrum(), spectra.new_spectrum()
        spectra.forward(self._counts_hat, images=lambda rows: iter([field.counts[rows]]))

    def close(self) -> None:
        """Give back what only iterations need."""
        give_back(self._counts_hat, self._excess_hat, *self._buffers, self._above)

    def begin(self, state: State, *, approximate: bool = True) -> None:
        """Transform the excess over the model; if asked for, approximate it anew."""
        field, spectra, spectrum = self.field, self.spectra, self._buffers[0]

        def images(rows: slice) -> Iterator[Floats]:
            counts = field.counts[rows]
            image = np.subtract(counts, state.model[rows], out=scratch(0, counts.shape))
            image -= field.background[rows]
            if approximate:
                yield image
            image -= state.approx[rows]
            yield image

        if not approximate:
            spectra.forward(self._excess_hat, images=images)
            return
        spectra.forward(spectrum, self._excess_hat, images=images)
        _approximate(spectrum, spectra, None if self._all_valid else field.valid, state.approx)

    def detect(self, state: State, scale: int) -> tuple[Detected, Ints, Floats]:
        """What is above the threshold at a scale; all pixels that are, or are in the support, ascending; T of these.

        Also keeps in `state` what is kept of all pixels of the core.
        """
        spectra, (for_transform, for_variance) = self.spectra, self._buffers
        # Nothing but the background is expected yet, which is the same in every box.
        first = state.iteration == 0
        # Only once and never kept: a later iteration has other buffers of this size.
        for_third = [np.empty_like(for_variance)] if first else []

        def products(rows: slice) -> None:
            excess = self._excess_hat[rows]
            spectra.base[scale].multiply(rows, excess, for_transform[rows])
            spectra.base_squared[scale].multiply(rows, self._counts_hat[rows], for_variance[rows], minus=excess)
            for cumulant in for_third:
                spectra.base_cubed[scale].multiply(rows, self._counts_hat[rows], cumulant[rows], minus=excess)

        spectra.over_rows(products)
        above, criteria = self._above, self.criteria
        floor = criteria.rounding * spectra.squared_sum[scale]
        # Without rounding nothing is near.
        rounding = criteria.rounding * spectra.abs_sum[scale] if criteria.rounding else -math.inf
        thresholds = criteria.thresholds[0], criteria.thresholds[-1]

        def look(rows: slice, transform: Floats, variance: Floats, *third: Floats) -> tuple[NDArray[Any], ...]:
            ratio = scratch(2 + len(third), transform.shape)
            wanted, near, hidden = (np.empty(ratio.shape, dtype=bool) for _ in range(3))
            if first:
                self._sharpen(variance, third[0], rows, scale, floor)
            images = transform, variance, self.field.valid[rows], state.joined[scale, rows]
            filled = ratio, above[rows], wanted, near, hidden
            find_significant(*images, floor, rounding, thresholds, first, *filled)
            if state.transform.size:
                state.transform[scale, rows] = transform
                state.error[scale, rows] = np.sqrt(variance, out=np.full_like(variance, np.nan), where=variance >= 0)
            self._keep(state, scale, rows, ratio, near, hidden)
            if first:
                self._calibrate(state, scale, rows, ratio, transform, variance, *third)
            pixels = np.flatnonzero(wanted)
            return pixels + rows.start * spectra.shape[1], transform.ravel()[pixels], ratio.ravel()[pixels]

        found = spectra.backward(for_transform, for_variance, *for_third, take=look)
        pixels, transform, ratio = (np.concatenate(column) for column in zip(*found, strict=True))
        is_above = above.ravel()[pixels]
        detected, ratio = pixels[is_above], ratio[is_above]
        if self.criteria.remove_isolated:
            kept = not_isolated(above, detected, self.ring)
            detected, ratio = detected[kept], ratio[kept]
        return Detected(spectra.shape, detected, ratio, self.ring), pixels, transform

    def residual_moments(self, state: State) -> Moments:
        """Moments of the residual over the pixels of the core that take part, pooled in the order of rows."""
        (y, x), field = state.core, self.field
        pooled = field.pooled if field.pooled is not None or self._all_valid else field.valid

        def moments(rows: slice) -> Moments:
            part = slice(y.start + rows.start, y.start + rows.stop), x
            model = state.model[part]
            values = np.add(model, state.approx[part], out=scratch(0, model.shape))
            np.subtract(field.counts[part], values, out=values)
            return Moments.of(values if pooled is None else values[pooled[part]])

        return Moments.pooled(map(moments, row_blocks((y.stop - y.start, x.stop - x.start))))

    def _sharpen(self, variance: Floats, third: Floats, rows: slice, scale: int, floor: float) -> None:
        """Give cumulants of the first iteration the same bits in every box, where E² is near the floor."""
        image, bounds = self.field.background, (NEAR_FLOOR[0] * floor, NEAR_FLOOR[1] * floor)
        # The variance last: it says where.
        for values, kernel in ((third, self.spectra.cubes[scale]), (variance, self.spectra.squares[scale])):
            replace_by_sums(values, variance, rows.start, image, kernel.along_y, kernel.along_x, bounds, self.ring)

    def _keep(self, state: State, scale: int, rows: slice, ratio: Floats, near: Bools, hidden: Bools) -> None:
        """Keep what is wanted of the core, from some rows of the box."""
        here, there = _in_core(state, rows)
        best = state.significance[there], state.best_scale[there], state.best_iteration[there]
        keep_largest(ratio[here], scale, state.iteration + 1, *best)
        state.undefined[there] |= hidden[here]
        state.near_threshold[there] |= near[here]

    def _calibrate(
        self, state: State, scale: int, rows: slice, ratio: Floats, transform: Floats, variance: Floats, third: Floats
    ) -> None:
        """Keep the largest S of the core, from some rows of the box."""
        here, there = _in_core(state, rows)
        cumulants = transform[here], variance[here], third[here]
        tables = self.spectra.calibrations[scale].tables
        keep_calibrated(*cumulants, ratio[here], scale, tables, state.sigma[there], state.sigma_scale[there])


def smooth(image: Floats, valid: Bools, spectra: KernelSpectra) -> Floats:
    """Convolve an image with the approximation kernel.

    Parameters
    ----------
    image : ndarray
        In the shape (y, x) of the box.
    valid : ndarray of bool
        The result is 0 on the other pixels.
    spectra : KernelSpectra
        The kernels, in the box.
    """
    spectrum, smoothed = spectra.new_spectrum(), np.empty_like(image)
    spectra.forward(spectrum, images=lambda rows: iter([image[rows]]))
    _approximate(spectrum, spectra, valid, smoothed)
    give_back(spectrum)
    return smoothed


def _approximate(spectrum: Complexes, spectra: KernelSpectra, valid: Bools | None, image: Floats) -> None:
    """Fill an image with what a half-spectrum, which is used up, gives with the approximation kernel."""

    def mask(rows: slice, values: Floats) -> None:
        if valid is not None:
            values[~valid[rows]] = 0.0

    spectra.over_rows(lambda rows: spectra.approx.multiply(rows, spectrum[rows], spectrum[rows]))
    spectra.backward(spectrum, into=image, take=mask)


def _in_core(state: State, rows: slice) -> tuple[tuple[slice, slice], slice]:
    """Index, in rows of the box, of what belongs to the core, and which of the core's rows these are; perhaps none."""
    y, x = state.core
    start, stop = max(rows.start, y.start), min(rows.stop, y.stop)
    stop = max(start, stop)
    return (slice(start - rows.start, stop - rows.start), x), slice(start - y.start, stop - y.start)
