"""Which file and HDU each plane of a survey comes from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cwt_dask.config.validation import shown
from cwt_dask.errors import SurveyError
from cwt_dask.storage.paths import as_path, exists

if TYPE_CHECKING:
    from os import PathLike
    from pathlib import Path

    Band = int | Literal["sum"] | None

_FILE_AND_HDU = re.compile(r"(?P<file>.+)\[(?P<hdu>[^\[\]]+)\]")
# No file has more of them.
HDU_OR_BAND = re.compile(r"[0-9]{1,9}")
_EXPOSURE, _MASK = "EXPOSURE", "MASK"


@dataclass(frozen=True)
class PlaneSource:
    """Where one plane is found.

    Attributes
    ----------
    path : Path
        The FITS file.
    hdu : str
        Name (EXTNAME, in any case) or number of the HDU.
    only_image_will_do : bool
        Whether the file's only image is meant where no HDU has that name.
    required : bool
        Whether its absence is an error.
    """

    path: Path
    hdu: str
    only_image_will_do: bool = False
    required: bool = True

    @classmethod
    def parse(cls, text: str | PathLike[str], name: str) -> PlaneSource:
        """Read ``FILE`` or ``FILE[HDU]``; without an HDU it is the one called `name`, else the only image."""
        text = str(text)  # in a configuration file it may be anything
        match = _FILE_AND_HDU.fullmatch(text)
        if match and not exists(as_path(text)):
            return cls(as_path(match["file"]), match["hdu"])
        return cls(as_path(text), name, only_image_will_do=True)


@dataclass(frozen=True)
class SurveySource:
    """The FITS images that make up a survey.

    Attributes
    ----------
    counts, background, exposure, mask : PlaneSource
        Where each plane is found; exposure and mask may turn out to be absent.
    band : int or "sum", optional
        What to take of cubes with more planes than one: the plane of this number, from 0 on, or all together.
    """

    counts: PlaneSource
    background: PlaneSource
    exposure: PlaneSource
    mask: PlaneSource
    band: Band = None

    @classmethod
    def of(
        cls,
        survey: str | PathLike[str],
        *,
        counts_hdu: str = "COUNTS",
        background_hdu: str = "BACKGROUND",
        exposure_hdu: str = _EXPOSURE,
        mask_hdu: str = _MASK,
        background: str | PathLike[str] | None = None,
        exposure: str | PathLike[str] | None = None,
        mask: str | PathLike[str] | None = None,
        band: int | str | None = None,
    ) -> SurveySource:
        """Describe a survey by the options of the command line; no file is opened.

        Parameters
        ----------
        survey : path-like
            FITS file (``.fits``, ``.fits.gz``, ``.fits.fz``) of the counts and of all planes without a file of their
            own.
        counts_hdu, background_hdu, exposure_hdu, mask_hdu : str
            Names or numbers of the HDUs. Exposure and mask may be absent, unless another name than the usual one is
            asked for.
        background, exposure, mask : path-like, optional
            Files of their own, as ``FILE`` or ``FILE[HDU]``.
        band : int or str, optional
            Plane of cubes, from 0 on, or "sum".

        Returns
        -------
        SurveySource

        Raises
        ------
        SurveyError
            If `band` is neither "sum" nor a whole number from 0 on.
        """
        path = as_path(survey)

        def plane(own: str | PathLike[str] | None, hdu: str, usual: str | None = None) -> PlaneSource:
            hdu = str(hdu)
            return PlaneSource.parse(own, hdu) if own is not None else PlaneSource(path, hdu, required=hdu != usual)

        return cls(
            counts=plane(None, counts_hdu),
            background=plane(background, background_hdu),
            exposure=plane(exposure, exposure_hdu, _EXPOSURE),
            mask=plane(mask, mask_hdu, _MASK),
            band=_parse_band(band),
        )


def _parse_band(band: int | str | None) -> Band:
    if band is None:
        return None
    if band == "sum":
        return "sum"
    if not HDU_OR_BAND.fullmatch(str(band)):
        raise SurveyError(f'band is "{shown(band)}": give the number of a plane, from 0 on, or "sum"')
    return int(band)
