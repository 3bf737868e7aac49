"""Whether planes belong to the counts: the same pixels, sky and bands; an error where they were asked for."""

from __future__ import annotations

from collections.abc import Iterator

from cwt_dask.config.validation import counted
from cwt_dask.errors import SurveyError
from cwt_dask.survey.bands import MisfitError
from cwt_dask.survey.choice import Chosen
from cwt_dask.survey.exposure import Weighting, weigh
from cwt_dask.survey.fits_plane import FitsPlane
from cwt_dask.survey.healpix_plane import HealpixPlane
from cwt_dask.survey.source import NOTE, OPTIONAL
from cwt_dask.survey.wcs import celestial_header, refuse_other_axes, same_sky

# Rows and columns of a map. A strip is at least a row, which takes 150 bytes a pixel; sums are kept of all rows.
_LONGEST = 2**22

Plane = FitsPlane | HealpixPlane


def header_of_counts(counts: Plane) -> str:
    """Check the counts, and give their WCS cards."""
    if max(counts.shape) > _LONGEST:
        raise SurveyError(
            f"{counts.where} is {counts.shape[0]} x {counts.shape[1]} pixels (y, x), and a map may have up to "
            f"{_LONGEST} rows and columns: cut it into several"
        )
    header_text = sky_of(counts)
    if header_text is None:
        raise SurveyError(
            f"{counts.where} has no celestial WCS (CTYPE1 = {counts.header.get('CTYPE1')}, "
            f"CTYPE2 = {counts.header.get('CTYPE2')}): give a map with sky coordinates"
        )
    return header_text


def sky_of(plane: Plane) -> str | None:
    """The WCS cards of a plane; MisfitError if they cannot be used."""
    if isinstance(plane, HealpixPlane):
        return plane.sky_text
    try:
        refuse_other_axes(plane.header, plane.where)
        return celestial_header(plane.header, plane.shape, plane.where)
    except SurveyError as error:
        reason, _, remedy = str(error).rpartition(": ")
        raise MisfitError(reason, remedy) from error


def _leave_out(name: str) -> str:
    return f", or leave it out, --{name}-hdu none" if name in OPTIONAL else ""


def weighting_of(plane: Plane, counts: Plane, chosen: Chosen, index: float) -> Weighting:
    """Find how an exposure's planes make that of the bands.

    Parameters
    ----------
    plane, counts : Plane
        The exposure, and the counts.
    chosen : Chosen
        The bands of the counts that are taken.
    index : float
        Photon index of the power law.

    Raises
    ------
    MisfitError
        If they cannot make it.
    """
    found = weigh(plane.bands, plane.n_bands, counts.bands, chosen, index)
    if found:
        return found
    if plane.bands.edges is None or chosen.bins is None:
        if counts.n_bands == 1 and chosen.bins is None and counts.header.get("NLISTS"):
            raise MisfitError(
                f"{plane.where} has {plane.n_bands} planes, and of {counts.where} not both energies are known",
                f"give them, --emin E --emax E{_leave_out('exposure')}",
            )
        if plane.n_bands != counts.n_bands:
            raise _other_bands("exposure", plane, counts)
        raise _other_energies("exposure", plane, counts)
    raise MisfitError(
        f"{plane.where} has {plane.bands.kind}, but {counts.where} has {counts.bands.kind}: they do not cover the "
        f"bands taken, {chosen.energies}",
        f"choose others, --emin E --emax E{_leave_out('exposure')}",
    )


def _other_bands(name: str, plane: Plane, counts: Plane) -> MisfitError:
    return MisfitError(
        f"{plane.where} has {counted(plane.n_bands, 'band')}, but {counts.where} has {counts.n_bands}",
        f"give maps of the same bands{_leave_out(name)}",
    )


def _other_energies(name: str, plane: Plane, counts: Plane) -> MisfitError:
    return MisfitError(
        f"{plane.where} has {plane.bands.kind}, but {counts.where} has {counts.bands.kind}",
        f"give maps of the same bands{_leave_out(name)}",
    )


def refuse_misfit(name: str, plane: Plane, counts: Plane, header_text: str) -> None:
    """Refuse a plane without the pixels and the bands of the counts, by a MisfitError.

    Parameters
    ----------
    name : str
        Which plane.
    plane, counts : Plane
        It, and the counts.
    header_text : str
        The WCS cards of the counts.
    """
    # One mask may serve all bands; the background of one band is not that of another, but one that was estimated is of
    # those that are taken; exposures are weighted.
    for_all = plane.n_bands == 1 and (name == "mask" or NOTE in plane.header)
    if name != "exposure" and plane.n_bands != counts.n_bands and not for_all:
        raise _other_bands(name, plane, counts)
    if isinstance(plane, HealpixPlane) != isinstance(counts, HealpixPlane):
        raise MisfitError(
            f"one of {plane.where} and {counts.where} is a map of the sphere, the other an image",
            f"give maps of one kind{_leave_out(name)}",
        )
    if plane.shape != counts.shape:
        raise MisfitError(
            f"{plane.where} is {plane.shape[0]} x {plane.shape[1]} pixels (y, x), but {counts.where} is "
            f"{counts.shape[0]} x {counts.shape[1]}",
            f"give maps of one shape{_leave_out(name)}",
        )
    if (
        name != "exposure"
        and plane.n_bands > 1
        and (plane.bands.true != counts.bands.true or plane.bands.same_energies(counts.bands) is False)
    ):
        raise _other_energies(name, plane, counts)
    other = sky_of(plane)
    if other is not None and not same_sky(header_text, other, counts.shape):
        frames = [str(each.header.get("CTYPE1")).partition("-")[0] for each in (plane, counts)]
        raise MisfitError(
            f"{plane.where} and {counts.where} cover different sky: their WCS differ"
            f"{f' ({frames[0]} and {frames[1]})' if len(set(frames)) > 1 else ''}",
            f"give maps of one sky{_leave_out(name)}",
        )


def doubts_about(exposure: Plane, counts: Plane) -> Iterator[str]:
    """Warn of what is not known of an exposure's energies, or not applied to it."""
    if exposure.n_bands == counts.n_bands > 1 and exposure.bands.same_energies(counts.bands) is None:
        yield (
            f"exposure has {counts.n_bands} planes as the counts have, and nothing says that they are of the same "
            "energies: they are taken so, and fluxes are wrong if they are not"
        )
    if exposure.has_dispersion:
        yield (
            "energy dispersion (HDU EDISP) is not applied to the exposure: photon fluxes take measured energies for "
            "true ones, and are some percent (HESS) to 15 % (HAWC) too large"
        )
