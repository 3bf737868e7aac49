"""Where in a table the positions and energies of events stand, and what they are measured in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy.coordinates import FK4, FK5, ICRS, BaseCoordinateFrame, Galactic, SkyCoord
from astropy.io import fits

from cwt_dask.config.validation import shown
from cwt_dask.cwt.arrays import Bools
from cwt_dask.cwt.sky_cards import plainly_spelled
from cwt_dask.errors import InputError, SurveyError
from cwt_dask.events.tables import Columns, Table, factor_of

_EQUATORIAL = ("RA", "DEC")
# In this order.
_PAIRS = (_EQUATORIAL, ("GLON", "GLAT"), ("L", "B"))
ENERGY = "ENERGY"
_POLE = 90.0
# Digits to which a limit is kept: 10 GeV are 10000 MeV, not 10000.000000000002.
_DIGITS = 14


@dataclass(frozen=True)
class Positions:
    """Columns of positions."""

    columns: tuple[str, str]
    to_deg: tuple[float, float]  # Factors.
    frame: BaseCoordinateFrame

    @classmethod
    def of(cls, table: Table) -> Positions:
        """Find them.

        Raises SurveyError if there are none, or their unit or frame is unknown.
        """
        pair = next((pair for pair in _PAIRS if set(pair) <= table.units.keys()), None)
        if pair is None:
            raise SurveyError(
                f"{table.where} has no positions: events need columns RA and DEC, or GLON and GLAT; it has "
                f"{shown(', '.join(table.units))}"
            )
        frame = _frame_of(table) if pair == _EQUATORIAL else Galactic()
        lon, lat = (factor_of(table, name, "deg", "deg", "an angle") for name in pair)
        return cls(pair, (lon, lat), frame)

    def read(self, columns: Columns) -> tuple[SkyCoord, Bools]:
        """Positions of those events of a block that have one, and which have (events,)."""
        lon, lat = (
            columns[name].astype(np.float64) * factor for name, factor in zip(self.columns, self.to_deg, strict=True)
        )
        known = np.isfinite(lon) & (np.abs(lat) <= _POLE)
        return SkyCoord(lon[known], lat[known], unit="deg", frame=self.frame), known


def _frame_of(table: Table) -> BaseCoordinateFrame:
    """The frame of right ascension and declination, as the table says it; ICRS where it says nothing."""
    cards = {key: table.header[key] for key in ("RADESYS", "RADECSYS", "EQUINOX") if key in table.header}
    try:
        header = plainly_spelled(fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"} | cards))
    except (InputError, ValueError) as error:
        raise SurveyError(
            f"the positions of {table.where} have no known frame ({error}): correct its header"
        ) from error
    equinox = header.get("EQUINOX")
    # The standard's defaults.
    system = header.get("RADESYS") or header.get("RADECSYS")
    system = system or ("ICRS" if equinox is None else "FK4" if equinox < 1984 else "FK5")
    if system == "ICRS":
        return ICRS()
    if system == "FK5":
        return FK5(equinox=f"J{equinox or 2000.0}")
    return FK4(equinox=f"B{equinox or 1950.0}")


@dataclass(frozen=True)
class Energies:
    """The energies to take, in the unit of a table."""

    low: float
    high: float

    @classmethod
    def of(cls, table: Table, limits: tuple[float | None, float | None]) -> Energies | None:
        """Limits, given in TeV, in the unit of a table; None where there are none.

        Raises SurveyError if the table has no energies, or their unit is unknown.
        """
        low, high = limits
        if low is None and high is None:
            return None
        if ENERGY not in table.units:
            raise SurveyError(
                f"{table.where} has no column ENERGY, so that emin and emax cannot be applied: leave them out; it has "
                f"{shown(', '.join(table.units))}"
            )
        unit = str(table.header.get("EUNIT", "")).strip()
        factor = factor_of(table, ENERGY, "TeV", unit, "an energy")
        return cls(
            -np.inf if low is None else float(f"{low / factor:.{_DIGITS}g}"),
            np.inf if high is None else float(f"{high / factor:.{_DIGITS}g}"),
        )

    def among(self, columns: Columns) -> Bools:
        """Which events (events,) have such an energy."""
        energy = columns[ENERGY]
        # In the type of the column: 0.7 TeV as float32 is not below 0.7 TeV.
        low, high = (energy.dtype.type(limit) for limit in (self.low, self.high))
        found: Bools = (energy >= low) & (energy < high)
        return found
