"""A small piece of a run's maps and survey, by sky position, as FITS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from astropy.io import fits

from cwt_dask.errors import InputError
from cwt_dask.planes import OF_SURVEY, plane_of, region_of
from cwt_dask.products import SMALL_MAP_PIXELS, map_hdu

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from os import PathLike

    from numpy.typing import NDArray

    from cwt_dask.results import SurveyRun
    from cwt_dask.survey import Region

CUT_OUT = (*OF_SURVEY, "model", "approx", "residual", "significance", "support", "mask", "trust")


def cut_out(
    run: SurveyRun, center: Any, size: Any, names: Sequence[str] = CUT_OUT
) -> tuple[Region, Iterator[tuple[str, NDArray[Any]]]]:
    """Find a rectangle, and read images and cubes of it by name, one when it is asked for.

    Raises
    ------
    InputError
        If this is no rectangle of the map, or more than `SMALL_MAP_PIXELS` of it.
    """
    region = region_of(run, center, size)
    if region.box.area > SMALL_MAP_PIXELS:
        rows, columns = region.box.shape
        raise InputError(
            f"{rows} x {columns} pixels (y, x) are more than the {SMALL_MAP_PIXELS} that are cut out at once: give a "
            "center and a smaller size, or read the arrays of the run piece by piece"
        )
    planes = [plane_of(run, name) for name in names if name != "exposure" or run.survey.exposure is not None]
    return region, ((plane.name, plane.read(region.box, ring=region.ring)) for plane in planes)


def write_cutout(
    run: SurveyRun, center: Any, size: Any, filename: str | PathLike[str] | None, *, overwrite: bool
) -> fits.HDUList:
    """Make the HDUs of a cutout; see `SurveyRun.cutout`."""
    region, images = cut_out(run, center, size)
    scales = run.stored.plan.kernels.scales.tolist()
    units = {"exposure": run.survey.facts.exposure_unit}
    hdus = (map_hdu(name, pixels, region.header_text, scales, units.get(name, "")) for name, pixels in images)
    cutout = fits.HDUList([fits.PrimaryHDU(), *hdus])
    if filename is not None:
        try:
            cutout.writeto(filename, overwrite=overwrite)
        except OSError as error:
            raise InputError(f"{filename} is not written: {error}") from error
    return cutout
