"""Which file and HDU each plane of a survey comes from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from cwt_dask.config.options import SourceOptions
from cwt_dask.config.validation import refuse_disorder, shown
from cwt_dask.cwt.inputs import MAPS
from cwt_dask.errors import SettingsError, SurveyError
from cwt_dask.storage.paths import as_path, exists

NOT_ESTIMATED = "the counts are a map of the sphere, of which no background is estimated: give one, --background FILE"

# Planes that a survey may be without.
OPTIONAL = ("exposure", "mask")

# What asks for a background that is made from the counts. Of a file that holds such a one a card says how it was made,
# one of which bands of a cube, and some, with numbers from 1 on, warn of it.
ESTIMATE, NOTE, BANDS, WARNED = "estimate", "BKGNOTE", "BKGBANDS", "BKGWARN"

# Of counts that events were binned to: with numbers from 1 on, what is to be told of their lists.
TOLD = "EVTWARN"

Band = int | Literal["sum"] | None

# Of a file of counts that events were binned to: the table of the files that these were read from.
INPUT_FILES = "INPUT_FILES"

# What stands for the file of a survey in memory; a card of the file that it is written to says that it is one (T), or
# what else it stands for.
IN_MEMORY, IN_MEMORY_CARD = "(in memory)", "CWTMEM"

_FILE_AND_HDU = re.compile(r"(?P<file>.+)\[(?P<hdu>[^\[\]]+)\]")
# No file has more of them.
HDU_OR_BAND = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class PlaneSource:
    """Where one plane is found."""

    name: str  # Which plane.
    path: Path  # The FITS file.
    hdu: str  # Name (EXTNAME, in any case) or number of the HDU.
    own_file: bool = False  # Whether the file was given for this plane alone.
    only_image_will_do: bool = False  # Whether the file's only image is meant where no HDU has that name.
    # Whether it was asked for, or no survey is without one: then it is an error if it is absent or does not fit.
    required: bool = True
    otherwise: tuple[str, ...] = ()  # Names that will do where no HDU has that name.

    @classmethod
    def parse(cls, name: str, text: str | PathLike[str], hdu: str) -> PlaneSource:
        """Read where a plane is found in a file of its own.

        Parameters
        ----------
        name : str
            Which plane.
        text : str or path-like
            ``FILE`` or ``FILE[HDU]``.
        hdu : str
            Without an HDU it is the one of this name, else the only image.
        """
        path, named = file_and_hdu(str(text))  # in a configuration file it may be anything
        return cls(name, path, named or hdu, own_file=True, only_image_will_do=not named)

    def option(self, hdu: Any) -> str:
        """How to ask for an HDU on the command line."""
        return f"--{self.name} '{self.path}[{hdu}]'" if self.own_file else f"--{self.name}-hdu {hdu}"

    def remedy(self, images: Mapping[int, str]) -> str:
        """What to do if there is no such HDU; `images` are those that hold one, their names by their numbers."""
        if not images:
            return f"give a file that holds the image of the {self.name}"
        if self.own_file or self.name == "counts":
            others = {name.upper() for name in MAPS if name != self.name}
            free = [number for number, name in images.items() if name.upper() not in others]
            only = f"such as {self.option(free[0])}" if len(free) == 1 else self.option("HDU")
            return f"name the one to use, {only}"
        # No number: the first image is that of the counts.
        leave_out = f", or leave it out, --{self.name}-hdu none" if self.name in OPTIONAL else ""
        return f"name the one to use, --{self.name}-hdu HDU, or give its file, --{self.name} FILE{leave_out}"


@dataclass(frozen=True)
class MaskChoice:
    """The mask that was taken."""

    name: str = ""  # Its HDU, and its file if it has one of its own; empty where there is none.
    required: bool = False  # Whether it was asked for.

    @property
    def doubt(self) -> str:
        """What to think of if too many pixels are masked."""
        if not self.name:
            return "check counts and background"
        if "MASK_SAFE" in self.name.upper():
            return f"{self.name} excludes them: choose other bands, or leave it out, --mask-hdu none"
        if self.required:
            return f"{self.name} is taken as nonzero = use: check it"
        return (
            f"{self.name}, which nobody asked for, is taken as nonzero = use (CCDData writes nonzero = bad): correct "
            "it, or leave it out, --mask-hdu none"
        )


@dataclass(frozen=True)
class Selection:
    """What to take of a cube."""

    band: Band = None  # The plane of this number, from 0 on, or "sum", all together.
    # Bands within these energies, in TeV, are summed; None where there is no bound.
    emin: float | None = None
    emax: float | None = None

    @classmethod
    def of(cls, given: SourceOptions) -> Selection:
        """Read it from the options.

        Raises SurveyError if the band is none; SettingsError if bands are chosen twice, or energies out of order.
        """
        low: Any = given.emin  # checked: in TeV
        high: Any = given.emax
        if given.band is not None and (low, high) != (None, None):
            raise SettingsError("band and energies are both given: choose bands by number or by emin and emax")
        refuse_disorder(low, high)
        return cls(_parse_band(given.band), low, high)

    @property
    def by_energy(self) -> bool:
        """Whether bands are chosen by energy."""
        return (self.emin, self.emax) != (None, None)


@dataclass(frozen=True)
class SurveySource:
    """The FITS images that make up a survey; exposure and mask may turn out to be absent, or be left out (None)."""

    counts: PlaneSource
    background: tuple[PlaneSource, ...]  # Summed; none where it is to be estimated from the counts.
    exposure: PlaneSource | None
    mask: PlaneSource | None
    selection: Selection = Selection()
    index: float = 2.0  # Photon index of the power law with which exposures of several energies are weighted.
    exposure_unit: str = ""  # Where the file has none.
    background_scale: float | str | None = None  # At which it is estimated: pixels, or an angle in degrees.
    # Of HEALPix files: the frame of those that do not say, and the pixels that counts are summed to.
    frame: str | None = None
    nside: int | None = None
    sphere: bool = False  # Whether an image is taken to such pixels.
    source_model: Path | None = None  # XML with the spectra of those components that are maps of gtsrcmaps.

    @classmethod
    def of(cls, survey: str | PathLike[str], **options: Any) -> SurveySource:
        """Describe a survey by the options of the command line, `SourceOptions`; no file is opened.

        `survey` is the file of the counts and of all planes without a file of their own; ``FILE[HDU]`` has the counts
        in that HDU. Exposure and mask may be absent unless an option asks for them; "none" leaves them out.

        Raises SurveyError if `band` is neither "sum" nor a whole number from 0 on, or bands are chosen twice, or none
        can be; SettingsError if the background is to be estimated and no scale is given, or it is not, and one is.
        """
        path, hdu = file_and_hdu(survey)
        given = SourceOptions(**({"counts_hdu": hdu} if hdu else {}) | options)

        def plane(name: str, own: Any = None) -> PlaneSource:
            chosen, hdu = f"{name}_hdu" in options, str(getattr(given, f"{name}_hdu"))
            otherwise = ("MASK_SAFE",) if name == "mask" and not chosen else ()
            if own is not None:
                return replace(PlaneSource.parse(name, own, hdu), otherwise=otherwise)
            only = name == "counts" and given.counts_hdu == SourceOptions.counts_hdu
            required = name not in OPTIONAL or chosen
            return PlaneSource(name, path, hdu, only_image_will_do=only, required=required, otherwise=otherwise)

        def optional(name: str) -> PlaneSource | None:
            own = getattr(given, name)
            return None if _is_none(getattr(given, f"{name}_hdu") if own is None else own) else plane(name, own)

        several: Any = given.background if isinstance(given.background, list | tuple) else [given.background]
        if _is_estimated(several, given.background_scale, options):
            several = []
        return cls(
            counts=plane("counts"),
            background=tuple(plane("background", each) for own in several for each in _components(own)),
            exposure=optional("exposure"),
            mask=optional("mask"),
            selection=Selection.of(given),
            index=given.index,
            exposure_unit=str(given.exposure_unit or "").strip(),
            background_scale=given.background_scale,
            frame=given.frame,
            nside=given.nside,
            sphere=given.sphere,
            source_model=None if given.source_model is None else as_path(given.source_model),
        )

    def with_background(self, path: Path) -> SurveySource:
        """The same survey with a background from a file of its own."""
        return replace(self, background=(PlaneSource("background", path, "BACKGROUND", own_file=True),))


def _is_estimated(files: Sequence[Any], scale: Any, options: Mapping[str, Any]) -> bool:
    """Whether the background is to be estimated; SettingsError if what is given with that does not fit."""
    if ESTIMATE not in files:
        if scale is not None:
            raise SettingsError(
                "background_scale is given, and no background is estimated: leave it out, or add --background estimate"
            )
        return False
    if len(files) > 1 or "background_hdu" in options:
        raise SettingsError("the background is to be estimated, and where it is found is given, too: give one of them")
    if scale is None:
        raise SettingsError("the background is to be estimated: give the scale of that, --background-scale 2deg")
    return True


def _is_none(given: Any) -> bool:
    """Whether a plane is to be left out: by a word in any case, or Python's None for an HDU."""
    return given is None or str(given).strip().lower() == "none"


def _components(own: str | PathLike[str] | None) -> list[Any]:
    """Files of a plane and HDUs in them: each of those that ``FILE[HDU,HDU]`` names."""
    if own is None:
        return [None]
    path, named = file_and_hdu(str(own))
    return [f"{path}[{hdu.strip()}]" for hdu in named.split(",") if hdu.strip()] if "," in named else [own]


def file_and_hdu(given: str | PathLike[str]) -> tuple[Path, str]:
    """A file, and the HDU that ``FILE[HDU]`` names; empty where none is named, or a file is called so."""
    path = as_path(given)
    match = _FILE_AND_HDU.fullmatch(str(path))
    return (as_path(match["file"]), match["hdu"]) if match and not exists(path) else (path, "")


def _parse_band(band: int | str | None) -> Band:
    if band is None:
        return None
    if band == "sum":
        return "sum"
    if not HDU_OR_BAND.fullmatch(str(band)):
        raise SurveyError(f'band is "{shown(band)}": give the number of a plane, from 0 on, or "sum"')
    return int(band)
