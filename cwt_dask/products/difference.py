"""A picture of what differs between two runs."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from cwt_dask.cwt.arrays import Floats, numpys_own
from cwt_dask.cwt.drawing import pyplot
from cwt_dask.errors import InputError
from cwt_dask.products.layers import has_layer, layer_of
from cwt_dask.products.plots import MOST_DRAWN
from cwt_dask.products.source import MapSource
from cwt_dask.products.views import view_of
from cwt_dask.storage.paths import as_path, exists, refuse_inside, write_atomically

FORMATS = "png", "pdf", "svg"
NAMES = "model", "sigma"
# Few pixels differ far more than the rest: the colour scale ends at this percentile of what differs.
_MOST = 99.0
_MARKERS = "+x^vo"


def free_picture(out: str | PathLike[str], runs: Iterable[MapSource]) -> Path:
    """A path for a picture of runs at which there is nothing yet.

    Raises InputError if it exists, lies in one of them, has another ending than one of `FORMATS`, or matplotlib is not
    installed.
    """
    path = as_path(out)
    if path.suffix.removeprefix(".") not in FORMATS:
        raise InputError(f"{path} is no name of a picture: choose one that ends in {', '.join(FORMATS)}")
    if exists(path):
        raise InputError(f"{path} exists: remove it or choose another name")
    refuse_inside(path, (run.files.path for run in runs))
    pyplot()
    return path


@numpys_own
def plot_difference(first: MapSource, second: Any, marks: Mapping[str, tuple[Floats, Floats]]) -> Any:
    """Draw how far model and S of two runs differ, second less first, with positions marked.

    Runs of releases that had no S are compared by their models.

    Parameters
    ----------
    first, second : SurveyRun
        Finished ones on maps of one shape.
    marks : mapping of tuple
        Right ascensions and declinations in degrees, by what they are called.

    Returns
    -------
    matplotlib.figure.Figure
        Of the maps that both have.

    Raises
    ------
    InputError
        If the maps have other shapes.
    """
    before, after = (run.stored.plan.grid.array_shape for run in (first, second))
    if before != after:
        raise InputError(f"the maps have other shapes, {before} and {after}: there is no picture of their difference")
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra

    names = [name for name in NAMES if has_layer(first, name) and has_layer(second, name)]
    height, width = view_of(second, None, None).shape
    rows, columns = (len(names), 1) if width > height else (1, len(names))
    figure: Any = Figure((10, 5 * rows) if width > height else (7 * columns, 8))
    for name, part in zip(names, figure.subfigures(rows, columns, squeeze=False).ravel(), strict=True):
        old, new = (view_of(run, None, None, most=MOST_DRAWN).drawn(layer_of(run, name)) for run in (first, second))
        difference = new - old
        sizes = np.abs(difference[np.isfinite(difference) & (difference != 0)])
        end = float(np.percentile(sizes, _MOST)) if sizes.size else 1.0
        ax = second.plot(name, fig=part, cmap="RdBu_r", vmin=-end, vmax=end)
        ax.images[0].set_data(difference)
        ax.set_title(f"{ax.get_title()}: {second.files.path.name} - {first.files.path.name}")
        for (what, (ra, dec)), marker in zip(marks.items(), _MARKERS, strict=True):
            if len(ra):
                colors = {"facecolors": "none", "edgecolors": "black"} if marker in "^vo" else {"color": "black"}
                label, icrs = f"{what} ({len(ra)})", ax.get_transform("icrs")
                ax.scatter(ra, dec, s=50, marker=marker, label=label, transform=icrs, **colors)
        if ax.collections:
            ax.legend(loc="upper right", fontsize="small")
    return figure


def write_picture(figure: Any, path: Path) -> None:
    """Write a figure to a path as `free_picture` gives it.

    Raises InputError if it cannot be written.
    """
    figure.savefig(picture := io.BytesIO(), format=path.suffix.removeprefix("."), dpi=150)
    try:
        write_atomically(path, picture.getvalue())
    except OSError as error:
        raise InputError(f"{path} is not written: {error}") from error
