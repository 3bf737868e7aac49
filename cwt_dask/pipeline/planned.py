"""A call, planned: its survey and its point spread function are read, and its settings resolved for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cwt_dask.background import Means, with_estimate
from cwt_dask.config.options import Options, SourceOptions
from cwt_dask.errors import InputError, SettingsError, SurveyError
from cwt_dask.planning.making import make_plan
from cwt_dask.planning.plan import Plan
from cwt_dask.planning.runfile import read_run
from cwt_dask.psf import OF_PSF, PointSpread, Spectrum, TargetMap, kept_point_spread, own_of, point_spread_of
from cwt_dask.storage.layout import RunDir
from cwt_dask.survey import (
    Outline,
    Survey,
    SurveySource,
    SurveyStatistics,
    band_of,
    is_store,
    outline_of,
    pixel_scale,
    scan,
    wcs_from_text,
)
from cwt_dask.survey.source import file_and_hdu

_LEFT_OUT = "the point spread function of the survey's own file is left out: "


def plan_call(
    survey: Path, options: Options, means: Means, earlier: RunDir | None = None
) -> tuple[Plan, PointSpread | None]:
    """Plan what a call asks for; give its point spread function, too, if there is one.

    Parameters
    ----------
    survey : Path
        File or store.
    options : Options
        All options of the call.
    means : Means
        With what a background is estimated, if one is.
    earlier : RunDir, optional
        A run whose settings these are; its point spread function is taken with them.

    Raises
    ------
    InputError
        If the survey or a setting is wrong.
    """
    # What is wrong with it is reported before a survey is read.
    spread, doubts = read_point_spread(survey, options, earlier)
    statistics = statistics_of(survey, options, means)
    return make_plan(options.settings, statistics, spread, options.given, doubts), spread


def read_point_spread(
    survey: Path, options: Options, earlier: RunDir | None = None
) -> tuple[PointSpread | None, tuple[str, ...]]:
    """Read the point spread function of a call, for the survey's map; None where it has none; and warnings about it.

    Where nothing is said of it, it is that of the survey's own file.

    Parameters
    ----------
    survey, options, earlier
        As of `plan_call`.

    Raises
    ------
    InputError
        If it is none, or does not fit the survey.
    """
    given = options.settings.psf
    if given is None:
        is_asked_for = "psf" not in options.given and not earlier and not is_store(survey)
        return _own_point_spread(survey, options) if is_asked_for else (None, ())
    if earlier:
        kept = kept_point_spread(earlier, given, wcs_from_text(_outline(survey, options).header_text))
        files = tuple(each for each in read_run(earlier).plan.files if each["what"] == OF_PSF)
        return kept and replace(kept, files=files), ()
    return point_spread_of(given, *_aim(survey, options)), ()


def _own_point_spread(survey: Path, options: Options) -> tuple[PointSpread | None, tuple[str, ...]]:
    """That of the survey's own file; left out where it cannot be used, since nobody asked for it."""
    path, _ = file_and_hdu(survey)
    try:
        own = own_of(path)
    except SurveyError:
        raise
    except InputError as error:
        return None, (f"{_LEFT_OUT}{error}",)
    if own is None:
        return None, ()
    aim = _aim(survey, options)
    try:
        spread = point_spread_of(own.given, *aim)
    except InputError as error:
        return None, (_LEFT_OUT + str(error).replace(str(path), own.file),)
    origin = spread.origin.replace(str(path), own.file)
    return replace(spread, origin=f"{origin}, the survey's own (--psf none leaves it out)", files=()), ()


def _aim(survey: Path, options: Options) -> tuple[TargetMap, Spectrum]:
    """For which map and photons a point spread function is wanted."""
    outline = _outline(survey, options)
    wcs = wcs_from_text(outline.header_text)
    target = TargetMap(wcs, outline.shape, pixel_scale(wcs, outline.shape))
    index = SourceOptions(**options.source).index
    return target, Spectrum(index, band_of(outline.energies))


def _outline(survey: Path, options: Options) -> Outline:
    if not is_store(survey):
        return outline_of(SurveySource.of(survey, **options.source))
    store = open_store(survey, options)
    origins = (origin for origin in store.statistics.origins if origin["plane"] == "counts")
    energies = next((str(origin["energies"]) for origin in origins if "energies" in origin), "")
    return Outline(store.header_text, store.shape, energies)


def statistics_of(survey: Path, options: Options, means: Means) -> SurveyStatistics:
    """Statistics of a survey.

    Parameters
    ----------
    survey, options, means
        As of `plan_call`.
    """
    if is_store(survey):
        return open_store(survey, options).statistics
    with with_estimate(SurveySource.of(survey, **options.source), means) as described:
        return scan(described)


def open_store(survey: Path, options: Options) -> Survey:
    """Open a survey's store.

    Raises SettingsError if the call names its images: they were chosen when it was made. Raises SurveyError if it is
    damaged.
    """
    # The photon index is that of the point spread function, too.
    named = [name for name in options.source if name != "index" or options.settings.psf is None]
    if named:
        raise SettingsError(
            f"{survey} is a store, its planes were chosen when it was ingested: leave out {', '.join(named)}, or "
            "ingest again with them"
        )
    opened = Survey.open(survey)
    opened.refuse_unproven()
    return opened
