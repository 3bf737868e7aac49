"""The catalogue as regions: for DS9, and in the format of CASA (CRTF)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from astropy.table import Table


def discs(catalogue: Table) -> Iterator[str]:
    """Lines for DS9: circles with the discs in which counts are summed.

    Parameters
    ----------
    catalogue : astropy.table.Table
        Of a run.
    """
    yield from _DS9
    radii = np.asarray(catalogue["radius"] * catalogue["scale_deg"] / catalogue["scale"], np.float64)
    for ra, dec, radius, name, flags in _rows(catalogue, radii):
        yield f"circle({ra:.6f},{dec:.6f},{radius:.6f}) # text={{{name}}} tag={{flags {flags}}}\n"


def ds9(catalogue: Table) -> Iterator[str]:
    """Lines for DS9: sources as points, and extended ones as circles of their extension.

    Parameters
    ----------
    catalogue : astropy.table.Table
        Of a run.
    """
    yield from _DS9
    for ra, dec, extension, name, flags in _rows(catalogue, numbers(catalogue, "extension")):
        words = f"text={{{name}}} tag={{flags {flags}}}"
        if extension > 0:
            yield f"circle({ra:.6f},{dec:.6f},{extension:.6f}) # {words}\n"
        else:
            yield f"point({ra:.6f},{dec:.6f}) # point=cross {words}\n"


def crtf(catalogue: Table) -> Iterator[str]:
    """Lines of the same regions in CASA's format.

    Parameters
    ----------
    catalogue : astropy.table.Table
        Of a run.
    """
    yield "#CRTFv0\n"
    for ra, dec, extension, name, _ in _rows(catalogue, numbers(catalogue, "extension")):
        center = f"[{ra:.6f}deg, {dec:.6f}deg]"
        shape = f"circle[{center}, {extension:.6f}deg]" if extension > 0 else f"symbol[{center}, +]"
        yield f"{shape}, coord=ICRS, label='{name}'\n"


def numbers(catalogue: Table, name: str) -> NDArray[np.float64]:
    """Values of a column; 0 where there is none, as in runs of earlier releases."""
    there = name in catalogue.colnames
    return np.asarray(catalogue[name], np.float64) if there else np.zeros(len(catalogue))


_DS9 = "# Region file format: DS9\n", "icrs\n"


def _rows(catalogue: Table, radii: Any) -> Iterator[tuple[float, float, float, str, int]]:
    # Names are letters, digits and signs: no format needs them escaped.
    return zip(catalogue["ra"], catalogue["dec"], radii, catalogue["name"], catalogue["flags"], strict=True)
