"""A background estimated from the files of a survey, and the FITS file of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from cwt_dask.background.estimate import ESTIMATED, FLAT, Estimate, estimate
from cwt_dask.background.layers import ESTIMATE, EXCLUDED, InStores
from cwt_dask.background.passes import TILE, Passes
from cwt_dask.background.recipe import recipe_of
from cwt_dask.config.execution import Execution
from cwt_dask.config.validation import format_bytes
from cwt_dask.errors import SettingsError, SurveyError
from cwt_dask.geometry.tiling import TileGrid
from cwt_dask.runtime.executors import InProcess
from cwt_dask.runtime.progress import Reporter
from cwt_dask.runtime.signals import Stop
from cwt_dask.runtime.workers import Workers
from cwt_dask.storage.drafts import scratch_directory
from cwt_dask.survey import Survey, SurveySource, ingest
from cwt_dask.survey.source import BANDS, IN_MEMORY_CARD, NOT_ESTIMATED, NOTE, WARNED

# Version of the recipe: it is raised whenever the same counts give another background.
RECIPE_VERSION = 2
# What stands for the file of an estimate that is made for a call.
_ON_THE_WAY = "an estimate from the counts"


@dataclass(frozen=True)
class Means:
    """With what an estimate is made."""

    workers: Workers
    progress: Reporter
    stop: Stop
    near: Path | None  # Directory for scratch files, which workers must see; that of the system if None.
    tile_size: int = TILE  # Side of a tile's core in pixels, on which no value depends.

    @classmethod
    def of(cls, execution: Execution, progress: Reporter | None = None) -> Means:
        """Give those of a call that has no cluster: workers of this machine."""
        return cls(Workers(None, execution), progress or Reporter(), Stop(), None)


@contextmanager
def with_estimate(source: SurveySource, means: Means) -> Iterator[SurveySource]:
    """Give a survey with a background, for the length of a `with` block: estimated from its counts if it asks for that.

    Raises InputError if nothing can be estimated.
    """
    if source.background:
        yield source
        return
    with scratch_directory(means.near) as scratch:
        path = scratch / "background.fits"
        write_estimate(source, "background_scale", scratch, path, means, {IN_MEMORY_CARD: _ON_THE_WAY})
        yield source.with_background(path)


def write_estimate(
    source: SurveySource, name: str, scratch: Path, out: Path, means: Means, cards: Mapping[str, Any] | None = None
) -> Estimate:
    """Estimate a background, and write its FITS file.

    Parameters
    ----------
    source : SurveySource
        Where the counts are, and the scale.
    name : str
        What messages call the scale.
    scratch : Path
        An empty directory.
    out : Path
        The file to write.
    means : Means
        With what.
    cards : mapping, optional
        More cards of its header.

    Raises
    ------
    SurveyError
        If the counts are a map of the sphere.
    """
    survey = ingest(source, scratch / "survey.zarr", without_background=True)
    statistics = survey.statistics
    if statistics.sphere:
        raise SurveyError(NOT_ESTIMATED)
    recipe = recipe_of(name, source.background_scale, survey.shape, statistics.pixel_scale_deg)
    ring = statistics.wraps and survey.shape[1] > 1
    grid = TileGrid.plan(survey.shape, (means.tile_size,) * 2, 0, 0, lambda length: length, ring=ring)
    layers = InStores(survey.path, scratch / "layers.zarr", ring)
    layers.create(grid)
    passes = Passes(layers, grid, recipe)
    _check_memory(name, passes, means.workers.execution.worker_limit)
    acceptance = FLAT
    if layers.has_exposure and source.exposure:
        acceptance = f"{source.exposure.hdu} of {source.exposure.path.name}"
    with _executor(passes, means) as executor:
        found = estimate(passes, acceptance, executor, means.progress)
    _write(out, passes, found, survey, cards or {})
    return found


@contextmanager
def _executor(passes: Passes, means: Means) -> Iterator[Any]:
    if means.near is None and means.workers.client is not None:
        # What lies in this machine's temporary directory workers elsewhere do not see.
        yield InProcess(means.stop)
        return
    with means.workers.open(passes, means.progress, means.stop) as executor:
        yield executor


def _check_memory(name: str, passes: Passes, limit: int) -> None:
    if passes.worker_memory > limit:
        raise SettingsError(
            f"{name} is {passes.recipe.scale:g} pixels: windows that reach four scales farther than tiles need "
            f"{format_bytes(passes.worker_memory)} a worker, the limit is {format_bytes(limit)}: take a smaller scale, "
            "or a larger memory_limit"
        )


def _write(out: Path, passes: Passes, found: Estimate, survey: Survey, more: Mapping[str, Any]) -> None:
    pixel_scale = survey.statistics.pixel_scale_deg
    wcs = fits.Header.fromstring(survey.header_text, sep="\n")
    bands = next(origin.get("bands", "") for origin in survey.statistics.origins if origin["plane"] == "counts")
    cards: dict[str, Any] = {
        "CREATOR": "cwt-dask background",
        "BKGKIND": ESTIMATED,
        NOTE: found.describe(pixel_scale),
        "BKGSCALE": (found.scale, "[pixel] scale of the smoothing"),
        "BKGSCDEG": (found.scale * pixel_scale, "[deg] the same at the centre of the map"),
        "BKGACC": found.acceptance,
        "BKGROUND": (found.rounds, "rounds of finding sources"),
        "BKGENDED": (found.ended, "no pixel changed in the last round"),
        "BKGEXCL": (found.n_excluded / found.n_used, "share of pixels excluded as sources"),
        "BKGERR": (found.error, "relative error (rms), by simulation"),
        "BKGFEW": (found.n_few, "pixels that rest on fewer than 100 counts"),
        "BKGRECIP": (RECIPE_VERSION, "version of the recipe"),
    }
    cards |= {BANDS: bands, **more} if bands else more
    cards |= {f"{WARNED}{n}": warning for n, warning in enumerate(found.warnings, 1)}
    size = {"NAXIS": 2, "NAXIS1": survey.shape[1], "NAXIS2": survey.shape[0]}
    images = (("BACKGROUND", ESTIMATE, -32, np.float32, "count"), ("EXCLUDED", EXCLUDED, 8, np.uint8, ""))
    for name, layer, bitpix, dtype, unit in images:
        header = fits.Header({"SIMPLE": True, "BITPIX": bitpix} | size | {"EXTNAME": name, "BUNIT": unit})
        header.update(wcs)
        header.update(cards)
        # As text: of a Path, astropy looks for the last part only.
        with fits.StreamingHDU(str(out), header) as hdu:
            for row in range(passes.grid.y.n_tiles):
                cores = [passes.grid.at(row, column).core for column in range(passes.grid.x.n_tiles)]
                hdu.write(np.concatenate([passes.layers.read(layer, core).astype(dtype) for core in cores], axis=1))
