"""A run in xarray: maps and survey by name, with the sky as coordinates, lazily."""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwt_dask.errors import InputError
from cwt_dask.products.source import MapSource
from cwt_dask.storage.schema import map_names, maps_from, spec_of
from cwt_dask.storage.zarr_io import open_group
from cwt_dask.survey.wcs import is_galactic

_SKY = {True: ("Galactic longitude", "Galactic latitude"), False: ("longitude", "latitude")}


def dataset_of(run: MapSource) -> Any:
    """All maps of a run, and on a flat map its survey, as a dataset of xarray.

    Parameters
    ----------
    run : SurveyRun
        Finished or not.

    Raises
    ------
    InputError
        If xarray is not installed.
    """
    try:
        import xarray  # noqa: PLC0415 - nothing else here needs it
    except ImportError as error:
        raise InputError("datasets of xarray need it: pip install xarray") from error
    from dask.array import from_zarr, map_blocks  # noqa: PLC0415 - a run does without Dask

    group = open_group(run.files.maps)
    model = from_zarr(run.stored_map("model"))
    axes = group["model"].metadata.dimension_names
    maps = {}
    for name in map_names(group):
        array = run.stored_map(name)
        maps[name] = array.metadata.dimension_names, from_zarr(array), spec_of(name).attributes
    if model.ndim == 2:
        unit = {"exposure": {"units": run.survey.statistics.exposure_unit}}
        for spec in maps_from("survey"):
            if (plane := run.survey.array(spec.name)) is not None:
                attributes = spec.attributes | unit.get(spec.name, {})
                maps[spec.name] = axes, from_zarr(plane, chunks=model.chunks), attributes
    names = _SKY[is_galactic(run.wcs)]
    coordinates: dict[str, Any] = {}
    for axis in ("scale", *axes):
        array = group[axis]
        attributes = {name: array.attrs[name] for name in ("long_name", "units") if name in array.attrs}
        coordinates[axis] = axis, array[:], attributes
    for number, name in enumerate(("lon", "lat")):
        degrees = map_blocks(
            partial(_degrees, run.wcs, number), chunks=model.chunks, dtype=np.float64, meta=np.empty((0,) * model.ndim)
        )
        coordinates[name] = axes, degrees, {"long_name": names[number], "units": "deg"}
    return xarray.Dataset(maps, coordinates, {"wcs_header": group.attrs["wcs_header"]})


def _degrees(wcs: Any, number: int, *, block_info: dict[Any, Any]) -> NDArray[np.float64]:
    """Longitudes or latitudes of the pixels of a chunk; NaN off the sky."""
    ranges = [np.arange(*ends) for ends in block_info[None]["array-location"]]
    *facet, y, x = np.meshgrid(*ranges, indexing="ij")
    rows = facet[0] * wcs.grid.side + y if facet else y
    # Threads share none.
    sky = deepcopy(wcs).pixel_to_world(x.ravel(), rows.ravel()).spherical
    degrees: NDArray[np.float64] = (sky.lon, sky.lat)[number].to_value("deg").reshape(x.shape)
    return degrees
