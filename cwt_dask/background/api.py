"""What users call from Python and from the command line."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cwt_dask.background.estimate import FLAT, Estimate, estimate
from cwt_dask.background.files import Means, write_estimate
from cwt_dask.background.layers import COUNTS, ESTIMATE, EXCLUDED, EXPOSURE, MASK, InMemory
from cwt_dask.background.passes import Passes
from cwt_dask.background.recipe import recipe_of
from cwt_dask.config.options import Options
from cwt_dask.config.validation import Extent, counted
from cwt_dask.cwt.arrays import Bools, Floats, numpys_own
from cwt_dask.cwt.pixels import pixels_of
from cwt_dask.errors import InputError, InterruptedRun, SettingsError
from cwt_dask.geometry.tiling import TileGrid
from cwt_dask.runtime.clusters.choice import prepare_cluster
from cwt_dask.runtime.executors import InProcess
from cwt_dask.runtime.progress import WARNING, Logged, Reporter
from cwt_dask.runtime.signals import Stop
from cwt_dask.runtime.workers import Workers
from cwt_dask.storage.drafts import scratch_directory
from cwt_dask.storage.paths import as_path, drafted_file, store_errors
from cwt_dask.survey import SurveySource, free_path

if TYPE_CHECKING:
    from distributed import Client


@dataclass(frozen=True)
class BackgroundEstimate:
    """A background estimated from counts.

    Parameters
    ----------
    background : ndarray
        (y, x), float32, expected counts a pixel; 0 where a pixel is masked or has no acceptance.
    excluded : ndarray of bool
        (y, x), pixels that were taken for sources.
    estimate : Estimate
        How it was made, and its relative error.

    Examples
    --------
    >>> import numpy as np
    >>> from cwt_dask.background import estimate_background
    >>> found = estimate_background(np.random.default_rng(2).poisson(2.0, (90, 120)), scale=10)
    >>> found.background.shape, int(found.excluded.sum()), round(found.estimate.error, 2)
    ((90, 120), 0, 0.02)
    """

    background: NDArray[np.float32]
    excluded: Bools
    estimate: Estimate


@numpys_own
def estimate_background(
    counts: Any, *, scale: float | str, acceptance: Any = None, mask: Any = None, wrap: bool = False
) -> BackgroundEstimate:
    """Estimate the background of one image in memory, from its counts outside of sources.

    The numbers are those of `write_background`. When not to use it: docs/howto/background.md.

    Parameters
    ----------
    counts : array_like or image
        (y, x), counts a pixel; pixels that are NaN or masked take no part.
    scale : float
        Scale of the smoothing in pixels, at least 2.
    acceptance : array_like or image, optional
        (y, x), to which the background is taken to be proportional within the scale, such as an exposure, in any unit;
        flat unless given. Pixels where it is 0 take no part.
    mask : array_like or image, optional
        (y, x), nonzero where a pixel takes part.
    wrap : bool, optional
        Whether the first and the last column are neighbours.

    Returns
    -------
    BackgroundEstimate
        The background, the pixels that were excluded as sources, and how it was made.

    Raises
    ------
    InputError
        If an image or the scale cannot be used, or nothing can be estimated from these counts.
    RunError
        If it fails for want of memory.

    Examples
    --------
    >>> import numpy as np
    >>> from cwt_dask.background import estimate_background
    >>> counts = np.random.default_rng(1).poisson(0.5, (200, 300))
    >>> counts[100, 150] += 50
    >>> found = estimate_background(counts, scale=12)
    >>> bool(found.excluded[100, 150]), round(float(found.background.mean()), 2), found.estimate.rounds
    (True, 0.5, 2)
    """
    layers = _in_memory(counts, acceptance, mask, ring=wrap)
    grid = TileGrid.plan(layers.shape, layers.shape, 0, 0, lambda length: length, ring=wrap)
    passes = Passes(layers, grid, recipe_of("scale", Extent().check("scale", scale), layers.shape))
    layers.arrays[EXCLUDED] = np.zeros(layers.shape, bool)
    given = FLAT if acceptance is None else "as given"
    progress = Logged()
    found = estimate(passes, given, InProcess(), progress)
    for warning in found.warnings:
        progress.message(f"{WARNING}{warning}")
    return BackgroundEstimate(layers.arrays[ESTIMATE].astype(np.float32), layers.arrays[EXCLUDED], found)


@numpys_own
def write_background(
    counts: str | PathLike[str],
    out: str | PathLike[str],
    *,
    scale: float | str,
    client: Client | None = None,
    progress: Reporter | None = None,
    **options: Any,
) -> Estimate:
    """Estimate the background of a counts map in a FITS file, by tiles, from its counts outside of sources.

    What it writes is a background for `run_survey`: ``background=out``. When not to use it: docs/howto/background.md.

    Parameters
    ----------
    counts : path-like
        FITS file of the counts, and of exposure and mask if it has them; ``FILE[HDU]`` has the counts in that HDU.
    out : path-like
        File to write, ``.fits``: BACKGROUND (y, x), float32, expected counts a pixel, 0 where a pixel is masked or has
        no exposure; EXCLUDED, uint8, 1 at pixels that were taken for sources. Both have the WCS of the counts.
    scale : float or str
        Scale of the smoothing: pixels, at least 2, or an angle such as "2deg", which is divided by the pixel size at
        the map's centre.
    client : distributed.Client, optional
        Cluster to run on; its workers must see the directory of `out`. By default one is made for the call.
    progress : cwt_dask.runtime.progress.Reporter, optional
        Receives messages and progress; by default warnings go to Python's log, and nothing else is said.
    **options
        Fields of `cwt_dask.execution.Execution`, and where the images are found and which bands are taken (counts_hdu,
        exposure_hdu, mask_hdu, exposure, mask, band, emin, emax, index). The exposure may be any map to which the
        background is proportional within the scale.

    Returns
    -------
    Estimate
        How it was made, and its relative error.

    Raises
    ------
    InputError
        If a file, the scale or an option is wrong, or nothing can be estimated: nothing was written.
    RunError
        If a tile could not be done.
    InterruptedRun
        If it was asked to stop by a signal: nothing was written.

    Examples
    --------
    >>> import tempfile
    >>> from cwt_dask.background import write_background
    >>> from cwt_dask.simulate import simulate
    >>> folder = tempfile.mkdtemp()
    >>> truth = simulate(f"{folder}/survey.fits", (120, 160), seed=1)
    >>> found = write_background(f"{folder}/survey.fits", f"{folder}/background.fits", scale="1.2deg", workers=0)
    >>> found.scale, found.acceptance, found.ended
    (12.0, 'EXPOSURE of survey.fits', True)
    """
    if given := sorted({"background", "background_hdu", "background_scale"} & options.keys()):
        raise SettingsError(f"{given[0]} is given, and the background is what is estimated: leave it out")
    scale = Extent().check("scale", scale)
    parsed = Options.parse(options)
    source = SurveySource.of(counts, **parsed.source, background="estimate", background_scale=scale)
    if as_path(out).suffix != ".fits":
        raise InputError(f"{out} is no name of a plain FITS file: choose one that ends in .fits")
    path, near = free_path(out)
    progress = progress or Logged()
    stop = Stop(lambda: progress.message("stopping: tasks that have started are finished first"))
    connect = None if client else prepare_cluster(parsed.execution, path, progress, stop)
    try:
        with store_errors(), ExitStack() as stack:
            stack.enter_context(stop.on_signals())
            client = stack.enter_context(connect()) if connect else client
            draft = stack.enter_context(drafted_file(path))
            scratch = stack.enter_context(scratch_directory(near))
            with stop.patience():
                means = Means(Workers(client, parsed.execution), progress, stop, near)
                found = write_estimate(source, "scale", scratch, draft, means)
            for warning in found.warnings:
                progress.message(f"{WARNING}{warning}")
            return found
    except InterruptedRun as error:
        raise InterruptedRun(f"interrupted: {out} was not written; give the same command again") from error


def _in_memory(counts: Any, acceptance: Any, mask: Any, *, ring: bool) -> InMemory:
    given = {"counts": counts, "acceptance": acceptance, "mask": mask}
    images = {name: _image(name, image) for name, image in given.items() if image is not None}
    shape = images["counts"].shape
    for name, image in images.items():
        if image.shape != shape:
            raise InputError(f"counts has shape {shape} (y, x), {name} {image.shape}: give images of one shape")
    used = np.nan_to_num(images.pop("mask", np.ones(shape))) != 0
    for image in images.values():
        used &= np.isfinite(image)
    for name, image in images.items():
        if n_negative := int(np.count_nonzero(image[used] < 0)):
            raise InputError(f"{name} is negative at {counted(n_negative, 'pixel')}: correct or mask them")
    layers = {COUNTS: images["counts"]} | ({EXPOSURE: images["acceptance"]} if "acceptance" in images else {})
    return InMemory({name: np.where(used, image, 0.0) for name, image in layers.items()} | {MASK: used}, ring)


def _image(name: str, given: Any) -> Floats:
    """Pixels (y, x) as float64, NaN where masked."""
    pixels, masked = pixels_of(given, name)
    if pixels.ndim != 2 or pixels.dtype.kind not in "biuf" or not pixels.size:
        raise InputError(
            f"{name} is an array of {pixels.dtype} of shape {pixels.shape}: give an image (y, x) of numbers"
        )
    image: Floats = pixels.astype(np.float64)
    return image if masked is None else np.where(masked, np.nan, image)
