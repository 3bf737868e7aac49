"""All options of a call, by what they are for: settings, execution, and where the images of the survey are found."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

from cwt_dask.config.declaration import Checked, declaration, option, option_names
from cwt_dask.config.events import FRAMES, MapOptions
from cwt_dask.config.execution import Execution
from cwt_dask.config.settings import Settings, kernels_of
from cwt_dask.config.validation import Choice, Energy, Extent, Flag, Kind, Nside, Number, Several, shown
from cwt_dask.errors import SettingsError

_FILE, _E = "FILE[HDU]", "E"


@declaration
class SourceOptions(Checked):
    """Where the images of a survey are found; they are checked where they are read."""

    counts_hdu: str = option("COUNTS", Kind(), "HDU of the counts, by name or number.")
    background_hdu: str = option("BACKGROUND", Kind(), "HDU of the background.")
    exposure_hdu: str = option("EXPOSURE", Kind(), "HDU of the exposure, if there is one; none leaves it out.")
    mask_hdu: str = option("MASK", Kind(), "HDU of the mask (nonzero = use), if there is one; none leaves it out.")
    background: str | PathLike[str] | Sequence[str | PathLike[str]] | None = option(
        None,
        Several(),
        "Background from files of its own; of several, and of FILE[HDU,HDU...], the sum; or estimate: from the counts "
        "outside of sources, at `background_scale`.",
        metavar=_FILE,
    )
    background_scale: float | str | None = option(
        None,
        Extent(),
        "Scale of the smoothing where the background is estimated from the counts: pixels, or an angle such as 2deg.",
        metavar="PIXELS|DEG",
    )
    source_model: str | PathLike[str] | None = option(
        None,
        Kind(),
        "Source model of gtlike and gtsrcmaps, XML: spectra of those backgrounds that are maps of gtsrcmaps, by the "
        "names of their HDUs.",
        metavar="MODEL.xml",
    )
    exposure: str | PathLike[str] | None = option(
        None, Kind(), "Exposure from a file of its own; none leaves it out.", metavar=_FILE
    )
    mask: str | PathLike[str] | None = option(
        None, Kind(), "Mask from a file of its own; none leaves it out.", metavar=_FILE
    )
    band: int | str | None = option(None, Kind(), "Plane of a cube, from 0 on, or the sum of all.", metavar="I|sum")
    emin: str | None = option(
        None,
        Energy(),
        "Sum the bands of a cube from this energy on, such as 10GeV; of event lists, the lowest.",
        metavar=_E,
    )
    emax: str | None = option(
        None, Energy(), "Sum the bands of a cube up to this energy; events are taken below it.", metavar=_E
    )
    frame: str | None = option(
        None,
        Choice(FRAMES),
        "Coordinates, Galactic or ICRS: of HEALPix files that do not say; of the map that event lists are binned onto, "
        "gal unless given.",
    )
    nside: int | None = option(
        None,
        Nside(),
        "Of a whole sky: pixels along the edge of a base cell, a power of two. With `allsky` event lists are binned to "
        "such pixels, with `sphere` an image is taken to them; counts of a finer HEALPix map are summed to them.",
        metavar="N",
    )
    sphere: bool = option(
        False,
        Flag(),
        "Take an image of the sky, in any projection, to HEALPix pixels, of the size of its own or of `nside`.",
    )
    index: float = option(
        2.0,
        Number(-10, 10),
        "Photon index of the power law with which exposures and point spread functions are weighted by energy.",
    )
    exposure_unit: str | None = option(
        None, Kind(), 'Unit of the exposure, such as "cm2 s", where its file has none.', metavar="UNIT"
    )


_DECLARED = (Settings, Execution, SourceOptions, MapOptions)
OPTION_NAMES = tuple(name for declared in _DECLARED for name in option_names(declared))


def refuse_unknown(given: Mapping[str, Any]) -> None:
    """Raise SettingsError about the first option that does not exist, with the nearest one that does."""
    for name in given:
        if name not in OPTION_NAMES:
            near = difflib.get_close_matches(name, OPTION_NAMES, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are: {', '.join(OPTION_NAMES)}"
            raise SettingsError(f"unknown option {shown(name)}: {hint}")


@dataclass(frozen=True)
class Options:
    """All options of a call, sorted; of `source` and `onto` those that were given."""

    settings: Settings
    execution: Execution
    source: dict[str, Any]
    onto: dict[str, Any]  # The map that event lists are binned onto; empty of a survey of maps.
    given: frozenset[str]  # Names of the settings that were given.

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Options:
        """Sort options by what they are for.

        Raises SettingsError if one is unknown or impossible.
        """
        refuse_unknown(given)
        if given.get("scheduler") or given.get("scheduler_file"):
            given = {"cluster": "address", **given}
        settings, execution, source, onto = (
            {name: given[name] for name in option_names(declared) if name in given} for declared in _DECLARED
        )
        MapOptions(**onto)
        options = cls(Settings(**settings), Execution(**execution), source, onto, frozenset(settings))
        from_psf = "psf" in settings and not {"min_scale", "step_scale", "n_scale"} <= settings.keys()
        if not (isinstance(options.settings.min_scale, str) or from_psf):
            # What is wrong without a look at the survey is reported before a survey is read.
            kernels_of(options.settings)
        return options
