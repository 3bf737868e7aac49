"""A run's results, opened lazily."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

import dask.array
from astropy.table import Table

from cwt_dask.checks import shown
from cwt_dask.coordinates import is_map, map_names
from cwt_dask.cutouts import write_cutout
from cwt_dask.errors import InputError, RunError
from cwt_dask.fieldtypes import impossible_fields
from cwt_dask.gammapy_maps import gammapy_maps
from cwt_dask.history import History, IterationMaps
from cwt_dask.layout import RunDir
from cwt_dask.ledger import read_records
from cwt_dask.maps import HISTORY, has_history
from cwt_dask.merge.certificate import is_as_sealed
from cwt_dask.notebook import Certificate, run_html
from cwt_dask.places import place
from cwt_dask.plots import plot_map
from cwt_dask.runfile import StoredRun, read_run
from cwt_dask.stores import open_group
from cwt_dask.survey import Survey, wcs_from_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from astropy.coordinates import SkyCoord
    from astropy.wcs import WCS


@dataclass(frozen=True)
class _Stated:
    """What readers of a certificate rely on."""

    n_tiles: int
    n_iter: int
    coverage: float
    tiling_exact: bool
    converged: bool | None
    seam_model_error: float | None
    digest_maps: str | None


class SurveyRun:
    """A run directory: maps as Dask arrays, catalogue, certificate.

    Attributes
    ----------
    files : RunDir
        Paths of the run's files.
    """

    def __init__(self, files: RunDir, stored: StoredRun) -> None:
        self.files = files
        self._stored = stored

    @classmethod
    def open(cls, path: str | PathLike[str]) -> SurveyRun:
        """Open a run directory.

        Raises
        ------
        InputError
            If it is not one.
        """
        files = RunDir(place(path).absolute())
        return cls(files, read_run(files))

    def __repr__(self) -> str:
        done = f"{len(read_records(self.files.ledger))} of {self._stored.plan.grid.n_tiles} tiles done"
        return f"SurveyRun({str(self.files.path)!r}: {done})"

    def _repr_html_(self) -> str:
        return run_html(self)

    @property
    def stored(self) -> StoredRun:
        """The plan that the run follows, and its survey's store."""
        return self._stored

    @property
    def model(self) -> dask.array.Array:
        """Model M in counts per pixel, float64 (y, x). It is not flux: it holds what the iteration has taken up."""
        return self.map("model")

    @property
    def approx(self) -> dask.array.Array:
        """Approximation A in counts per pixel, float64 (y, x)."""
        return self.map("approx")

    @property
    def residual(self) -> dask.array.Array:
        """Counts - (model + approximation), float64 (y, x); the background is not subtracted."""
        return self.map("residual")

    @property
    def significance(self) -> dask.array.Array:
        """Largest T/E over scales and iterations, float64 (y, x), 0 where undefined; not a number of sigmas."""
        return self.map("significance")

    @property
    def support(self) -> dask.array.Array:
        """Pixels that were significant, by scale, bool (scale, y, x)."""
        return self.map("support")

    def map(self, name: str) -> dask.array.Array:
        """Any array of `maps.zarr` by its name; its chunks are the tiles' cores.

        Raises
        ------
        InputError
            If there is none of this name.
        """
        group = open_group(self.files.maps)
        array = group.get(name)
        if not is_map(array):
            raise InputError(f"the run has no map {name}: there are {', '.join(map_names(group))}")
        return dask.array.from_zarr(array)

    def plot(
        self,
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
            counts, background or exposure of the survey, a map of `maps.zarr`, support_2d or model_plus_approx.
        center : SkyCoord, optional
            The middle, in any frame; that of the map where not given.
        size : Angle, Quantity or str, optional
            Angular size such as ``"4 deg"``, one for a square, or (height, width); the whole map where neither it nor
            `center` is given. Of more than `cwt_dask.plots.MOST_DRAWN` pixels on a side several are drawn as one: by
            their mean, what marks pixels (significance, support, ...) by its largest value. Memory stays that of one
            chunk.
        index : int, optional
            Which image of a cube (support, joined), from 0.
        sources : bool or Table, optional
            Whether to mark the catalogue's sources, or which rows of it.
        ax : matplotlib.axes.Axes, optional
            Axes to draw on; made in `fig` where not given.
        fig : matplotlib.figure.Figure or SubFigure, optional
            Where to make axes; a new figure where not given.
        colorbar : bool, optional
            Whether to draw the colour scale beside.
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
            If there is no such map or rectangle, or matplotlib is not installed.
        """
        drawing = {"center": center, "size": size, "index": index, "sources": sources, "colorbar": colorbar}
        return plot_map(self, name, ax=ax, fig=fig, **drawing, **imshow)

    def cutout(
        self,
        center: SkyCoord | None,
        size: Any,
        filename: str | PathLike[str] | None = None,
        overwrite: bool = False,
    ) -> Any:
        """Cut a rectangle out of the survey and its maps, as FITS; only chunks with pixels in it are read.

        Parameters
        ----------
        center, size
            As `plot` has them. A rectangle may lie across the edge of a map whose columns close the circle.
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
            If there is no such rectangle or it has more than `cwt_dask.products.SMALL_MAP_PIXELS` pixels, or the file
            exists or cannot be written.
        """
        return write_cutout(self, center, size, filename, overwrite=overwrite)

    def to_gammapy(
        self, center: SkyCoord | None = None, size: Any = None, names: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Read images and cubes of the run as maps of Gammapy.

        Parameters
        ----------
        center, size
            As `cutout` has them, and bounded as there; without them the whole map.
        names : sequence of str, optional
            As `plot` has them; by default those of `cutout`.

        Returns
        -------
        dict of gammapy.maps.WcsNDMap
            By name, without units: a count is one. Cubes have an axis ``scale`` in pixels.

        Raises
        ------
        InputError
            As `cutout`, or if Gammapy is not installed.
        """
        return gammapy_maps(self, center, size, names)

    @property
    def history(self) -> History:
        """The start and the whole maps after every iteration: `history[i]`, `history[i] - history[j]`.

        Raises
        ------
        InputError
            If the run is not finished or keeps no history.
        """
        if not has_history(self.files):
            raise InputError(f"{self.files.path} keeps no history: run with --keep-history")
        return History(self.certificate["n_iter"], self._after)

    def _after(self, iteration: int) -> IterationMaps:
        joined = self.map("joined")
        model = self.map(HISTORY)[iteration - 1] if iteration else dask.array.zeros_like(self.model)
        return IterationMaps(self.survey.counts, self.survey.background, model, (joined > 0) & (joined <= iteration))

    @cached_property
    def survey(self) -> Survey:
        """The survey that was analysed."""
        return Survey.open(self._stored.survey)

    @cached_property
    def wcs(self) -> WCS:
        """Celestial WCS of the maps."""
        return wcs_from_text(open_group(self.files.maps).attrs["wcs_header"])

    @property
    def catalogue(self) -> Table:
        """One row a source.

        Raises
        ------
        InputError
            If the run has not got that far.
        RunError
            If it is damaged.
        """
        if not self.files.catalogue.exists():
            raise InputError(f"{self.files.path} has no catalogue yet: the run is not finished")
        try:
            return Table.read(self.files.catalogue.read_text(encoding="utf-8"), format="ascii.ecsv")
        except Exception as error:  # whatever stumbles over the damage: astropy, or YAML below it
            raise RunError(
                f"{self.files.catalogue} is damaged ({shown(error)}): delete it, and the same run command makes it anew"
            ) from error

    @property
    def certificate(self) -> Certificate:
        """What was promised and the evidence for it: a dict.

        Raises
        ------
        InputError
            If the run has not got that far.
        RunError
            If it is damaged.
        """
        certificate = self.read_certificate()
        # NaN stands for what is missing: it is none of the types.
        stated = _Stated(**{field.name: certificate.get(field.name, math.nan) for field in fields(_Stated)})
        if wrong := impossible_fields(stated):
            raise self._damaged_certificate(f"missing or impossible: {', '.join(wrong)}")
        if not is_as_sealed(certificate):
            raise self._damaged_certificate("it was changed since the run ended")
        return Certificate(certificate)

    def read_certificate(self) -> dict[str, Any]:
        """Whatever the certificate says; `verify` judges that.

        Raises
        ------
        InputError, RunError
            As `certificate`.
        """
        if not self.files.certificate.exists():
            raise InputError(f"{self.files.path} has no certificate yet: the run is not finished")
        try:
            certificate = json.loads(self.files.certificate.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise self._damaged_certificate(error) from error
        if not isinstance(certificate, dict):
            raise self._damaged_certificate("it is no table")
        return certificate

    def _damaged_certificate(self, reason: object) -> RunError:
        return RunError(
            f"{self.files.certificate} is damaged ({reason}): delete it, and the same run command makes it anew"
        )

    @property
    def promises_kept(self) -> bool:
        """Whether every pixel was done once, and tiles did no harm if the plan promised that."""
        certificate = self.certificate
        return certificate["coverage"] == 1.0 and (certificate["tiling_exact"] or not self._stored.plan.exact)
