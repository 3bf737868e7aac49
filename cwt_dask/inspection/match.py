"""Sources of a run matched with an external catalogue: which belong together, and how many would by chance."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from os import PathLike

import numpy as np
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.table import Table
from numpy.typing import NDArray

from cwt_dask.config.validation import counted, shown
from cwt_dask.cwt.arrays import numpys_own
from cwt_dask.errors import InputError
from cwt_dask.inspection.external import ExternalCatalogue, read_external_catalogue
from cwt_dask.pipeline.merging import cover
from cwt_dask.products.files import keep_catalogue, write_associations, write_catalogue
from cwt_dask.results import SurveyRun
from cwt_dask.runtime.signals import Stop
from cwt_dask.runtime.terminal import visible
from cwt_dask.storage.paths import backend_of, remove
from cwt_dask.survey.sphere import is_on_sphere

# The farthest shift is 16 radii: less than halfway round the sky.
LARGEST_RADIUS = 10.0
# Positions are moved towards Galactic east, so that they keep their distance to the plane, where sources are dense: so
# many times as far as this, or as four radii, to both sides.
LEAST_SHIFT = 1.0
SHIFTS = (-4, -3, -2, -1, 1, 2, 3, 4)
EAST = 90 * units.deg


@dataclass(frozen=True)
class Match:
    """What belongs together."""

    external: ExternalCatalogue
    radius: float  # In degrees.
    inside: NDArray[np.bool_]  # Which of the other's sources lie on pixels of the map that take part.
    nearest: NDArray[np.int64]  # Of each source of the run, the other's nearest; -1 where none is within the radius.
    separation: NDArray[np.float64]  # Its distance in degrees, NaN where there is none.
    found: NDArray[np.bool_]  # Which of the other's sources have one of the run within the radius.
    # Share of the run's sources that are associated, and of the others that are found, at those of their shifted
    # positions that lie inside; NaN where none does.
    chance_associated: float
    chance_found: float


@numpys_own
def match_run(run: SurveyRun, catalogue: str | PathLike[str], radius: float | str, columns: str | None = None) -> Match:
    """Match a finished run's sources with a catalogue; nothing is written.

    Raises InputError if the run is not finished, the catalogue cannot be used, or the radius is no angle.

    Parameters
    ----------
    run : SurveyRun
        The run.
    catalogue : path-like
        As of `read_external_catalogue`.
    radius : float or str
        Largest distance, in degrees or as text such as ``"6 arcmin"``; within it the nearest is taken.
    columns : str, optional
        As of `read_external_catalogue`.
    """
    radius = _degrees(radius)
    external = read_external_catalogue(catalogue, columns)
    rows = run.catalogue
    sky = SkyCoord(rows["ra"], rows["dec"], unit="deg")
    nearest, separation = _nearest(sky, external.sky)
    within = separation <= radius
    inside = _inside(run, external.sky)
    return Match(
        external=external,
        radius=radius,
        inside=inside,
        nearest=np.where(within, nearest, -1),
        separation=np.where(within, separation, np.nan),
        found=_nearest(external.sky, sky)[1] <= radius,
        chance_associated=_by_chance(run, sky, external.sky, radius),
        chance_found=_by_chance(run, external.sky, sky, radius),
    )


def describe_match(found: Match) -> list[str]:
    """Summarize a match in lines of text."""
    n, n_associated = len(found.nearest), int((found.nearest >= 0).sum())
    n_inside, n_found = int(found.inside.sum()), int((found.found & found.inside).sum())
    by_chance = _expected(found.chance_associated, n, found.radius)
    found_by_chance = _expected(found.chance_found, n_inside, found.radius)
    other = found.external
    names = other.called or "none: rows are numbered"
    left_out = {"have no position": other.n_without_position, "stand as comments": other.n_comments}
    also = "".join(f"; {number} more {why}" for why, number in left_out.items() if number)
    lines = [
        f"catalogue      {other.label}: {counted(len(found.inside), 'source')}, {n_inside} inside the map{also}",
        f"columns        positions of {other.place} ({other.place.frame}), names of {names}",
        f"radius         {found.radius:g} deg",
        f"associated     {n_associated} of {n} sources; by chance {by_chance}",
        f"found          {n_found} of the {n_inside} inside; by chance {found_by_chance}",
    ]
    # They become part of files, too.
    return [visible(line) for line in lines]


def _expected(share: float, n: int, radius: float) -> str:
    if n and math.isnan(share):
        return f"unknown: the map is narrower than the shifts, {_step(radius):g} deg or more"
    return f"{share * n if n else 0:.1f}"


def associate(run: SurveyRun, found: Match) -> None:
    """Write associations into their own file, and as columns `assoc_name` and `assoc_sep` into all of the catalogue.

    Those of an earlier match are replaced. The certificate is sealed again: it covers these files, too.

    Raises InputError if nothing of the catalogue is near the map, or another process holds the run, InterruptedRun if
    one has taken hold of it since.
    """
    if not (found.inside.any() or (found.nearest >= 0).any()):
        other = found.external
        raise InputError(
            f"{other.label} has no source inside the map, by {other.place} ({other.place.frame}): if they are in "
            "another frame say so, as by --columns LON,LAT,galactic"
        )
    files, stop = run.files, Stop()
    with backend_of(files.path).hold(files, stop.ask):
        rows, certificate = run.catalogue, run.certificate
        associated = found.nearest >= 0
        names, sky = found.external.names[found.nearest], found.external.sky[found.nearest]
        rows["assoc_name"] = np.where(associated, names, "")
        rows["assoc_sep"] = np.round(found.separation, 7)
        rows["assoc_sep"].unit = units.deg
        rows["assoc_name"].description = f"Nearest source within {found.radius:g} deg in {found.external.label}"
        rows["assoc_sep"].description = "Its distance"
        rows.meta |= {"ASSOC": found.external.label, "ASSOCRAD": found.radius}
        # Neither FITS headers nor JSON have a NaN; an earlier match may have left a number.
        rows.meta.pop("ASSOCBYC", None)
        if math.isfinite(found.chance_associated):
            rows.meta["ASSOCBYC"] = found.chance_associated
        columns = ["source_id", "name", "ra", "dec", "pos_err", "assoc_name", "assoc_sep"]
        table = Table(rows[columns][associated], copy=True)
        table["assoc_ra"], table["assoc_dec"] = sky[associated].ra, sky[associated].dec
        table.meta = dict(
            zip(("catalogue", "columns", "radius", "associated", "found"), describe_match(found), strict=True)
        )
        # Another driver may have taken the lease meanwhile.
        stop.check()
        keep_catalogue(files, certificate)
        write_catalogue(files, rows)
        write_associations(files, table)
        catalogues = files.catalogue, files.catalogue_fits, files.catalogue_votable, files.catalogue_regions
        cover(files, certificate, [*catalogues, files.associations])
        remove(files.catalogue_before)


def _degrees(radius: float | str) -> float:
    angle = math.nan
    with suppress(ValueError, TypeError):
        quantity = units.Quantity(radius)
        angle = float(quantity.value if quantity.unit == units.one else quantity.to_value(units.deg))
    if not 0 < angle <= LARGEST_RADIUS:
        raise InputError(
            f"radius is {shown(radius)}: it must be an angle above 0 and of at most {LARGEST_RADIUS:g} deg, such as "
            "0.1 or 6arcmin"
        )
    return angle


def _nearest(sky: SkyCoord, others: SkyCoord) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Of each position the nearest other, and how far it is in degrees."""
    if not (len(sky) and len(others)):
        return np.full(len(sky), -1), np.full(len(sky), np.inf)
    nearest, separation, _ = sky.match_to_catalog_sky(others)
    return np.asarray(nearest), np.asarray(separation.deg)


def _step(radius: float) -> float:
    return max(LEAST_SHIFT, 4 * radius)


def _by_chance(run: SurveyRun, sky: SkyCoord, others: SkyCoord, radius: float) -> float:
    """Share of positions that have another within the radius when they are shifted, of those that are then inside."""
    galactic = sky.galactic
    shifted = (galactic.directional_offset_by(EAST, shift * _step(radius) * units.deg).icrs for shift in SHIFTS)
    # Of a catalogue of the whole sky few are near the map: no more are held.
    near = [moved[_pixels(run, moved)[0]] for moved in shifted]
    moved = SkyCoord(np.concatenate([each.ra for each in near]), np.concatenate([each.dec for each in near]))
    inside = moved[_inside(run, moved)]
    return float(np.mean(_nearest(inside, others)[1] <= radius)) if len(inside) else math.nan


def _inside(run: SurveyRun, sky: SkyCoord) -> NDArray[np.bool_]:
    """Which positions lie on pixels that take part."""
    inside, row, column = _pixels(run, sky)
    if inside.any():
        # On the sphere by the survey's own pixels: those of facets may belong to another one at its border.
        mask = run.survey.array("mask") if is_on_sphere(run.wcs) else run.stored_map("mask")
        inside[inside] = mask.vindex[row[inside], column[inside]] != 0
    return inside


def _pixels(run: SurveyRun, sky: SkyCoord) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """Which positions lie on the map; and row and column of each."""
    on_sphere = is_on_sphere(run.wcs)
    height, width = run.survey.shape if on_sphere else run.stored.plan.grid.map_box.shape
    x, y = (run.survey.wcs if on_sphere else run.wcs).world_to_pixel(sky)
    known = np.isfinite(x) & np.isfinite(y)
    column, row = (np.rint(np.where(known, axis, -9)).astype(np.int64) for axis in (x, y))
    if run.stored.plan.grid.ring:
        column = np.where(known, column % width, -9)
    return (row >= 0) & (row < height) & (column >= 0) & (column < width), row, column
