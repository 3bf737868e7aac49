"""Rectangles of a run's maps and survey by sky position, as FITS and as maps of Gammapy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from astropy.io import fits
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import numpys_own
from cwt_dask.errors import InputError
from cwt_dask.products.files import SMALL_MAP_PIXELS, map_hdu
from cwt_dask.products.layers import layer_of, region_of
from cwt_dask.products.source import MapSource
from cwt_dask.storage.schema import HISTORY, maps_in
from cwt_dask.survey import Region

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord


class Cutouts:
    """Rectangles of a run: a part of `SurveyRun`."""

    @numpys_own
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
        >>> from cwt_dask import run_survey
        >>> from cwt_dask.simulate import simulate
        >>> folder = tempfile.mkdtemp()
        >>> sources = simulate(f"{folder}/survey.fits", (60, 80), seed=1)
        >>> run = run_survey(f"{folder}/survey.fits", f"{folder}/run", max_iter=2, workers=0, no_report=True)
        >>> cutout = run.cutout(None, ["1 deg", "2 deg"])
        >>> cutout["MODEL"].data.shape, cutout["EXPOSURE"].header["BUNIT"]
        ((10, 20), 'cm2 s')
        """
        region, images = _cut_out(self, center, size)
        scales = self.stored.plan.kernels.scales.tolist()
        units = {"exposure": self.survey.statistics.exposure_unit}
        hdus = (map_hdu(name, pixels, region.header_text, scales, units.get(name, "")) for name, pixels in images)
        cutout = fits.HDUList([fits.PrimaryHDU(), *hdus])
        if filename is not None:
            try:
                cutout.writeto(filename, overwrite=overwrite)
            except OSError as error:
                raise InputError(f"{filename} is not written: {error}") from error
        return cutout

    @numpys_own
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
        >>> maps = run.to_gammapy(center, "2 deg", names=["model", "support"])  # doctest: +SKIP
        >>> maps["support"].data.shape  # doctest: +SKIP
        (2, 20, 20)
        """
        try:
            # An extra; a module of this name may be no Gammapy.
            from gammapy.maps import MapAxis, WcsGeom, WcsNDMap  # noqa: PLC0415
        except ImportError as error:
            raise InputError("maps for Gammapy need Gammapy: pip install 'cwt_dask[gammapy]'") from error
        region, images = _cut_out(self, center, size, names)
        rows, columns = region.box.shape
        scales = MapAxis.from_nodes(self.stored.plan.kernels.scales, name="scale", unit="pix")
        made = {}
        for name, pixels in images:
            axes = [] if pixels.ndim == 2 else [scales]
            if name == HISTORY:
                axes = [MapAxis.from_nodes(range(1, len(pixels) + 1), name="iteration")]
            unit = self.survey.statistics.exposure_unit if name == "exposure" else ""
            made[name] = WcsNDMap(WcsGeom(region.wcs, npix=(columns, rows), axes=axes), data=pixels, unit=unit)
        return made


def _cut_out(
    run: MapSource, center: Any, size: Any, names: Sequence[str] | None = None
) -> tuple[Region, Iterator[tuple[str, NDArray[Any]]]]:
    """Find a rectangle, and read layers of it by name, lazily; without names those of cutouts."""
    region = region_of(run, center, size)
    if region.box.area > SMALL_MAP_PIXELS:
        rows, columns = region.box.shape
        raise InputError(
            f"{rows} x {columns} pixels (y, x) are more than the {SMALL_MAP_PIXELS} that are cut out at once: give a "
            "center and a smaller size, or read the arrays of the run piece by piece"
        )
    names = [spec.name for spec in maps_in("cutout")] if names is None else names
    layers = [layer_of(run, name) for name in names if name != "exposure" or run.survey.exposure is not None]
    return region, ((layer.name, layer.read(region.box, ring=region.ring)) for layer in layers)
