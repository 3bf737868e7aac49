"""Methods of a run that show its maps: plots, cutouts, maps of Gammapy."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from cwt_dask.products.cutouts import gammapy_maps, write_cutout
from cwt_dask.products.plots import plot_map
from cwt_dask.products.source import MapSource

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord
    from astropy.table import Table


class Accessor:
    """Methods of `SurveyRun` that show its maps."""

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

        Parameters
        ----------
        name : str, optional
            One of counts, background and exposure of the survey, a map of `maps.zarr`, support_2d or
            model_plus_approx.
        center : SkyCoord, optional
            The middle, in any frame; that of the map where not given.
        size : Angle, Quantity or str, optional
            Angular size such as ``"4 deg"``, one for a square, or (height, width); the whole map where neither it nor
            `center` is given. Where a side has more than `cwt_dask.products.plots.MOST_DRAWN` pixels, blocks of pixels
            are drawn as one: by their mean, or the largest value of maps that mark pixels (significance, support, ...);
            masked pixels are left out. Memory stays that of one chunk.
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
            Passed on to `matplotlib.axes.Axes.imshow`. By default ``vmax`` leaves out the brightest 0.2 per cent.

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
        drawing = {"center": center, "size": size, "index": index, "sources": sources, "colorbar": colorbar}
        return plot_map(self, name, ax=ax, fig=fig, **drawing, **imshow)

    def cutout(
        self: MapSource,
        center: SkyCoord | None,
        size: Any,
        filename: str | PathLike[str] | None = None,
        overwrite: bool = False,
    ) -> Any:
        """Cut a rectangle out of the survey and its maps, as FITS; only chunks with pixels in it are read.

        Parameters
        ----------
        center : SkyCoord or None
            The middle, in any frame; that of the map where None.
        size : Angle, Quantity or str
            Angular size such as ``"4 deg"``, one for a square, or (height, width). A rectangle may lie across the edge
            of a map with columns that close the circle.
        filename : path-like, optional
            File to write it to, too.
        overwrite : bool, optional
            Replace an existing file.

        Returns
        -------
        astropy.io.fits.HDUList
            Images COUNTS, BACKGROUND, EXPOSURE (if there is any), MODEL, APPROX, RESIDUAL, SIGNIFICANCE, MASK, TRUST
            and the cube SUPPORT, each with the WCS of the rectangle. It is a survey itself, too.

        Raises
        ------
        InputError
            If there is no such rectangle or it has more than `cwt_dask.products.files.SMALL_MAP_PIXELS` pixels, or the
            file exists or cannot be written.

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
        >>> cutout = run.cutout(center, ["1 deg", "2 deg"])
        >>> cutout["MODEL"].data.shape, cutout["EXPOSURE"].header["BUNIT"]
        ((10, 20), 'cm2 s')
        """
        return write_cutout(self, center, size, filename, overwrite=overwrite)

    def to_gammapy(
        self: MapSource, center: SkyCoord | None = None, size: Any = None, names: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Read images and cubes of the run as maps of Gammapy.

        Parameters
        ----------
        center : SkyCoord, optional
            The middle, in any frame; that of the map where not given.
        size : Angle, Quantity or str, optional
            Angular size as of `cutout`, and bounded as there; the whole map where neither it nor `center` is given.
        names : sequence of str, optional
            As `plot` has them; by default those of `cutout`.

        Returns
        -------
        dict of gammapy.maps.WcsNDMap
            By name, without units, since a count is one, but for the exposure. Cubes have an axis ``scale`` in pixels.

        Raises
        ------
        InputError
            As `cutout`, or if Gammapy is not installed.

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
        >>> maps = run.to_gammapy(center, "2 deg", names=["model", "support"])  # doctest: +SKIP
        >>> maps["support"].data.shape  # doctest: +SKIP
        (2, 20, 20)
        """
        return gammapy_maps(self, center, size, names)
