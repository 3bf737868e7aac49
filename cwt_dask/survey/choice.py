"""Which planes of a cube are taken: by number or by energy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cwt_dask.config.validation import format_energy
from cwt_dask.errors import SurveyError
from cwt_dask.survey.bands import Bands
from cwt_dask.survey.source import Selection

# Relative: edges may be typed with three digits.
_ROUNDED = 5e-3
# Edges of bands that a message names.
_MOST_EDGES = 40


@dataclass(frozen=True)
class Chosen:
    """Planes that are summed, or the one that is taken."""

    planes: range  # Counted through all leading axes of the cube, from 0 on.
    n_bands: int  # Planes that the cube has.
    # (plane, lower and upper) energies of those taken, in TeV; None where the file does not say them.
    bins: NDArray[np.float64] | None
    energies: str = ""  # The same for people; empty where the file does not say them.
    warnings: tuple[str, ...] = ()

    def of(self, n_bands: int) -> range:
        """The planes to take of another image: one of as many bands, or a single one."""
        return self.planes if n_bands == self.n_bands else range(n_bands)


def choose(bands: Bands, n_bands: int, selection: Selection, where: str) -> Chosen:
    """Choose planes of the counts.

    Parameters
    ----------
    bands : Bands
        What the file says of their energies.
    n_bands : int
        Planes that there are.
    selection : Selection
        What was asked for.
    where : str
        The counts, for messages.

    Raises
    ------
    SurveyError
        If no plane is chosen of several, there is none of that number, or none within those energies.
    """
    known = bands.edges if bands.bins is not None or bands.nodes is not None else None
    if selection.by_energy:
        planes = _within(known, n_bands, selection, where)
    else:
        planes = _numbered(known, n_bands, selection, where)
    if known is None:
        return Chosen(planes, n_bands, None)
    first, last = float(known[planes[0], 0]), float(known[planes[-1], 1])
    energies = f"{format_energy(first)} to {format_energy(last)}" if first < last else format_energy(first)
    asked = [
        f"{bound} {format_energy(value)}"
        for bound, value, found in (("from", selection.emin, first), ("to", selection.emax, last))
        if value is not None and not np.isclose(value, found, rtol=_ROUNDED, atol=0)
    ]
    told = f"energies {' '.join(asked)} were asked for, and bands wholly within are taken: {energies}"
    bins = None if bands.bins is None else bands.bins[planes.start : planes.stop]
    return Chosen(planes, n_bands, bins, energies, (told,) if asked else ())


def _within(known: NDArray[np.float64] | None, n_bands: int, selection: Selection, where: str) -> range:
    """Bands that lie within energies; what is off by rounding does."""
    if known is None:
        by_number = "leave out --emin and --emax" if n_bands == 1 else "choose by number, --band I or --band sum"
        raise SurveyError(f"{where} does not say the energies of its bands: {by_number}")
    low, high = selection.emin or 0.0, selection.emax or np.inf
    inside = (known[:, 0] >= low * (1 - _ROUNDED)) & (known[:, 1] <= high * (1 + _ROUNDED))
    found = np.flatnonzero(inside)
    if not found.size:
        edges = [*known[:, 0], known[-1, 1]]
        named = ", ".join(map(format_energy, edges[:_MOST_EDGES])) + " ..." * (len(edges) > _MOST_EDGES)
        span = (f"from {format_energy(low)}" if low else "") + (f" to {format_energy(high)}" if high < np.inf else "")
        raise SurveyError(f"{where} has no band wholly within energies {span.strip()}: its edges are {named}")
    return range(int(found[0]), int(found[-1]) + 1)


def _numbered(known: NDArray[np.float64] | None, n_bands: int, selection: Selection, where: str) -> range:
    band = selection.band
    if n_bands == 1:
        if band not in (None, 0, "sum"):
            raise SurveyError(f"{where} has no band {band}: it is one image; leave out --band")
        return range(1)
    if band is None:
        by_energy = (
            ""
            if known is None
            else (
                f", or those of some energies within {format_energy(known[0, 0])} and {format_energy(known[-1, 1])}, "
                "--emin E --emax E"
            )
        )
        raise SurveyError(
            f"{where} is a cube of {n_bands} planes: choose one, --band I with I from 0 to {n_bands - 1}, or their "
            f"sum, --band sum{by_energy}"
        )
    if band == "sum":
        return range(n_bands)
    if band >= n_bands:
        raise SurveyError(f"{where} has no band {band}: its bands are 0 to {n_bands - 1}")
    return range(band, band + 1)
