"""What the header of a table of HEALPix pixels says: frame, ordering, size of pixels, and region of a part."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from cwt_dask.config.events import FRAMES as WORDS
from cwt_dask.config.validation import MOST_NSIDE, shown
from cwt_dask.cwt.arrays import Ints
from cwt_dask.errors import SurveyError
from cwt_dask.geometry.healpix import order_of, pixels_about, ring_of
from cwt_dask.survey.sphere import FRAMES

FRAME_OF_WORD = dict(zip(WORDS, ("galactic", "icrs"), strict=True))
_REGION = re.compile(r"\s*([A-Z_]+)\s*\((.*)\)\s*", re.IGNORECASE)


def frame_of(header: Any, hdu: str, where: str, given: str | None) -> str:
    """Find the frame of a map, as astropy calls it.

    Parameters
    ----------
    header : mapping
        Of the table.
    hdu : str
        Its name.
    where : str
        The map, for messages.
    given : str or None
        The frame by the option, of files that do not say.

    Raises
    ------
    SurveyError
        If nothing says it, it is another one than `given`, or one that is not read.
    """
    told = str(header.get("COORDSYS", "")).strip().upper()
    if told and told not in FRAMES:
        raise SurveyError(f"{where} has COORDSYS = {told}: GAL and CEL are read, transform it to one of them")
    if told:
        if given and FRAME_OF_WORD[given] != FRAMES[told]:
            raise SurveyError(
                f"{where} has COORDSYS = {told}, which is not the frame {given} that was given: leave out --frame, or "
                "correct the header"
            )
        return FRAMES[told]
    if given:
        return FRAME_OF_WORD[given]
    if str(header.get("HPX_CONV", "")).strip().upper().startswith("FGST") or hdu.upper() == "HPXEXPOSURES":
        return "galactic"
    raise SurveyError(
        f"{where} does not say its frame, COORDSYS: say it, --frame gal or --frame icrs, or write it into the header"
    )


def is_ring(header: Any, where: str) -> bool:
    """Whether pixels are numbered in the RING scheme, not NESTED.

    Raises SurveyError if the header does not say.
    """
    ordering = str(header.get("ORDERING", "")).strip().upper()
    if ordering not in ("RING", "NESTED", "NEST"):
        raise SurveyError(f"{where} has ORDERING = {shown(ordering)}: say RING or NESTED in its header")
    return ordering == "RING"


def nsides_of(header: Any, bands: Any, n_bands: int, where: str) -> list[int]:
    """NSIDE of each band: of the table of bands, which wins, else of the header.

    Parameters
    ----------
    header : mapping
        Of the table of pixels.
    bands : astropy HDU or None
        The table of bands.
    n_bands : int
        How many there are.
    where : str
        The map, for messages.

    Raises
    ------
    SurveyError
        If one is no power of two, or too large.
    """
    if bands is not None and "NSIDE" in {name.upper() for name in bands.columns.names}:
        found = [int(nside) for nside in bands.data["NSIDE"]]
        if len(found) == n_bands:
            return [_checked(nside, where) for nside in found]
    nside = header.get("NSIDE")
    if nside is None and isinstance(header.get("ORDER"), int) and header["ORDER"] >= 0:
        nside = 1 << header["ORDER"]
    return [_checked(nside, where)] * n_bands


def _checked(nside: Any, where: str) -> int:
    if not isinstance(nside, int) or isinstance(nside, bool) or nside < 1:
        raise SurveyError(f"{where} has NSIDE = {shown(nside)}: correct its header")
    if nside & (nside - 1):
        raise SurveyError(
            f"{where} has NSIDE = {nside}, no power of two, so that its pixels make no cells: bin the events to one "
            f"that is, such as {1 << nside.bit_length() - 1}"
        )
    if nside.bit_length() - 1 > _MOST_FINE:
        raise SurveyError(f"{where} has NSIDE = {nside}, and pixels are numbered up to {1 << _MOST_FINE}: sum them")
    return nside


# Orders that fit pixel numbers with room to spare.
_MOST_FINE = 24


def refuse_too_fine(nside: int, where: str) -> None:
    """Raise SurveyError if a whole sky of such pixels is more than is read."""
    if nside > MOST_NSIDE:
        raise SurveyError(
            f"{where} has NSIDE = {nside}, {12 * nside**2:.2g} pixels, and skies up to {MOST_NSIDE} are analysed: sum "
            f"its counts to larger pixels, --nside {MOST_NSIDE} or less, or make flat maps of the part that matters"
        )


@dataclass(frozen=True)
class Region:
    """The part of the sky that a map was made of."""

    text: str  # HPX_REG.
    kind: str
    # Centre and radius in degrees, in the frame of the map.
    lon: float
    lat: float
    radius: float

    @classmethod
    def of(cls, header: Any, where: str) -> Region | None:
        """Read it from a header; None where there is none, or it is the whole sky.

        Raises SurveyError if it is of a kind that is not read.
        """
        text = str(header.get("HPX_REG", header.get("HPXREGION", ""))).strip()
        if text.upper() in ("", "ALLSKY", "NONE"):
            return None
        match = _REGION.fullmatch(text)
        kind = match[1].upper() if match else ""
        try:
            lon, lat, radius = map(float, match[2].split(",")[:3] if match else ())
        except ValueError:
            kind = ""
        if kind not in ("DISK", "DISK_INC") or not (abs(lat) <= 90 and 0 < radius <= 180 and abs(lon) <= 360):
            raise SurveyError(
                f"{where} has HPX_REG = {shown(text)}, and DISK(LON,LAT,RADIUS) and DISK_INC are read: write the map "
                "as EXPLICIT"
            )
        return cls(text, kind, lon, lat, radius)

    def numbers(self, nside: int, *, ring: bool) -> Ints:
        """Numbers of the pixels in it, ascending.

        Parameters
        ----------
        nside : int
            Of the map.
        ring : bool
            Whether they are of the RING scheme.
        """
        order = order_of(nside)
        found = pixels_about(self.lon, self.lat, self.radius, order, by_centre=self.kind == "DISK")
        return np.sort(ring_of(found, order) if ring else found)
