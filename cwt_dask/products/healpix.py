"""The maps of a run on the sphere as one table of HEALPix pixels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from cwt_dask.planning.plan import Plan
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.paths import atomic_file
from cwt_dask.storage.schema import spec_of
from cwt_dask.storage.zarr_io import open_group
from cwt_dask.survey.facets import FacetSurvey

# Maps, and their types in the file: what the residual adds to is in the survey.
_COLUMNS = {"model": ">f4", "sigma": ">f4", "significance": ">f4", "residual": ">f4", "support": ">i4"}
_FORMATS = {">f4": "E", ">i4": "J"}
_BLOCK = 2880


def write_maps_hpx(run_dir: RunDir, plan: Plan, survey: FacetSurvey) -> None:
    """Write model, S, T/E, residual and support of the survey's pixels: EXPLICIT, NESTED, of its nside.

    A pixel has the values of the pixel of a facet that its centre lies in; the residual is that of its own counts. Of
    the support each scale is a bit, the finest the lowest. Memory holds a facet.

    Parameters
    ----------
    run_dir, plan, survey
        Of a run with all maps.
    """
    dtype = np.dtype([("PIX", ">i8"), *((name.upper(), kind) for name, kind in _COLUMNS.items())])
    header = _header(plan, survey, dtype)
    with atomic_file(run_dir.maps_hpx) as file:
        file.write(fits.PrimaryHDU().header.tostring().encode("ascii"))
        file.write(header.tostring().encode("ascii"))
        n_bytes = 0
        for rows in _rows(run_dir, survey, dtype):
            file.write(rows.tobytes())
            n_bytes += rows.nbytes
        file.write(b"\0" * (-n_bytes % _BLOCK))


def _header(plan: Plan, survey: FacetSurvey, dtype: np.dtype[Any]) -> fits.Header:
    columns = [fits.Column("PIX", "K")]
    columns += [
        fits.Column(name.upper(), _FORMATS[kind], unit=spec_of(name).unit or None) for name, kind in _COLUMNS.items()
    ]
    header = fits.BinTableHDU.from_columns(columns, nrows=0, name="SKYMAP").header
    header["NAXIS2"], header["NAXIS1"] = survey.statistics.n_valid, dtype.itemsize
    header["PIXTYPE"], header["ORDERING"], header["INDXSCHM"] = "HEALPIX", "NESTED", "EXPLICIT"
    header["NSIDE"], header["ORDER"] = survey.grid.nside, survey.grid.nside.bit_length() - 1
    header["COORDSYS"] = "GAL" if survey.wcs.frame == "galactic" else "CEL"
    header["OBJECT"] = "PARTIAL"
    for n, scale in enumerate(plan.kernels.scales):
        header[f"SCALE{n}"] = float(scale), f"pixels, bit {n} of SUPPORT"
    return header


def _rows(run_dir: RunDir, survey: FacetSurvey, dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    maps = open_group(run_dir.maps, whole="run")
    for facet in range(survey.grid.n_tiles):
        numbers, counts, y, x = survey.own_pixels(facet)
        rows = np.zeros(len(numbers), dtype)
        rows["PIX"] = numbers
        images = {name: maps[name][..., facet, :, :][..., y, x] for name in (*_COLUMNS, "approx") if name != "residual"}
        for name in ("model", "sigma", "significance"):
            rows[name.upper()] = images[name]
        rows["RESIDUAL"] = counts - images["model"] - images["approx"]
        rows["SUPPORT"] = sum(bits.astype(np.int32) << scale for scale, bits in enumerate(images["support"]))
        yield rows
