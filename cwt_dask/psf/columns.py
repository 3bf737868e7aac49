"""Axes of response files: columns of energies and angles, with the many names that they have."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from astropy.units import Unit

from cwt_dask.cwt.arrays import Floats
from cwt_dask.errors import InputError
from cwt_dask.psf.response import Energies
from cwt_dask.survey.headers import damage_named

# Lower and upper edges, or one name for both.
_ENERGIES = (
    ("ENERG_LO", "ENERG_HI"),
    ("ENERGY_TRUE_MIN", "ENERGY_TRUE_MAX"),
    ("ENERGY_MIN", "ENERGY_MAX"),
    ("E_MIN", "E_MAX"),
    ("ENERGY_TRUE", "ENERGY_TRUE"),
    ("ENERGY", "ENERGY"),
)
_RADII = (("RAD_LO", "RAD_HI"), ("RAD_MIN", "RAD_MAX"), ("THETA_MIN", "THETA_MAX"), ("RAD", "RAD"), ("THETA", "THETA"))


class Columns:
    """Columns of a table, by their names in any case."""

    def __init__(self, hdu: Any, where: str) -> None:
        self.hdu, self.where = hdu, where
        self._columns = {column.name.upper(): column for column in hdu.columns}

    def __contains__(self, name: str) -> bool:
        return name in self._columns

    def values(self, name: str) -> Floats:
        """Values of a column (row, ...), of which there is at least one.

        Raises SurveyError if they cannot be read, InputError if there are none.
        """
        column = self._column(name)
        with damage_named(f"{self.where} cannot be read"):
            values = np.asarray(self.hdu.data[column.name], np.float64)
        if not len(values):
            raise InputError(f"{self.where} has no rows: get the file again")
        return values

    def _column(self, name: str) -> Any:
        if name not in self:
            raise InputError(f"{self.where} has no column {name}, which its format has: get the file again")
        return self._columns[name]

    def first(self, name: str) -> Floats:
        """Values in the first row: the only one where each row holds a whole array."""
        return np.atleast_1d(self.values(name)[0])

    def first_in_unit(self, name: str, unit: str) -> Floats:
        """Values in the first row, in a unit that is also theirs where the file has none."""
        return np.atleast_1d(self.in_unit(name, unit, unit)[0])

    def in_unit(self, name: str, unit: str, unsaid: str) -> Floats:
        """Values of a column in a unit.

        Parameters
        ----------
        name : str
            Of the column.
        unit : str
            deg or TeV.
        unsaid : str
            Theirs where the file has none.

        Raises
        ------
        InputError
            If they are in a unit of another kind.
        """
        given = str(self._column(name).unit or unsaid)
        kind = {"deg": "an angle", "TeV": "an energy"}[unit]
        try:
            factor = Unit(given).to(unit)
        except (ValueError, TypeError) as error:
            raise InputError(f"{self.where}: {name} is in {given}: it must be in a unit of {kind}, {unit}") from error
        return np.asarray(self.values(name) * factor)

    def _pair(self, names: tuple[tuple[str, str], ...], unit: str, unsaid: str) -> tuple[Floats, Floats] | None:
        """Lower and upper edges by the first of these pairs of names that are there."""
        for low, high in names:
            if low in self and high in self:
                return self.in_unit(low, unit, unsaid), self.in_unit(high, unit, unsaid)
        return None

    def energies(self, unsaid: str = "TeV") -> tuple[Floats, Floats] | None:
        """Lower and upper edges of energies in TeV, or twice the same energies."""
        return self._pair(_ENERGIES, "TeV", unsaid)

    def radii(self) -> tuple[Floats, Floats] | None:
        """Lower and upper edges of rings in degrees, or twice the same radii."""
        return self._pair(_RADII, "deg", "deg")


class Rings(NamedTuple):
    """Radii in degrees, and what lies between them."""

    radius: Floats  # Rising from 0, (radius,).
    amounts: Floats  # (..., ring).


def rings_of(low: Floats, high: Floats, density: Floats, where: str) -> Rings:
    """Amounts in rings, of a density that is constant in each, or linear between radii where both edges are the same.

    Parameters
    ----------
    low, high : ndarray
        Edges in degrees, (radius,).
    density : ndarray
        (..., radius), by solid angle in any unit.
    where : str
        The file, for messages.

    Raises
    ------
    InputError
        If radii do not rise from 0, or a density is negative.
    """
    if not (np.all(np.isfinite(high)) and low.min() >= 0 and np.all(np.diff(high) > 0) and high[-1] > 0):
        raise InputError(f"{where}: its radii do not rise from 0: correct them")
    if np.any(density < 0):
        raise InputError(f"{where} holds negative values: a point spread function has none")
    density = np.nan_to_num(density)
    if np.any(low < high):
        radius = np.append(low[:1], high)
        amounts = density * np.diff(radius**2)
    else:
        radius = high
        step, inner, outer = np.diff(radius), radius[:-1], radius[1:]
        amounts = (density[..., :-1] * (2 * inner + outer) + density[..., 1:] * (inner + 2 * outer)) * step / 3
    if radius[0] > 0:
        # Within the first radius it is as it is there.
        amounts = np.concatenate([density[..., :1] * radius[0] ** 2, amounts], axis=-1)
        radius = np.append(0.0, radius)
    return Rings(radius, amounts)


def energies_of(low: Floats, high: Floats, where: str) -> Energies:
    """Energies of bands, or nodes.

    Parameters
    ----------
    low, high : ndarray
        Edges in TeV; of nodes both are the same.
    where : str
        The file, for messages.

    Raises
    ------
    InputError
        If they do not rise.
    """
    if not (low.min() > 0 and np.all(np.isfinite(high)) and np.all(np.diff(low) > 0) and np.all(low <= high)):
        raise InputError(f"{where}: its energies do not rise: correct them")
    return Energies.between(low, high)
