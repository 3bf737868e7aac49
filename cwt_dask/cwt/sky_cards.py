"""The cards of a header that place an image on the sky, spelled so that astropy reads what they mean.

A number that astropy cannot read counts as absent, which leaves the default, and with it another sky; of one with
Fortran's exponent, ``1.5D2``, it reads the part before the D. A frame in small letters is none to it.
"""

from __future__ import annotations

import math
import re
from typing import Any

from astropy.io import fits

from cwt_dask.errors import InputError

# Kinds of longitude that astropy takes for right ascension.
ECLIPTIC = ("ELON", "HLON")
# Positions, or their frame, depend on these numbers.
_NUMBER = re.compile(
    r"""(CRPIX|CRVAL|CDELT|CROTA)[12]
      | (PC|CD)([12]_[12]|00[12]00[12])
      | PV[12]_\d+
      | (A|B|AP|BP)_(DMAX|\d+_\d+)
      | LONPOLE | LATPOLE | EQUINOX | EPOCH""",
    re.VERBOSE,
)
# Pixels and angles, which go on beyond the circle. In milliarcseconds it is 1.3e9; up to here float64 keeps positions
# to a millionth of the unit, beyond 1e16 nothing is left of them.
_BOUNDED = re.compile(r"(CRPIX|CRVAL|CDELT|CROTA)[12]|PV1_[1-4]|LONPOLE|LATPOLE")
_LARGEST_NUMBER = 2e9
_EQUINOX = ("EQUINOX", "EPOCH")
_YEAR = re.compile(r" *[JB]?([0-9]+\.?[0-9]*) *", re.IGNORECASE)
_SYSTEM = ("RADESYS", "RADECSYS")
_SYSTEM_NAME = re.compile(r"\W*(ICRS|ICRF|FK5|FK4-NO-E|FK4|J?2000|B?1950)")
_STANDARD = {"ICRF": "ICRS", "J2000": "FK5", "2000": "FK5", "B1950": "FK4", "1950": "FK4"}
_SIP = re.compile(r"(A|B|AP|BP)_(ORDER|DMAX|\d+_\d+)")
_SCAMP = re.compile(r"PV[12]_([5-9]|[1-9]\d)")
_AXES = (1, 2)
_EQUATORIAL = ("RA--", "DEC-")
_SKY_AXIS = re.compile(r"(RA--|DEC-|[A-Z]LON|[A-Z]LAT|[A-Z]{2}L[NT])-.*")


def with_inherited(header: fits.Header, primary: fits.Header) -> fits.Header:
    """The header of an HDU; with ``INHERIT = T`` the cards that it lacks are those of a primary HDU without data."""
    if header.get("INHERIT") not in (True, "T") or primary.get("NAXIS"):
        return header
    header = header.copy()
    header.extend(primary, unique=True)
    return header


def sky_axes(header: Any) -> dict[int, str]:
    """CTYPE of the axes of longitude and latitude, by their numbers in FITS, from 1."""
    kinds = {axis: _kind(header, axis) for axis in range(1, header.get("NAXIS", 0) + 1)}
    return {axis: kind for axis, kind in kinds.items() if _SKY_AXIS.fullmatch(kind)}


def plainly_spelled(header: fits.Header) -> fits.Header:
    """Give the header in a form that astropy's WCS reads correctly.

    Raises InputError, saying no more than what is wrong, if no other spelling mends it.
    """
    # A header that is made of another's cards shares them.
    plain = fits.Header([_plain(card) for card in header.copy().cards])
    for axis in _AXES:
        if _SKY_AXIS.fullmatch(kind := _kind(plain, axis)):
            _put(plain, f"CTYPE{axis}", kind)
    for keyword in _SYSTEM if _kind(plain, 1).startswith(_EQUATORIAL) else ():
        # Others than equatorial coordinates have none.
        if match := _SYSTEM_NAME.match(given := str(plain.get(keyword, "")).upper()):
            _put(plain, keyword, _STANDARD.get(match[1], match[1]))
        elif given:
            raise InputError(f"{keyword} is {given}, none of ICRS, FK5 and FK4")
    if _has_tpv(plain):
        # Of the two distortions astropy applies this one alone.
        plain = fits.Header([card for card in plain.cards if not _SIP.fullmatch(card.keyword)])
    if has_unannounced_sip(plain):
        for axis in _AXES:
            _put(plain, f"CTYPE{axis}", f"{_kind(plain, axis).removesuffix('-SIP')}-SIP")
    return plain


def has_unannounced_sip(header: Any) -> bool:
    """Whether astropy applies SIP coefficients although a CTYPE does not end in -SIP."""
    order = header.get("A_ORDER")
    announced = all(_kind(header, axis).endswith("-SIP") for axis in _AXES)
    return isinstance(order, int) and order > 1 and not announced and not _has_tpv(header)


def _has_tpv(header: Any) -> bool:
    """Whether there is the distortion TPV, as its CTYPE says, or as SCAMP wrote it before it had one."""
    codes = {_kind(header, axis)[5:] for axis in _AXES}
    return codes == {"TPV"} or (codes == {"TAN"} and any(map(_SCAMP.fullmatch, header)))


def _plain(card: fits.Card) -> fits.Card:
    """The same card: a number's exponent after an E, an equinox as a number.

    Raises InputError if a number that decides on positions is none.
    """
    if not _NUMBER.fullmatch(card.keyword):
        return card
    try:
        value = card.value
    except fits.VerifyError:  # neither number nor text, such as 184.5e or NaN
        value = None
    if card.keyword in _EQUINOX and isinstance(value, str) and (match := _YEAR.fullmatch(value)):
        return fits.Card(card.keyword, float(match[1]))
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{card.keyword} is not a number")
    if math.isinf(value):
        raise InputError(f"{card.keyword} is not finite")
    if abs(value) > _LARGEST_NUMBER and _BOUNDED.fullmatch(card.keyword):
        raise InputError(f"{card.keyword} is {value:g}, beyond {_LARGEST_NUMBER:g}")
    if "D" not in card.image[10:].partition("/")[0].upper():
        return card
    return fits.Card.fromstring(f"{card.keyword:8}= {value!r:>20}".upper())


def _put(header: fits.Header, keyword: str, value: str) -> None:
    """Give a card another value; one that has it stays as it is spelled."""
    if header.get(keyword) != value:
        header[keyword] = value


def _kind(header: Any, axis: int) -> str:
    return str(header.get(f"CTYPE{axis}", "")).strip().upper()
