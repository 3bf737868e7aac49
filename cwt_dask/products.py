"""Files for other tools: the catalogue as tables, and small maps as FITS images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import zarr
from astropy.io import fits

from cwt_dask.cwt.iterate import Field, background_approximation
from cwt_dask.cwt.transform import fast_length, kernel_spectra
from cwt_dask.tiling import Box

if TYPE_CHECKING:
    from astropy.table import Table
    from numpy.typing import NDArray

    from cwt_dask.layout import RunDir
    from cwt_dask.plan import Plan
    from cwt_dask.survey import Survey

# About ten images of 8 bytes a pixel are held and written: 700 MB at this size.
SMALL_MAP_PIXELS = 2**23


def write_catalogue(run_dir: RunDir, catalogue: Table) -> None:
    """Write the catalogue as ECSV and as a FITS table."""
    catalogue.write(run_dir.catalogue, format="ascii.ecsv", overwrite=True)
    catalogue.write(run_dir.catalogue_fits, format="fits", overwrite=True)


def is_small(plan: Plan) -> bool:
    """Whether the whole map may be held in memory and in one FITS file."""
    return plan.grid.map_box.area <= SMALL_MAP_PIXELS


def write_maps_fits(run_dir: RunDir, plan: Plan, survey: Survey) -> None:
    """Write all images of the map as HDUs of one FITS file, with their WCS; the cube `SUPPORT` has a scale axis."""
    maps = zarr.open_group(run_dir.maps, mode="r")
    whole = plan.grid.map_box
    window = survey.read_window(whole, whole)
    model, approx, support = maps["model"][:], maps["approx"][:], maps["support"][:]
    images: dict[str, NDArray[np.generic]] = {
        "counts": window.counts,
        "background": window.background,
        "model": model,
        "approx": approx,
        "approx_bkg": _approx_bkg(plan, survey),
        "transform_2d": maps["transform_2d"][:],
        "model_plus_approx": model + approx,
        "residual": maps["residual"][:],
        "significance": maps["significance"][:],
        "best_scale": maps["best_scale"][:],
        "support_2d": support.any(axis=0).astype(np.uint8),
        "mask": maps["mask"][:],
        "trust": maps["trust"][:],
        "support": support.astype(np.uint8),
    }
    header = fits.Header.fromstring(survey.header_text, sep="\n")
    hdus = [fits.PrimaryHDU(), *(fits.ImageHDU(image, header, name.upper()) for name, image in images.items())]
    temporary = run_dir.maps_fits.with_suffix(".partial.fits")
    fits.HDUList(hdus).writeto(temporary, overwrite=True)
    temporary.replace(run_dir.maps_fits)


def _approx_bkg(plan: Plan, survey: Survey) -> NDArray[np.float64]:
    kernels, whole = plan.kernels, plan.grid.map_box
    box = Box(0, fast_length(whole.y1 + kernels.reach), 0, fast_length(whole.x1 + kernels.reach))
    window = survey.read_window(whole, box)
    field = Field(window.counts, window.background, window.valid)
    return background_approximation(field, kernel_spectra(kernels, box.shape))[whole.slices]
