"""The map that is analysed, and what the analysis computed: `CWTData`."""

from __future__ import annotations

import copy
from os import PathLike
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from cwt_dask.cwt.arrays import numpys_own
from cwt_dask.cwt.drawing import pyplot
from cwt_dask.cwt.image import SkyImage
from cwt_dask.cwt.inputs import make_field, maps_of
from cwt_dask.cwt.state import State
from cwt_dask.cwt.tables import InfoTables, html_overview
from cwt_dask.errors import InputError


class CWTData(InfoTables):
    """A counts map with its background, and the images and cubes that `CWT.analyze` computes from them.

    Everything computed is zero at first. Images are (y, x), cubes (scale, y, x), float64 unless noted;
    each is a `SkyImage` on the WCS of the counts (of the background where the counts have none).

    Parameters
    ----------
    counts, background : array_like, SkyImage, NDData, FITS HDU, or object with ``.data`` and ``.wcs`` or ``.geom.wcs``
        Counts, and expected background counts, per pixel: shape (y, x), any real dtype, not negative. Pixels that are
        NaN or masked in either take no part.
    n_scale : int
        Number of scales of the kernels that will be used.
    mask : the same kinds, optional
        Pixels where it is 0, False, NaN or masked take no part.

    Attributes
    ----------
    field : Field
        Counts and background, 0 on pixels that take no part, and which pixels those are.
    wcs : astropy.wcs.WCS or None
        Where the pixels lie on the sky.
    n_scale : int
        Number of scales.
    state : State
        All that the last iteration left, in the shape of the counts.
    background_approx : ndarray
        Background convolved with the approximation kernel: the data of `approx_bkg`.
    converged : bool
        True if the residual variance changed by less than the tolerance in the last iteration. It says that the
        steps have become small, not that all flux is in the model.

    Raises
    ------
    InputError
        If the images cannot be read as such, their shapes differ, a pixel is negative or infinite, no pixel is left,
        or `n_scale` is not a positive whole number.

    Notes
    -----
    The error, and with it the significance, is undefined near very bright sources, where the approximation makes the
    expected counts negative: the error is NaN there. Tables leave out NaN, and the pixels that take no part.

    Examples
    --------
    >>> import numpy as np
    >>> from cwt_dask import CWTData
    >>> counts = np.ones((40, 50))
    >>> counts[7, 9] = np.nan
    >>> data = CWTData(counts, background=np.ones((40, 50)), n_scale=2)
    >>> data
    CWTData(40 x 50 pixels, 2 scales, 0 iterations)
    >>> int(data.mask.data.sum())
    1999
    >>> list(data.cubes())
    ['transform_3d', 'error', 'support']
    """

    @numpys_own
    def __init__(self, counts: Any, background: Any, n_scale: int, mask: Any = None) -> None:
        if not isinstance(n_scale, int | np.integer) or n_scale < 1:
            raise InputError(f"n_scale is {n_scale}: it must be a whole number of at least 1")
        counts, background = SkyImage.of(counts, "counts"), SkyImage.of(background, "background")
        self.wcs = background.wcs if counts.wcs is None else counts.wcs
        self.field = make_field(counts, background, None if mask is None else SkyImage.of(mask, "mask"))
        self.n_scale = int(n_scale)
        self.reset()

    @classmethod
    def from_dataset(cls, dataset: Any, n_scale: int) -> CWTData:
        """Take counts, background and mask from a Gammapy dataset, or anything like it.

        Parameters
        ----------
        dataset : mapping or object
            As `cwt_dask.cwt.inputs.maps_of` takes it apart; of one energy bin, as ``MapDataset.to_image()`` makes it.
        n_scale : int
            As of `CWTData`.

        Raises
        ------
        InputError
            If it has no counts or background, or more than one energy bin, or as `CWTData`.

        Examples
        --------
        >>> import numpy as np
        >>> CWTData.from_dataset({"counts": np.ones((9, 9)), "background": np.ones((9, 9))}, n_scale=2)
        CWTData(9 x 9 pixels, 2 scales, 0 iterations)
        """
        maps = maps_of(dataset)
        return cls(maps["counts"], maps["background"], n_scale, maps.get("mask"))

    def reset(self) -> None:
        """Forget what was computed."""
        shape = self.field.counts.shape
        self.update(State.start(self.n_scale, shape, with_cubes=True), np.zeros(shape), converged=False)

    def update(self, state: State, background_approx: NDArray[np.float64], *, converged: bool) -> None:
        """Keep what an iteration computed.

        Parameters
        ----------
        state : State
            In the shape of the counts.
        background_approx : ndarray
            Background convolved with the approximation kernel, float64 (y, x), counts per pixel.
        converged : bool
            Whether the stopping rule is met.
        """
        self.state = state
        self.background_approx = background_approx
        self.converged = converged

    @property
    def n_iter(self) -> int:
        """Number of iterations done."""
        return self.state.iteration

    @property
    def counts(self) -> SkyImage:
        """Counts per pixel, 0 on pixels that take no part."""
        return self._image("counts", self.field.counts)

    @property
    def background(self) -> SkyImage:
        """Expected background counts per pixel, 0 on pixels that take no part."""
        return self._image("background", self.field.background)

    @property
    def mask(self) -> SkyImage:
        """Pixels that take part, bool."""
        return self._image("mask", self.field.valid)

    @property
    def model(self) -> SkyImage:
        """Model: what was found significant, counts per pixel. It is not the flux: a part of it stays in `approx`."""
        return self._image("model", self.state.model)

    @property
    def approx(self) -> SkyImage:
        """Approximation: the smooth rest, counts per pixel."""
        return self._image("approx", self.state.approx)

    @property
    def approx_bkg(self) -> SkyImage:
        """Approximation of the background, counts per pixel."""
        return self._image("approx_bkg", self.background_approx)

    @property
    def transform_2d(self) -> SkyImage:
        """Sum of the transforms over the supports of their scales, counts per pixel."""
        return self._image("transform_2d", self.state.transform_2d)

    @property
    def model_plus_approx(self) -> SkyImage:
        """Model plus approximation, counts per pixel."""
        return self._image("model_plus_approx", self.state.model + self.state.approx)

    @property
    def residual(self) -> SkyImage:
        """Counts minus model and approximation, counts per pixel; the background is not subtracted."""
        return self._image("residual", self.field.counts - self.model_plus_approx.data)

    @property
    def maximal(self) -> SkyImage:
        """Largest transform over the scales where any scale has support, else 0, counts per pixel."""
        return self._image("maximal", self.state.transform.max(axis=0) * self.support_2d.data)

    @property
    def support_2d(self) -> SkyImage:
        """Pixels in the support of any scale, bool."""
        return self._image("support_2d", np.logical_or.reduce(self.state.support))

    @property
    def transform_3d(self) -> SkyImage:
        """Cube: excess convolved with the base kernels, counts per pixel."""
        return self._image("transform_3d", self.state.transform)

    @property
    def error(self) -> SkyImage:
        """Cube: expected standard deviation of the transform, counts per pixel; NaN where it is undefined."""
        return self._image("error", self.state.error)

    @property
    def support(self) -> SkyImage:
        """Cube: pixels that were significant in any iteration, bool."""
        return self._image("support", self.state.support)

    @property
    def support_3d(self) -> SkyImage:
        """The same as `support`."""
        return self.support

    @property
    def significance(self) -> SkyImage:
        """Largest transform / error over scales and iterations, 0 where it was never defined.

        This is the published statistic T/E. Where counts are few it is far from a number of standard deviations.
        """
        largest = self.state.significance
        return self._image("significance", np.where(np.isfinite(largest), largest, 0.0))

    @property
    def sigma(self) -> SkyImage:
        """Calibrated significance S of the first iteration, largest over scales, 0 where undefined."""
        return self._image("sigma", np.where(self.state.sigma > -np.inf, self.state.sigma, np.float32(0)))

    @property
    def best_scale(self) -> SkyImage:
        """Index of the scale of that largest significance, int16, -1 where it was never defined."""
        return self._image("best_scale", self.state.best_scale)

    @property
    def best_iteration(self) -> SkyImage:
        """Iteration of that largest significance, uint16, 0 where it was never defined."""
        return self._image("best_iteration", self.state.best_iteration)

    def images(self) -> dict[str, SkyImage]:
        """Name all images.

        Returns
        -------
        dict of str to SkyImage
            In this order: counts, background, then what was computed.
        """
        of_state = self.model, self.approx, self.approx_bkg, self.transform_2d
        derived = self.model_plus_approx, self.residual, self.maximal, self.support_2d
        return _by_name(self.counts, self.background, *of_state, *derived)

    def cubes(self) -> dict[str, SkyImage]:
        """Name all cubes.

        Returns
        -------
        dict of str to SkyImage
            In this order: transform_3d, error, support.
        """
        return _by_name(self.transform_3d, self.error, self.support)

    def plot(self, columns: int = 2, fig: Any = None, **imshow: Any) -> NDArray[np.object_]:
        """Draw all images in a grid, on sky axes where there is a WCS.

        Parameters
        ----------
        columns : int, optional
            Images side by side.
        fig : matplotlib.figure.Figure or SubFigure, optional
            Where to make axes; a new figure where not given.
        **imshow
            Passed on to `matplotlib.axes.Axes.imshow`, such as ``vmax=5``.

        Returns
        -------
        ndarray of matplotlib.axes.Axes
            One an image, in the order of `images`.

        Raises
        ------
        InputError
            If matplotlib is not installed.
        """
        images = self.images().values()
        rows = -(-len(images) // columns)
        if fig is None:
            fig = pyplot().figure(figsize=(7.5 * columns, 4 * rows), layout="constrained")
        grid = (fig.add_subplot(rows, columns, n, projection=self.wcs) for n in range(1, len(images) + 1))
        return np.array([image.plot(ax, **imshow) for image, ax in zip(images, grid, strict=True)], dtype=object)

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.field.counts.shape))
        return f"CWTData({size} pixels, {self.n_scale} scales, {self.n_iter} iterations)"

    def _repr_html_(self) -> str:
        line = f"after iteration {self.n_iter}, steps {'' if self.converged else 'not '}below tol"
        return html_overview(repr(self), line if self.n_iter else "not analysed yet", self.info_table)

    @numpys_own
    def __sub__(self, other: CWTData) -> CWTData:
        """What was computed here minus what was computed there; the supports' exclusive or.

        Counts, background, significance, sigma and best scale stay those of this one. As published, residual, maximal,
        support_2d and model_plus_approx follow from the differences.

        Raises
        ------
        InputError
            If the two differ in shape or number of scales.
        """
        a, b = self.state, other.state
        if a.support.shape != b.support.shape:
            raise InputError(
                f"no difference of {a.support.shape} and {b.support.shape} (scale, y, x): shapes and n_scale must agree"
            )
        difference = copy.copy(self)
        difference.update(a.minus(b), self.background_approx - other.background_approx, converged=self.converged)
        return difference

    def write(self, filename: str | PathLike[str], overwrite: bool = False) -> None:
        """Write all images and cubes to a FITS file, one HDU each, named as here; booleans as uint8.

        Parameters
        ----------
        filename : str or path
            File to write, compressed if it ends in ``.gz``.
        overwrite : bool, optional
            Replace an existing file.

        Raises
        ------
        InputError
            If the file exists and is not to be replaced, or cannot be written.
        """
        best = self.significance, self.best_scale, self.best_iteration, self.sigma
        everything = [*self.images().values(), *self.cubes().values(), *best, self.mask]
        hdus = fits.HDUList([fits.PrimaryHDU(), *(image.to_hdu() for image in everything)])
        try:
            hdus.writeto(filename, overwrite=overwrite)
        except OSError as error:
            raise InputError(f"{filename} is not written: {error}") from error

    def _image(self, name: str, data: NDArray[Any]) -> SkyImage:
        return SkyImage(data, self.wcs, name)


def _by_name(*images: SkyImage) -> dict[str, SkyImage]:
    return {image.name: image for image in images}
