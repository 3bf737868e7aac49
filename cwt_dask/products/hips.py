"""Hierarchical progressive surveys (HiPS) of a run, which Aladin and other viewers of the sky open."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import Bools
from cwt_dask.products.layers import layer_of, mask_of
from cwt_dask.products.moc import order_of_pixels, survey_moc
from cwt_dask.products.sampling import Sampler
from cwt_dask.products.source import MapSource
from cwt_dask.survey.wcs import is_galactic

if TYPE_CHECKING:
    from astropy.io import fits
    from mocpy import MOC

LAYERS = "counts", "sigma", "model"
WIDTH = 512
# A sky of which nothing is read, for the library to look at.
_STAND_IN = 8, 16
# Pixels between those of a tile that are looked at.
_FEW = 13


def write_hips(run: MapSource, folder: Path, layers: tuple[str, ...] = LAYERS, width: int = WIDTH) -> None:
    """Write a HiPS of each layer, in the frame of the map, NaN where nothing was surveyed.

    Tiles of the highest order have the values of the map's pixels at the centres of theirs, which are no larger:
    nothing is interpolated, and counts of a pixel stand in each that shows it. Those of lower orders are means.

    Parameters
    ----------
    run : SurveyRun
        A finished one.
    folder : Path
        A directory, to which each goes by its name.
    layers : tuple of str, optional
        As `SurveyRun.plot` has them; images, no cubes.
    width : int, optional
        Pixels along the side of a tile.

    Raises ImportError without reproject and mocpy.
    """
    from astropy.wcs import WCS  # noqa: PLC0415 - as below
    from reproject.hips import reproject_to_hips  # noqa: PLC0415 - an extra

    coverage = survey_moc(run)
    level = max(0, math.ceil(order_of_pixels(run) - math.log2(width)))
    # By as many cells wider, of two pixels or more: a tile's pixel shows that in which its centre lies.
    near = coverage.add_neighbours().degrade_to_order(level)
    cards = {"CTYPE1": "RA---CAR", "CTYPE2": "DEC--CAR", "CDELT1": -22.5, "CDELT2": 22.5, "CRPIX1": 8.5, "CRPIX2": 4.5}
    run_id = run.stored.run_id
    for name in layers:
        # The library knows how tiles lie on the sky, and asks for one at a time.
        reproject_to_hips(
            (np.zeros(_STAND_IN, np.float32), WCS(cards)),
            coord_system_out="galactic" if is_galactic(run.wcs) else "equatorial",
            reproject_function=_Tiles(run, name, near),
            output_directory=str(folder / name),
            level=level,
            tile_size=width,
            properties={
                "creator_did": f"ivo://cwt-dask/P/{run_id}/{name}",
                "obs_title": f"{name} of {run.files.path.name}",
            },
        )
        coverage.save(folder / name / "Moc.fits", format="fits")


class _Tiles:
    """Called for each tile: a layer at the positions of its pixels."""

    def __init__(self, run: MapSource, name: str, near: MOC) -> None:
        self.run, self.layer, self.near = run, layer_of(run, name), near
        self.mask = mask_of(run, self.layer)

    def __call__(self, _stand_in: Any, header: fits.Header) -> tuple[NDArray[np.float32], Bools]:
        from astropy.wcs import WCS  # noqa: PLC0415 - the command line does without

        shape = int(header["NAXIS2"]), int(header["NAXIS1"])
        pixels, seen = np.full(shape, np.nan, np.float32), np.zeros(shape, np.bool_)
        wcs = WCS(header)
        # A tile is a cell: one of its pixels says whether anything is there.
        some = wcs.pixel_to_world(*(axis.ravel() for axis in np.indices(shape)[::-1, ::_FEW, ::_FEW]))
        some = some[np.isfinite(some.spherical.lon.deg)].icrs
        if some.size and not self.near.contains_skycoords(some).any():
            return pixels, seen
        sky = wcs.pixel_to_world(*np.indices(shape)[::-1])
        there = np.isfinite(sky.spherical.lon.deg)
        sampler = Sampler(self.run, sky[there])
        pixels[there] = sampler.values(self.layer)
        seen[there] = sampler.pixels(self.layer.n_axes)[0] & (self.mask is None or sampler.values(self.mask) != 0)
        return pixels, seen
