"""Which file and HDU each plane of a survey comes from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from cwt_dask.config.options import SourceOptions
from cwt_dask.config.validation import shown
from cwt_dask.errors import SurveyError
from cwt_dask.storage.paths import as_path, exists

Band = int | Literal["sum"] | None

_FILE_AND_HDU = re.compile(r"(?P<file>.+)\[(?P<hdu>[^\[\]]+)\]")
# No file has more of them.
HDU_OR_BAND = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class PlaneSource:
    """Where one plane is found."""

    path: Path  # The FITS file.
    hdu: str  # Name (EXTNAME, in any case) or number of the HDU.
    only_image_will_do: bool = False  # Whether the file's only image is meant where no HDU has that name.
    required: bool = True  # Whether its absence is an error.

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
    """The FITS images that make up a survey; exposure and mask may turn out to be absent."""

    counts: PlaneSource
    background: PlaneSource
    exposure: PlaneSource
    mask: PlaneSource
    band: Band = None  # What to take of a cube: the plane of this number, from 0 on, or "sum", all together.

    @classmethod
    def of(cls, survey: str | PathLike[str], **options: Any) -> SurveySource:
        """Describe a survey by the options of the command line, `SourceOptions`; no file is opened.

        `survey` is the file of the counts and of all planes without a file of their own. Exposure and mask may be
        absent, unless another name than the usual one is asked for.

        Raises SurveyError if `band` is neither "sum" nor a whole number from 0 on.
        """
        path, given = as_path(survey), SourceOptions(**options)

        def plane(own: str | PathLike[str] | None, hdu: str, usual: str | None = None) -> PlaneSource:
            hdu = str(hdu)
            return PlaneSource.parse(own, hdu) if own is not None else PlaneSource(path, hdu, required=hdu != usual)

        return cls(
            counts=plane(None, given.counts_hdu),
            background=plane(given.background, given.background_hdu),
            exposure=plane(given.exposure, given.exposure_hdu, SourceOptions.exposure_hdu),
            mask=plane(given.mask, given.mask_hdu, SourceOptions.mask_hdu),
            band=_parse_band(given.band),
        )


def _parse_band(band: int | str | None) -> Band:
    if band is None:
        return None
    if band == "sum":
        return "sum"
    if not HDU_OR_BAND.fullmatch(str(band)):
        raise SurveyError(f'band is "{shown(band)}": give the number of a plane, from 0 on, or "sum"')
    return int(band)
