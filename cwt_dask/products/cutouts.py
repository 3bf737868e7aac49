"""Rectangles of a run's maps and survey by sky position, as FITS and as maps of Gammapy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from os import PathLike
from typing import Any

from astropy.io import fits
from numpy.typing import NDArray

from cwt_dask.errors import InputError
from cwt_dask.products.files import SMALL_MAP_PIXELS, map_hdu
from cwt_dask.products.layers import layer_of, region_of
from cwt_dask.products.source import MapSource
from cwt_dask.storage.schema import HISTORY, maps_in
from cwt_dask.survey import Region


def _cut_out(
    run: MapSource, center: Any, size: Any, names: Sequence[str] | None = None
) -> tuple[Region, Iterator[tuple[str, NDArray[Any]]]]:
    """Find a rectangle, and read layers of it by name, lazily; without names those of cutouts."""
    region = region_of(run, center, size)
    if region.box.area > SMALL_MAP_PIXELS:
        rows, columns = region.box.shape
        raise InputError(
            f"{rows} x {columns} pixels (y, x) are more than the {SMALL_MAP_PIXELS} that are cut out at once: give a "
            "center and a smaller size, or read the arrays of the run piece by piece"
        )
    names = [spec.name for spec in maps_in("cutout")] if names is None else names
    layers = [layer_of(run, name) for name in names if name != "exposure" or run.survey.exposure is not None]
    return region, ((layer.name, layer.read(region.box, ring=region.ring)) for layer in layers)


def write_cutout(
    run: MapSource, center: Any, size: Any, filename: str | PathLike[str] | None, *, overwrite: bool
) -> fits.HDUList:
    """Make the HDUs of a cutout.

    Parameters
    ----------
    run : MapSource
    center, size, filename, overwrite
        As of `SurveyRun.cutout`.
    """
    region, images = _cut_out(run, center, size)
    scales = run.stored.plan.kernels.scales.tolist()
    units = {"exposure": run.survey.statistics.exposure_unit}
    hdus = (map_hdu(name, pixels, region.header_text, scales, units.get(name, "")) for name, pixels in images)
    cutout = fits.HDUList([fits.PrimaryHDU(), *hdus])
    if filename is not None:
        try:
            cutout.writeto(filename, overwrite=overwrite)
        except OSError as error:
            raise InputError(f"{filename} is not written: {error}") from error
    return cutout


def gammapy_maps(run: MapSource, center: Any, size: Any, names: Sequence[str] | None) -> dict[str, Any]:
    """Make a `WcsNDMap` of each layer.

    Parameters
    ----------
    run : MapSource
    center, size, names
        As of `SurveyRun.to_gammapy`.
    """
    try:
        # An extra; a module of this name may be no Gammapy.
        from gammapy.maps import MapAxis, WcsGeom, WcsNDMap  # noqa: PLC0415
    except ImportError as error:
        raise InputError("maps for Gammapy need Gammapy: pip install 'cwt_dask[gammapy]'") from error
    region, images = _cut_out(run, center, size, names)
    rows, columns = region.box.shape
    scales = MapAxis.from_nodes(run.stored.plan.kernels.scales, name="scale", unit="pix")
    made = {}
    for name, pixels in images:
        axes = [] if pixels.ndim == 2 else [scales]
        if name == HISTORY:
            axes = [MapAxis.from_nodes(range(1, len(pixels) + 1), name="iteration")]
        unit = run.survey.statistics.exposure_unit if name == "exposure" else ""
        made[name] = WcsNDMap(WcsGeom(region.wcs, npix=(columns, rows), axes=axes), data=pixels, unit=unit)
    return made
