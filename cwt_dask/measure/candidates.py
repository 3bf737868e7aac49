"""Which pixels may be sources: peaks of the published support, and maxima of the calibrated significance S.

Where a maximum of S lies near a peak of the support they are one candidate, at the peak's pixel; the fit starts at the
maximum of the largest S. Every ghost comes from iterations from 2 on, whose errors hold what the first ones have found:
a peak that no maximum of S is near is known by them alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cwt_dask.cwt.arrays import Bools, Floats, Ints
from cwt_dask.measure.peaks import find_peaks

# Maxima of S above this are candidates: noise has 500 such pixels in 10^6, of which the fit keeps few.
LEAST_SIGMA = 3.3
# In finest scales: maxima of S that are nearer to each other, or to a peak of the support, are one.
SAME = 1.5
_MOST_NEAR = 16


@dataclass(frozen=True)
class Candidates:
    """Candidates of an image, an element each, in row-major order of their pixels."""

    # Their pixels, and those at which the fit starts.
    y: Ints
    x: Ints
    y_start: Ints
    x_start: Ints
    in_support: Bools  # Whether they are peaks of the support.
    late: Bools  # Whether no maximum of S is near.


def reach_of_candidates(scales: Floats) -> int:
    """Pixels within which others decide what a candidate is."""
    return int(np.ceil(scales[-1]) + 1 + np.ceil(SAME * scales[0]))


def find_candidates(
    significance: Floats, separation: Floats, sigma: Floats, finest: float, *, turn: int | None = None
) -> Candidates:
    """Candidates of an image.

    Those within `reach_of_candidates` of the image's edge are right only where that is the map's edge.

    Parameters
    ----------
    significance, separation
        As of `find_peaks`.
    sigma : ndarray
        S (y, x), -inf where it is not above `LEAST_SIGMA`.
    finest : float
        The finest scale in pixels.
    turn : int, optional
        Columns of the map, where it is a ring: the image may hold a column several times, so far apart.
    """
    peak_y, peak_x = find_peaks(significance, separation, turn=turn)
    y, x = find_peaks(sigma, SAME * finest, turn=turn)
    y_start, x_start, alone = peak_y.copy(), peak_x.copy(), np.ones(len(y), dtype=bool)
    late = np.ones(len(peak_y), dtype=bool)
    if len(y) and len(peak_y):
        from scipy.spatial import cKDTree  # noqa: PLC0415 - see find_peaks

        # Peaks are at least a finest scale apart: no more than these can be so near.
        reach = SAME * finest
        found = cKDTree(np.column_stack([peak_y, peak_x])).query(
            np.column_stack([y, x]), k=_MOST_NEAR, distance_upper_bound=np.nextafter(reach, np.inf)
        )
        distance, index = map(np.asarray, found)
        # Of equally near ones the first in row-major order, whatever the tree makes of them.
        nearest = np.where(distance == distance[:, :1], index, len(peak_y)).min(axis=1)
        alone = np.asarray(distance[:, 0] > reach)
        # The largest S last: it stays.
        for k in np.flatnonzero(~alone)[np.argsort(sigma[y, x][~alone], kind="stable")]:
            y_start[nearest[k]], x_start[nearest[k]], late[nearest[k]] = y[k], x[k], False
    n_alone = np.count_nonzero(alone)
    columns = (
        *(np.append(peak, other[alone]) for peak, other in ((peak_y, y), (peak_x, x), (y_start, y), (x_start, x))),
        np.append(np.ones(len(peak_y), bool), np.zeros(n_alone, bool)),
        np.append(late, np.zeros(n_alone, bool)),
    )
    order = np.lexsort((columns[1], columns[0]))
    return Candidates(*(column[order] for column in columns))
