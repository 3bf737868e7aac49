"""Images and cubes that carry their sky coordinates, made from any object that holds an image."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits
from astropy.nddata import Cutout2D
from astropy.nddata.utils import NoOverlapError
from numpy.typing import NDArray

from cwt_dask.cwt.drawing import label_sky, pyplot
from cwt_dask.cwt.pixels import celestial_of, pixels_of, plainly_spelled_wcs, refuse_other_wcs
from cwt_dask.cwt.sky_cards import ECLIPTIC, with_inherited
from cwt_dask.errors import InputError

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord
    from astropy.units import Quantity
    from astropy.wcs import WCS


@dataclass(frozen=True, eq=False)
class SkyImage:
    """An image (y, x), or a cube of images (scale, y, x), and where it lies on the sky.

    Parameters
    ----------
    data : ndarray
        Pixels of any real or boolean dtype; read-only by convention.
    wcs : astropy.wcs.WCS or None, optional
        Celestial WCS of the axes (y, x).
    name : str, optional
        What it shows; the title of a plot and the name in error messages.

    Raises
    ------
    InputError
        If `data` is neither an image nor a cube of numbers, or `wcs` is not celestial.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.wcs import WCS
    >>> from cwt_dask.cwt.image import SkyImage
    >>> wcs = WCS({"CTYPE1": "GLON-CAR", "CTYPE2": "GLAT-CAR", "CRPIX1": 20.5, "CRPIX2": 10.5, "CDELT1": -0.1})
    >>> image = SkyImage(np.zeros((20, 40)), wcs, "counts")
    >>> image.center.to_string()
    '0 0'
    """

    data: NDArray[Any]
    wcs: Any = None
    name: str = ""

    def __post_init__(self) -> None:
        if self.data.dtype.kind not in "biuf":
            raise InputError(f"{self._label} holds {self.data.dtype} values: give real numbers")
        if self.data.ndim not in (2, 3) or self.data.size == 0:
            raise InputError(
                f"{self._label} has shape {self.data.shape}: give an image (y, x) or a cube (scale, y, x) with pixels"
            )
        refuse_other_wcs(self.wcs, self._label)
        if self.wcs is not None:
            object.__setattr__(self, "wcs", plainly_spelled_wcs(self.wcs))

    @classmethod
    def of(cls, source: Any, name: str = "") -> SkyImage:
        """Image made from anything that holds one.

        Parameters
        ----------
        source : SkyImage, array_like, NDData, FITS HDU, or object with ``.data`` and ``.wcs`` or ``.geom.wcs``
            Leading axes of length 1 are dropped. A WCS that is not celestial is not kept.
        name : str, optional
            Name of the image.

        Returns
        -------
        SkyImage
            Of shape (y, x), in native byte order. Pixels that `source` masks, as `numpy.ma`, `Masked`, `NDData` and
            Dask arrays of masked arrays do, are NaN.

        Raises
        ------
        InputError
            If `source` holds no two-dimensional image of numbers.

        Examples
        --------
        >>> import numpy as np
        >>> SkyImage.of(np.ma.masked_equal([[1, 2], [3, 4]], 3), "counts").data
        array([[ 1.,  2.],
               [nan,  4.]])
        """
        data, masked = pixels_of(source, name or "the image")
        data = data.astype(data.dtype.newbyteorder("="), copy=False)
        if masked is not None:
            data = np.where(masked, np.nan, data)
        while data.ndim > 2 and data.shape[0] == 1:
            data = data[0]
        image = cls(data, celestial_of(source), name)
        if data.ndim != 2:
            raise InputError(f"{image._label} has shape {data.shape}: give an image (y, x), such as one of the cube")
        return image

    @classmethod
    def read(cls, path: str | PathLike[str], hdu: str | int = 0) -> SkyImage:
        """Image of a FITS file.

        Parameters
        ----------
        path : str or path
            FITS file, compressed or not.
        hdu : str or int, optional
            Name or index of the image HDU.

        Raises
        ------
        InputError
            If the file or the HDU cannot be read, or is not an image.

        Examples
        --------
        >>> import tempfile
        >>> import numpy as np
        >>> with tempfile.NamedTemporaryFile(suffix=".fits") as file:
        ...     SkyImage(np.ones((2, 3)), name="counts").to_hdu().writeto(file.name, overwrite=True)
        ...     SkyImage.read(file.name, "counts").data.shape
        (2, 3)
        """
        try:
            with fits.open(path, memmap=False) as hdus:
                image = hdus[hdu]
                image.header = with_inherited(image.header, hdus[0].header)
                return cls.of(image, name=image.name.lower())
        except (OSError, KeyError, IndexError, ValueError) as error:
            raise InputError(f"HDU {hdu!r} of {path} cannot be read: {error}") from error

    @property
    def center(self) -> SkyCoord:
        """Sky position of the middle of the image.

        Raises
        ------
        InputError
            If there is no WCS.
        """
        ny, nx = self.data.shape[-2:]
        return self._sky().pixel_to_world((nx - 1) / 2, (ny - 1) / 2)

    def cutout(self, position: SkyCoord, size: Quantity) -> SkyImage:
        """Cut a rectangle out, by sky position and angular size, as far as the image has pixels there.

        Parameters
        ----------
        position : SkyCoord
            Centre of the rectangle, in any frame.
        size : Angle or Quantity
            Angular size: one for a square, or (height, width).

        Returns
        -------
        SkyImage
            A view of these pixels, with its own WCS.

        Raises
        ------
        InputError
            If there is no WCS, or no pixel of the image is in the rectangle.

        Examples
        --------
        >>> import numpy as np
        >>> from astropy import units as u
        >>> from astropy.wcs import WCS
        >>> header = {"CTYPE1": "GLON-CAR", "CTYPE2": "GLAT-CAR", "CDELT1": -0.1, "CDELT2": 0.1}
        >>> image = SkyImage(np.zeros((200, 400)), WCS(header))
        >>> image.cutout(image.center, [1, 2] * u.deg).data.shape
        (10, 20)
        """
        wcs = self._sky()
        x, y = wcs.world_to_pixel(position)
        if not (position.isscalar and np.isfinite(x + y)):
            raise InputError(f"{position.to_string()} is not one position on the projection of {self._label}")
        # A position that was itself made from pixels comes back with a rounding error, which would decide at which
        # of two pixels an even number of pixels starts.
        pixel = (round(float(x), 6), round(float(y), 6))
        image = self.data.reshape(-1, *self.data.shape[-2:])[0]
        try:
            cut = Cutout2D(image, pixel, size, wcs=wcs)
            return SkyImage(self.data[(..., *cut.slices_original)], cut.wcs, self.name)
        except (NoOverlapError, ValueError) as error:
            raise InputError(
                f"no cutout of {size} around {position.to_string()} from {self._label} with its centre at "
                f"{self.center.to_string()}: {error}"
            ) from error

    def to_hdu(self) -> fits.ImageHDU:
        """Make an HDU of FITS.

        Returns
        -------
        astropy.io.fits.ImageHDU
            Of this name, with the WCS; booleans as uint8.

        Examples
        --------
        >>> import numpy as np
        >>> SkyImage(np.ones((2, 3), dtype=bool), name="mask").to_hdu().data.dtype
        dtype('uint8')
        """
        data = self.data.astype(np.uint8) if self.data.dtype == bool else self.data
        header = None if self.wcs is None else self.wcs.to_header(relax=True)
        return fits.ImageHDU(data, header, name=self.name)

    def plot(
        self, ax: Any = None, fig: Any = None, vmin: float | None = None, vmax: float | None = None, **imshow: Any
    ) -> Any:
        """Draw the image on sky axes.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Axes to draw on; made in `fig` where not given.
        fig : matplotlib.figure.Figure, optional
            Figure for new axes; made where not given.
        vmin, vmax : float, optional
            Values of the ends of the colour scale; those of the image where not given.
        **imshow
            Passed on to `matplotlib.axes.Axes.imshow`.

        Returns
        -------
        matplotlib.axes.Axes
            What was drawn on: WCSAxes if made here for an image with a WCS.

        Raises
        ------
        InputError
            If this is a cube, or matplotlib is not installed.
        """
        if self.data.ndim != 2:
            raise InputError(f"{self._label} is a cube: plot one image of it, SkyImage(cube.data[i], cube.wcs).plot()")
        if ax is None:
            fig = pyplot().figure() if fig is None else fig
            ax = fig.add_subplot(projection=self.wcs)
        ax.imshow(self.data, **{"origin": "lower", "vmin": vmin, "vmax": vmax} | imshow)
        ax.set_title(self.name)
        if self.wcs is not None:
            label_sky(ax)
        return ax

    @property
    def _label(self) -> str:
        return self.name or "the image"

    def _sky(self) -> WCS:
        if self.wcs is None:
            raise InputError(f"{self._label} has no celestial WCS: make it with one, SkyImage(data, wcs=...)")
        if self.wcs.wcs.lngtyp.strip() in ECLIPTIC:
            raise InputError(
                f"{self._label} is in ecliptic coordinates, which astropy takes for equatorial ones: project it to "
                "Galactic or equatorial coordinates"
            )
        return self.wcs
