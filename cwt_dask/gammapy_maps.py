"""Maps of a run as Gammapy has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cwt_dask.cutouts import CUT_OUT, cut_out
from cwt_dask.errors import InputError
from cwt_dask.maps import HISTORY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cwt_dask.results import SurveyRun


def gammapy_maps(run: SurveyRun, center: Any, size: Any, names: Sequence[str] | None) -> dict[str, Any]:
    """Make a `WcsNDMap` of each image and cube; see `SurveyRun.to_gammapy`."""
    try:
        # An extra; at its place the environment may have what only looks like it.
        from gammapy.maps import MapAxis, WcsGeom, WcsNDMap  # noqa: PLC0415
    except ImportError as error:
        raise InputError("maps for Gammapy need Gammapy: pip install 'cwt_dask[gammapy]'") from error
    region, images = cut_out(run, center, size, CUT_OUT if names is None else names)
    rows, columns = region.box.shape
    scales = MapAxis.from_nodes(run.stored.plan.kernels.scales, name="scale", unit="pix")
    made = {}
    for name, pixels in images:
        axes = [] if pixels.ndim == 2 else [scales]
        if name == HISTORY:
            axes = [MapAxis.from_nodes(range(1, len(pixels) + 1), name="iteration")]
        unit = run.survey.facts.exposure_unit if name == "exposure" else ""
        made[name] = WcsNDMap(WcsGeom(region.wcs, npix=(columns, rows), axes=axes), data=pixels, unit=unit)
    return made
