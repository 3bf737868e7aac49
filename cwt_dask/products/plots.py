"""Maps of a run on sky axes: `SurveyRun.plot`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from numpy.typing import NDArray

from cwt_dask.config.validation import shown
from cwt_dask.cwt.arrays import numpys_own
from cwt_dask.cwt.drawing import label_sky, pyplot
from cwt_dask.errors import InputError
from cwt_dask.products.layers import layer_of
from cwt_dask.products.source import MapSource
from cwt_dask.products.views import View, view_of
from cwt_dask.storage.schema import spec_of

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord
    from astropy.table import Table

# About what a screen shows: larger rectangles are drawn in blocks of pixels.
MOST_DRAWN = 2048
# Labelled on the whole sky.
_LONGITUDES = np.array([0, 60, 120, 240, 300])
# Few pixels are far brighter than the rest: the colour scale ends at this percentile.
_BRIGHT = 99.8
# Maps that are longer than this, over their other side, fill their axes: with square pixels little is seen of them.
_LONGEST = 5.0


class Plots:
    """Pictures of a run: a part of `SurveyRun`."""

    @numpys_own
    def plot(
        self: MapSource,
        name: str = "significance",
        *,
        center: SkyCoord | None = None,
        size: Any = None,
        index: int | None = None,
        sources: bool | Table = False,
        ax: Any = None,
        fig: Any = None,
        colorbar: bool = True,
        **imshow: Any,
    ) -> Any:
        """Draw a map, or a rectangle of it, on sky axes; only chunks with pixels in it are read.

        The sphere is drawn on a plane about `center`, tangential up to 20 deg, else of equal area (ZEA), and the whole
        sky in the Mollweide projection, in galactic coordinates. That is for display: a pixel of the plane shows that
        of the facet which owns its centre, or that of the survey's HEALPix map, and no value is interpolated.

        Maps of either sign, as residuals, have colours that diverge from zero, red above. A map more than five times as
        long as its other side fills its axes, and the title says so; ``aspect="equal"`` leaves its pixels square.

        Parameters
        ----------
        name : str, optional
            One of counts, background and exposure of the survey, a map of `maps.zarr`, excess_residual, support_2d or
            model_plus_approx.
        center : SkyCoord, optional
            The middle, in any frame; that of the map where not given, of the sphere longitude and latitude 0.
        size : Angle, Quantity or str, optional
            Angular size such as ``"4 deg"``, one for a square, or (height, width); the whole map where neither it nor
            `center` is given. Where a side has more than `cwt_dask.products.plots.MOST_DRAWN` pixels, several are drawn
            as one, on a flat map in blocks, on the sphere those with their centre in it: by their mean, or the largest
            value of maps that mark pixels (significance, support, ...); masked pixels are left out. Memory stays that
            of one chunk.
        index : int, optional
            Which image of a cube (support, joined), from 0.
        sources : bool or Table, optional
            Whether to mark the catalogue's sources, or which rows of it.
        ax : matplotlib.axes.Axes, optional
            Axes to draw on; made in `fig` where not given.
        fig : matplotlib.figure.Figure or SubFigure, optional
            Where to make axes; a new figure where not given.
        colorbar : bool, optional
            Whether to draw the colour scale.
        **imshow
            Passed on to `matplotlib.axes.Axes.imshow`. By default ``vmax`` leaves out the brightest 0.2 per cent, of
            maps of either sign at both ends.

        Returns
        -------
        matplotlib.axes.Axes
            WCSAxes if made here; their pixels count from the first one drawn, as those of `cutout` do. Masked pixels
            are blank.

        Raises
        ------
        InputError
            If there is no such map or rectangle, `sources` are none, or matplotlib is not installed.

        Examples
        --------
        >>> import tempfile
        >>> from astropy.coordinates import SkyCoord
        >>> from cwt_dask import run_survey
        >>> from cwt_dask.simulate import simulate
        >>> folder = tempfile.mkdtemp()
        >>> sources = simulate(f"{folder}/survey.fits", (60, 80), seed=1)
        >>> run = run_survey(f"{folder}/survey.fits", f"{folder}/run", max_iter=2, workers=0, no_report=True)
        >>> center = SkyCoord(0, 0, unit="deg", frame="galactic")
        >>> ax = run.plot("model", center=center, size="2 deg", sources=True)
        >>> ax.get_title(), ax.images[0].get_array().shape
        ('model', (20, 20))
        """
        view = view_of(self, center, size, most=MOST_DRAWN)
        layer = layer_of(self, name, index)
        if layer.is_cube:
            last = layer.sources[0].shape[0] - 1
            raise InputError(f"{name} is a cube: choose one image of it with index, 0 to {last}")
        peaks = None if sources is False else _peaks(self.catalogue if sources is True else sources, view)
        plt = pyplot()
        from mpl_toolkits.axes_grid1 import make_axes_locatable  # noqa: PLC0415 - a part of matplotlib, an extra

        filled = "aspect" not in imshow and max(view.shape) > _LONGEST * min(view.shape)
        if ax is None:
            figsize = ((12.0, 4.0) if view.shape[1] > view.shape[0] else (4.0, 12.0)) if filled else None
            fig = plt.figure(figsize=figsize) if fig is None else fig
            ax = fig.add_subplot(projection=view.wcs, **_frame(view))
        height, width = view.shape
        drawn = view.drawn(layer)
        # The last row and column may be made of fewer pixels than the others.
        extent = (-0.5, drawn.shape[1] * view.factor - 0.5, -0.5, drawn.shape[0] * view.factor - 0.5)
        if not imshow.keys() & {"vmin", "vmax", "norm"} and spec_of(name).signed and (most := _bright(np.abs(drawn))):
            imshow = {"cmap": "RdBu_r", "vmin": -most, "vmax": most} | imshow
        elif not imshow.keys() & {"vmax", "norm"} and spec_of(name).is_amount:
            imshow["vmax"] = _bright(drawn)
        imshow |= {"aspect": "auto"} if filled else {}
        image = ax.imshow(drawn, **{"origin": "lower", "extent": extent, "interpolation": "nearest"} | imshow)
        ax.set(
            xlim=(-0.5, width - 0.5),
            ylim=(-0.5, height - 0.5),
            title=_title(name, index, view.factor) + ", pixels not square" * filled,
        )
        label_sky(ax)
        pad = 0.1
        if view.is_whole_sky and hasattr(ax, "coords"):
            _label_whole_sky(ax, "black" if imshow.keys() & {"cmap", "norm"} else "white")
            pad = 0.5
        if colorbar:
            cax = make_axes_locatable(ax).append_axes("right", size=0.12, pad=pad, axes_class=plt.Axes)
            ax.figure.colorbar(image, cax=cax, label=_label(self, name))
        if peaks:
            _mark(ax, *peaks, view.shape, "black" if spec_of(name).signed else "red")
        return ax


def _frame(view: View) -> dict[str, Any]:
    """The frame of axes that show the whole sky."""
    from astropy.visualization.wcsaxes.frame import EllipticalFrame  # noqa: PLC0415 - it loads matplotlib

    return {"frame_class": EllipticalFrame} if view.is_whole_sky else {}


def _label_whole_sky(ax: Any, color: str) -> None:
    """Label the axes of the whole sky, longitudes on the map itself, and not at its ends, where they would be cut."""
    longitude = ax.coords[0]
    longitude.set_ticks(_LONGITUDES * u.deg)
    longitude.set_major_formatter("d")
    longitude.set_ticklabel(color=color, exclude_overlapping=True)
    # Astropy would write it onto the map.
    longitude.set_axislabel("")
    for y, text in ((-0.03, "\N{MINUS SIGN}90°"), (-0.12, "Galactic longitude"), (1.09, "90°")):
        ax.text(0.5, y, text, transform=ax.transAxes, ha="center", va="top")
    ax.set_title(ax.get_title(), pad=22)


def _bright(pixels: NDArray[np.float64]) -> float | None:
    """Value at the end of the colour scale; None, for the largest, where the scale would have no length."""
    used = pixels[np.isfinite(pixels)]
    bright = float(np.percentile(used, _BRIGHT)) if used.size else 0.0
    return bright if used.size and bright > used.min() else None


def _title(name: str, index: int | None, factor: int) -> str:
    title = name if index is None else f"{name}[{index}]"
    return title if factor == 1 else f"{title}, {factor} x {factor} pixels as one"


def _label(run: MapSource, name: str) -> str:
    if name == "exposure":
        return run.survey.statistics.exposure_unit
    return f"{unit}s per pixel" if (unit := spec_of(name).unit) else ""


def _peaks(sources: Any, view: View) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Columns and rows of the peaks of sources, as they are drawn."""
    try:
        places = (np.atleast_1d(np.asarray(sources[name], dtype=np.float64)) for name in view.columns)
        return view.place(*places)
    # Of anything else that was given.
    except (TypeError, ValueError, LookupError) as error:
        raise InputError(
            f"sources is {shown(sources)}: it must be True, False, or rows of a catalogue, with "
            f"{' and '.join(view.columns)}"
        ) from error


def _mark(ax: Any, x: NDArray[np.float64], y: NDArray[np.float64], shape: tuple[int, int], color: str) -> None:
    """Draw a circle around each source that is in a rectangle."""
    height, width = shape
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    ax.scatter(x[inside], y[inside], s=60, facecolors="none", edgecolors=color, linewidths=0.8, label="sources")
