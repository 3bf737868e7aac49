"""The sky coordinates of a map: kept as the header's own cards, so that not a bit of them is lost.

`astropy.wcs.WCS.to_header` prints twelve digits and translates keywords; a WCS that went through it gives other
positions. Only where a cylindrical map lies so far from its reference that astropy would give columns no position do
the cards change: the reference moves to the map's middle.
"""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning
from astropy.wcs.utils import proj_plane_pixel_scales, wcs_to_celestial_frame
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import Bools, Floats
from cwt_dask.cwt.sky_cards import ECLIPTIC, has_unannounced_sip, plainly_spelled, sky_axes
from cwt_dask.errors import SurveyError
from cwt_dask.survey.headers import damage_named
from cwt_dask.survey.sphere import SkyImage, is_on_sphere

_KEPT = re.compile(
    r"""(CTYPE|CUNIT|CRPIX|CRVAL|CDELT|CROTA|CNAME|CRDER|CSYER)[12]
      | (PC|CD)([12]_[12]|00[12]00[12])
      | (PV|PS)[12]_\d+
      | WAT[012]_\d{3}
      | (A|B|AP|BP)_(ORDER|DMAX|\d+_\d+)
      | LONPOLE | LATPOLE | RADESYS | RADECSYS | EQUINOX | EPOCH | WCSNAME | DATE-OBS | MJD-OBS""",
    re.VERBOSE,
)
# Axes, and orders of polynomials: one digit is all that the conventions allow.
_MOST = dict.fromkeys(("WCSAXES", *(f"{name}_ORDER" for name in ("A", "B", "AP", "BP"))), 9)
_LEAST_PIXEL_DEG, _LARGEST_PIXEL_DEG = 1e-9, 180.0
_LOOKUP_TABLE = re.compile(r"(CPDIS|CQDIS|CPERR|CQERR|DP|DQ)\d.*|D2IM.*|AXISCORR")

# Equal intervals of native longitude are equal intervals of x.
_CYLINDRICAL = ("CAR", "CEA", "MER", "CYP")
_COLUMN_TOLERANCE = 0.1
_POLE = 90.0
_SAME_SKY_PIXELS = 1e-3
_GRID_POINTS = 33


def wcs_from_text(text: str) -> Any:
    """Build the WCS, of two axes, from the cards that `celestial_header` kept; of the sphere what stands for one."""
    if sphere := SkyImage.of_text(text):
        return sphere
    with warnings.catch_warnings():
        # About old spellings that astropy reads all the same.
        warnings.simplefilter("ignore", FITSFixedWarning)
        return WCS(fits.Header.fromstring(text, sep="\n"))


def frame_of(wcs: Any) -> Any:
    """The frame of a map's positions, as astropy takes it."""
    return wcs.frame if is_on_sphere(wcs) else wcs_to_celestial_frame(wcs)


def is_galactic(wcs: Any) -> bool:
    """Whether a map's positions are Galactic longitudes and latitudes."""
    frame = frame_of(wcs)
    return bool(getattr(frame, "name", frame) == "galactic")


def refuse_other_axes(header: Any, where: str) -> None:
    """Raise SurveyError if longitude and latitude are not the first two axes of an image."""
    with damage_named(*_fault(where)):
        axes = sky_axes(header)
    if len(axes) == 2 and list(axes) != [1, 2]:
        first, second = axes
        raise SurveyError(
            f"{where} has the sky on its axes {first} and {second} (CTYPE{first} = {axes[first]}, CTYPE{second} = "
            f"{axes[second]}), not on the first two: write it with the others after them"
        )


def remarks(header: Any) -> tuple[str, ...]:
    """Warnings about what is odd in an image's sky coordinates, and was taken as astropy takes it."""
    warning = "the header has SIP coefficients, but no -SIP in CTYPE: they are applied; remove them if the map has none"
    return (warning,) if has_unannounced_sip(header) else ()


def celestial_header(header: Any, shape: tuple[int, int], where: str) -> str | None:
    """Keep the cards that define the sky coordinates of an image's two axes.

    Parameters
    ----------
    header : astropy.io.fits.Header
    shape : tuple of int
        Rows and columns.
    where : str
        The image, for messages.

    Returns
    -------
    str or None
        The cards of the header, one a line; None where the two axes are not a pair of celestial ones. In cylindrical
        maps with columns more than 180 deg from the reference the reference is moved.

    Raises
    ------
    SurveyError
        If the coordinates depend on more than these cards, or are not understood, or a number is malformed.
    """
    for keyword in header:
        if _LOOKUP_TABLE.fullmatch(keyword):
            raise SurveyError(f"{where} has {keyword}: distortions by lookup table cannot be kept; resample the maps")
    with np.errstate(all="ignore"), damage_named(*_fault(where)):
        return _celestial_cards(plainly_spelled(header), shape, where)


def _fault(where: str) -> tuple[str, str]:
    return f"the WCS of {where} cannot be used", "correct its header"


def _celestial_cards(header: Any, shape: tuple[int, int], where: str) -> str | None:
    kind = f"CTYPE1 = {header.get('CTYPE1')}, CTYPE2 = {header.get('CTYPE2')}"
    if "-TAB" in kind:
        raise SurveyError(f"{where} has {kind}: a table of coordinates cannot be kept; resample the maps")
    for keyword, most in _MOST.items():
        if keyword in header and not (isinstance(header[keyword], int) and 0 <= header[keyword] <= most):
            # It would be taken for the size of an array.
            raise SurveyError(f"{where} has {keyword} = {header[keyword]}: it must be at most {most}")
    # Not WCS(header, naxis=2): that refuses units which are put right only after it chose the axes.
    original = WCS(header)
    if original.naxis > 2:
        original = original.sub(2)
    if not original.has_celestial:
        return None
    if original.wcs.lngtyp.strip() in ECLIPTIC:
        raise SurveyError(
            f"{where} is in ecliptic coordinates ({kind}), which astropy takes for equatorial ones: project the maps "
            "to Galactic or equatorial coordinates"
        )
    wcs_to_celestial_frame(original)
    text = "\n".join(card.image.rstrip() for card in header.cards if _KEPT.fullmatch(card.keyword))
    if not _identical(original, wcs_from_text(text), shape):
        raise SurveyError(f"the WCS of {where} ({kind}) does not survive: resample the maps")
    text = centred(text, shape)
    scale = pixel_scale(wcs_from_text(text), shape)
    if not _LEAST_PIXEL_DEG <= scale <= _LARGEST_PIXEL_DEG:
        raise SurveyError(f"{where} has pixels of {scale:g} deg: correct the WCS in its header")
    return text


def centred(text: str, shape: tuple[int, int]) -> str:
    """Give the cards of the same sky with its reference in the map's middle, where columns get no position otherwise.

    astropy gives none to what is more than 180 deg of native longitude from the projection's centre, although it is
    good sky. Switching its check off (``bounds_check``) does not help: copies and cutouts of a WCS check again, rows
    beyond the poles get latitudes above 90 deg, and positions are converted to pixels outside of the map.
    """
    wcs = wcs_from_text(text)
    circle = columns_of_circle(wcs)
    if np.isinf(circle) or _columns_on_sky(wcs, shape[1]).all():
        return text
    middle = (shape[1] + 1) / 2
    # As native longitude, in degrees.
    step = np.sign(wcs.pixel_scale_matrix[0, 0]) * (middle - wcs.wcs.crpix[0]) * 360 / circle
    header = fits.Header.fromstring(text, sep="\n")
    header["CRPIX1"] = middle
    in_degrees = str(header.get("CUNIT1", "")).strip().lower() in ("", "deg", "degree", "degrees")
    if abs(wcs.wcs.latpole) == _POLE and in_degrees:
        header["CRVAL1"] = float((wcs.wcs.crval[0] + np.sign(wcs.wcs.latpole) * step) % 360)
    else:
        # The same point of the sky stays the reference, but is no longer that of CRPIX.
        header["PV1_1"] = float(np.remainder(wcs.wcs.phi0 - step + 180, 360) - 180)
        header["PV1_2"] = float(wcs.wcs.theta0)
        header.pop("PV1_3", None)  # says the same as LONPOLE, and would win
        header["LONPOLE"] = float(np.remainder(wcs.wcs.lonpole - step + 180, 360) - 180)
    return "\n".join(card.image.rstrip() for card in header.cards)


def grid_of(shape: tuple[int, int]) -> tuple[Floats, Floats]:
    """Pixels spread over the map from edge to edge: x and y."""
    y, x = (np.linspace(0, length - 1, _GRID_POINTS) for length in shape)
    return np.meshgrid(x, y)


def _identical(one: WCS, other: WCS, shape: tuple[int, int]) -> bool:
    """Whether both give every pixel of a grid the same position in the same frame, to the last bit."""
    positions = zip(one.all_pix2world(*grid_of(shape), 0), other.all_pix2world(*grid_of(shape), 0), strict=True)
    return all(np.array_equal(a, b, equal_nan=True) for a, b in positions) and bool(
        wcs_to_celestial_frame(one).is_equivalent_frame(wcs_to_celestial_frame(other))
    )


def same_sky(one: str, other: str, shape: tuple[int, int]) -> bool:
    """Whether two kept headers give the pixels the same positions, to a thousandth of a pixel; frames may differ.

    Parameters
    ----------
    one, other : str
        Cards, as `celestial_header` gives them.
    shape : tuple of int
        Rows and columns.
    """
    if one == other:
        return True
    first, second = wcs_from_text(one), wcs_from_text(other)
    if is_on_sphere(first) or is_on_sphere(second):
        return False
    apart = first.pixel_to_world(*grid_of(shape)).separation(second.pixel_to_world(*grid_of(shape))).deg
    # Off the sky positions are NaN; they must be so in both.
    off_sky = [np.isnan(wcs.all_pix2world(*grid_of(shape), 0)[0]) for wcs in (first, second)]
    return np.array_equal(*off_sky) and bool(np.all(apart[~off_sky[0]] <= _SAME_SKY_PIXELS * pixel_scale(first, shape)))


def pixel_scale(wcs: WCS, shape: tuple[int, int]) -> float:
    """Measure the size of a pixel at the map's centre, in degrees.

    It is the square root of the pixel's solid angle; where the centre is off the sky, of its area in the plane of
    projection. Six digits: more would make 0.6 deg something else than 6 pixels of 0.1 deg where the centre is half a
    pixel off the equator.
    """
    if is_on_sphere(wcs):
        return float(wcs.pixel_deg)
    y, x = ((length - 1) / 2 for length in shape)
    world = wcs.all_pix2world(x + np.array([-0.5, 0.5, 0, 0]), y + np.array([0, 0, -0.5, 0.5]), 0)
    lon, lat = np.radians(world[wcs.wcs.lng]), np.radians(world[wcs.wcs.lat])
    left, right, below, above = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)
    scale = np.degrees(np.sqrt(np.linalg.norm(np.cross(right - left, above - below))))
    if np.isnan(scale):
        scale = np.sqrt(np.prod(proj_plane_pixel_scales(wcs)))
    return float(f"{scale:.6g}")


def closes_circle(wcs: WCS, shape: tuple[int, int]) -> bool:
    """Whether the map's last column is the neighbour of its first: its columns span 360 deg, each once."""
    return abs(shape[1] - columns_of_circle(wcs)) < _COLUMN_TOLERANCE


def repeats_edge_column(wcs: WCS, shape: tuple[int, int]) -> bool:
    """Whether the map's last column is the same strip of sky as its first."""
    return abs(shape[1] - 1 - columns_of_circle(wcs)) < _COLUMN_TOLERANCE


def on_sky(wcs: WCS, rows: range, n_columns: int) -> Bools:
    """Find the pixels (rows, columns) whose centre has a sky position in this projection.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
        Two celestial axes.
    rows : range
        Rows of the map, from 0.
    n_columns : int
        Of the map.
    """
    if np.isinf(columns_of_circle(wcs)):
        # A row at a time: astropy holds ten numbers a pixel while it works.
        return np.stack([has_position(wcs, np.arange(n_columns), y) for y in rows])
    rows_on_sky = has_position(wcs, wcs.wcs.crpix[0] - 1, np.array(rows))
    return np.logical_and.outer(rows_on_sky, _columns_on_sky(wcs, n_columns))


def _columns_on_sky(wcs: WCS, n_columns: int) -> Bools:
    """Which columns of a cylindrical map get a position where they cross the row of the reference pixel."""
    return has_position(wcs, np.arange(n_columns), wcs.wcs.crpix[1] - 1)


def has_position(wcs: WCS, x: NDArray[Any] | float, y: NDArray[Any] | float) -> Bools:
    """Whether pixels have a sky position.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
    x, y : ndarray or float
        Columns and rows, from 0.
    """
    has: Bools = ~np.isnan(wcs.all_pix2world(x, y, 0)).any(axis=0)
    return has


def columns_of_circle(wcs: WCS) -> float:
    """Columns in 360 deg along every row of a cylindrical projection; infinite where rows do not close."""
    if is_on_sphere(wcs):
        return np.inf
    matrix = wcs.pixel_scale_matrix
    straight = wcs.wcs.lng == 0 and matrix[0, 1] == 0 and matrix[1, 0] == 0 and wcs.sip is None
    projection = wcs.wcs.ctype[0][5:8]
    if not straight or projection not in _CYLINDRICAL:
        return np.inf
    # CYP draws longitudes on a cylinder of radius PV2_2.
    radius = {m: value for i, m, value in wcs.wcs.get_pv() if i == 2}.get(2, 1.0) if projection == "CYP" else 1.0
    return float(360 * abs(radius / matrix[0, 0]))
