"""Drawing with matplotlib, which is an extra: loaded where something is drawn, and nowhere else."""

from __future__ import annotations

from typing import Any

from astropy.wcs import WCS

from cwt_dask.errors import InputError

# By the kind of longitude that a WCS has.
_AXIS_LABELS = {
    "RA": ("Right ascension", "Declination"),
    "GLON": ("Galactic longitude", "Galactic latitude"),
    "ELON": ("Ecliptic longitude", "Ecliptic latitude"),
}


def label_sky(ax: Any) -> None:
    """Name longitude and latitude on WCSAxes in words, with ticks that have room; other axes are left as they are."""
    coordinates, wcs = getattr(ax, "coords", None), getattr(ax, "wcs", None)
    if coordinates is None or not isinstance(wcs, WCS):
        return
    names = _AXIS_LABELS.get(wcs.wcs.lngtyp.strip(), ("Longitude", "Latitude"))
    for axis, name in zip((wcs.wcs.lng, wcs.wcs.lat), names, strict=True):
        coordinates[axis].set_axislabel(name)
        # Else those of a map's short side are written over each other.
        coordinates[axis].set_ticklabel(exclude_overlapping=True)


def pyplot() -> Any:
    """Import matplotlib; InputError says how to install it where it is missing, and what of its settings is broken."""
    try:
        import matplotlib.pyplot as plt  # noqa: PLC0415 (an optional extra)
    except ImportError as error:
        raise InputError("plotting needs matplotlib: pip install 'cwt_dask[plot]'") from error
    except Exception as error:  # whatever a matplotlibrc of others makes of it
        raise InputError(f"matplotlib cannot be loaded ({error}): look at MPLBACKEND and matplotlibrc") from error
    return plt
