"""The columns of the catalogue: one row of the list says all of a column, from its values to its heading in the report.

A column that needs more than what is measured already is a field of `cwt_dask.tiles.detections.Measured` besides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.units import Unit, ct, deg, pix
from numpy.typing import NDArray
from scipy.special import ndtr

from cwt_dask.measure.poisson import sqrt_ts
from cwt_dask.trust import SourceFlag

if TYPE_CHECKING:
    from astropy.table import Row, Table
    from astropy.units import UnitBase

Values = Callable[["Table"], Any]
# Digits of counts after the point.
_COUNTS = 6
# By how much figures may differ that are the same; and those that magnify the last digit of others.
_RELATIVE, _MAGNIFIED = 1e-6, 1e-3


@dataclass(frozen=True)
class Column:
    """A column of the catalogue."""

    # Its name and its description.
    name: str
    text: str
    unit: UnitBase | None = None  # None for pure numbers.
    # Digits after the point that are kept: beyond them a digit means nothing, and rounding decides it.
    decimals: int | None = None
    dtype: type = float  # Of its values.
    # Makes them of the measured rows: fields of `Peaks`, and what `cwt_dask.merge.catalogue` adds. Where not given they
    # are those of this name.
    values: Values | None = None
    # Power of the exposure's unit that it has as unit: such a column is there only if the exposure has a unit.
    exposure: int = 0
    # Whether it is there only if there is a point spread function, and only on the sphere.
    psf: bool = False
    sphere: bool = False
    # In the report's table: place among the columns, heading, and digits after the point, or None for four significant
    # ones. Columns without one are left out there.
    page: tuple[int, str, int | None] | None = None

    def is_same(self, one: Row, other: Row) -> bool:
        """Whether two rows have the same value but for rounding: to 1e-6, or to the last digit that is kept."""
        first, second, decimals = one[self.name], other[self.name], self.decimals
        if self.exposure < 0:
            # They have the digits of the counts.
            first, second, decimals = first * one["exposure"], second * other["exposure"], _COUNTS
        last_digit = 0.0 if decimals is None else 1.5 * 10.0**-decimals
        relative = _MAGNIFIED if self.name in ("p_value", "expected_false") else _RELATIVE
        return bool(np.isclose(first, second, rtol=relative, atol=last_digit, equal_nan=True))

    def of(self, rows: Table) -> NDArray[Any]:
        """Its values for measured rows, rounded."""
        values: NDArray[Any] = np.asarray(rows[self.name] if self.values is None else self.values(rows), self.dtype)
        return values if self.decimals is None else np.round(values, self.decimals)


def _longitude(name: str) -> Values:
    # Rounding may give 360.
    return lambda rows: np.round(rows[name], 7) % 360


def _excess(rows: Table) -> Any:
    return rows["counts"] - rows["background"]


def _over_exposure(values: Values) -> Values:
    """What is counts by exposure: NaN where there is none."""

    def divided(rows: Table) -> Any:
        # Of the digits that the counts have: others are rounding.
        exposure, counts = np.asarray(rows["exposure"]), np.round(np.asarray(values(rows), np.float64), _COUNTS)
        return np.divide(counts, exposure, out=np.full(len(rows), np.nan), where=exposure > 0)

    return divided


def _npred_errn(rows: Table) -> Any:
    return np.maximum(rows["npred"] - rows["npred_low"], 0.0)


def _npred_errp(rows: Table) -> Any:
    return np.maximum(rows["npred_high"] - rows["npred"], 0.0)


_FLAGS = ", ".join(f"{flag.value} {flag.name.lower().replace('_', ' ')}" for flag in SourceFlag if flag.name)
# fmt: off
COLUMNS = (
    Column("source_id", "Number of the row in the catalogue and, after it, the candidates: the best first", dtype=int,
           values=lambda rows: np.arange(1, len(rows) + 1)),
    Column("name", "Name by position in ICRS, truncated", dtype=str, page=(1, "Name", None)),
    Column("ra", "Right ascension (ICRS), of the fit; of the centroid without --psf", deg, 7,
           values=_longitude("ra"), page=(14, "RA", 3)),
    Column("dec", "Declination (ICRS), likewise", deg, 7, page=(15, "Dec", 3)),
    Column("glon", "Galactic longitude, likewise", deg, 7, values=_longitude("glon"), page=(12, "l", 3)),
    Column("glat", "Galactic latitude, likewise", deg, 7, page=(13, "b", 3)),
    Column("pos_err",
           "Radius about it that holds the source with 68 % probability, by counting; no systematics", deg, 7,
           page=(16, "Position error", 3)),
    Column("facet", "Number of the facet that has the source", dtype=int, sphere=True),
    Column("x_peak", "Column of the peak pixel, 0-based", pix, dtype=int, values=lambda rows: rows["x"]),
    Column("y_peak", "Row of the peak pixel, 0-based", pix, dtype=int, values=lambda rows: rows["y"]),
    Column("x_centroid", "Column of this position, 0-based, centre of the first pixel at 0", pix, 5),
    Column("y_centroid", "Row of this position, 0-based, centre of the first pixel at 0", pix, 5),
    Column("significance", "Largest T/E over scales and iterations; not a number of sigmas where counts are few",
           decimals=6, page=(16, "T/E", 1)),
    Column("sigma", "Calibrated significance S of the first iteration, largest over scales: noise exceeds it at a "
           "pixel and a scale with the probability p_value", decimals=5, page=(25, "S", 1)),
    Column("p_value", "Probability that a standard normal number exceeds sigma",
           values=lambda rows: ndtr(-rows["sigma"])),
    Column("sqrt_ts", "Square root of TS of the joint likelihood, with all other sources in the model", decimals=5,
           values=lambda rows: np.sqrt(rows["ts"]), page=(5, "√TS", 1)),
    Column("score", "What rows are ordered and selected by: the lesser of sigma and sqrt_ts", decimals=5,
           page=(4, "Score", 1)),
    Column("expected_false", "Expected number of rows of noise in the whole survey with a score at least as large: "
           "local maxima of the likelihood that S confirms",
           page=(5, "Expected false", None)),
    Column("iteration", "Iteration of the largest significance", dtype=int, page=(19, "Iteration", 0)),
    Column("scale", "Scale of the largest significance", pix, 9, page=(17, "Scale", 2)),
    Column("scale_deg", "The same in degrees, by the pixel size at the map's centre", deg, 9, page=(18, "Scale", 3)),
    Column("island_id", "Number of the island of the support that holds the peak, 0 outside the support", dtype=int),
    Column("n_pixels", "Pixels of that island, 0 outside the support", pix, dtype=int, page=(20, "Island", 0)),
    Column("radius", "Radius of the disc around the peak in which counts are summed: sqrt(2) * scale * step_scale",
           pix, 9),
    Column("containment", "Share of the point spread function within that radius", None, 4, psf=True,
           page=(22, "Containment", 2)),
    Column("counts", "Counts in the disc", ct, page=(17, "Counts in the disc", 0)),
    Column("background", "Expected background in the disc", ct, 6, page=(17, "Background in the disc", 1)),
    Column("excess", "counts - background; not corrected for what lies outside the disc", ct, 6,
           values=_excess, page=(17, "Excess", 1)),
    Column("excess_errn",
           "Downward 1-sigma error of the excess: to the lower end of the interval of Kraft et al. (1991)", ct, 6,
           values=lambda rows: np.maximum(_excess(rows) - rows["low"], 0.0), page=(17, "\N{MINUS SIGN}", 1)),
    Column("excess_errp", "Upward 1-sigma error of the excess: to the upper end of that interval", ct, 6,
           values=lambda rows: rows["high"] - _excess(rows), page=(17, "+", 1)),
    Column("sqrt_ts_disc",
           "Square root of Cash's TS of the disc, background known; post-selection: its counts chose the disc", None, 6,
           values=lambda rows: sqrt_ts(rows["counts"], rows["background"]), page=(24, "√TS of the disc", 1)),
    Column("npred", "Counts of the whole source by the joint likelihood", ct, 6, page=(5, "Counts of the source", 1)),
    Column("npred_errn", "Downward error of npred: to the lower end of its 68 % interval, by the profile likelihood",
           ct, 6, values=_npred_errn, page=(5, "\N{MINUS SIGN}", 1)),
    Column("npred_errp", "Upward error of npred: to the upper end of that interval", ct, 6, values=_npred_errp,
           page=(5, "+", 1)),
    Column("npred_ul", "95 % upper limit of npred", ct, 6),
    Column("extension", "Sigma of the source beyond the point spread function, 0: a point source", deg, 7,
           page=(5, "Extension", 3)),
    Column("sqrt_ts_ext", "Square root of the TS by which that is preferred to a point", decimals=5,
           values=lambda rows: np.sqrt(rows["ts_ext"])),
    Column("exposure", "Exposure at the peak pixel", exposure=1),
    Column("flux", "Photon flux of the whole source: npred / exposure",
           values=_over_exposure(lambda rows: rows["npred"]), exposure=-1, page=(5, "Flux", None)),
    Column("flux_errn", "npred_errn / exposure", values=_over_exposure(_npred_errn), exposure=-1),
    Column("flux_errp", "npred_errp / exposure", values=_over_exposure(_npred_errp), exposure=-1),
    Column("flux_ul", "npred_ul / exposure", values=_over_exposure(lambda rows: rows["npred_ul"]), exposure=-1),
    Column("photon_flux", "Of the disc alone: excess / exposure; flux has what lies outside, too",
           values=_over_exposure(_excess), exposure=-1, page=(21, "Flux in the disc", None)),
    Column("flags", f"Sum of: {_FLAGS}", dtype=int, page=(9, "Flags", 0)),
)
# fmt: on
# Columns that `match` adds to a catalogue, which describes them as it knows the other catalogue.
ASSOCIATIONS = (
    Column("assoc_name", "", dtype=str, page=(2, "Associated with", None)),
    Column("assoc_sep", "", deg, 7, page=(3, "Separation", 3)),
)


def columns_of(exposure_unit: str, *, psf: bool = False, sphere: bool = False) -> list[Column]:
    """Columns of a catalogue.

    Parameters
    ----------
    exposure_unit : str
        Of the exposure; those of it are left out where it is empty.
    psf, sphere : bool, optional
        Whether there is a point spread function, and whether it is one of the sphere.
    """
    there = [
        column
        for column in COLUMNS
        if (exposure_unit or not column.exposure) and (psf or not column.psf) and (sphere or not column.sphere)
    ]
    return [
        replace(column, unit=Unit(exposure_unit) ** column.exposure) if column.exposure else column for column in there
    ]


def flux_unit_of(exposure_unit: str) -> str:
    """Unit of a photon flux, as text; empty where the exposure has none."""
    return str(Unit(exposure_unit) ** -1) if exposure_unit else ""
