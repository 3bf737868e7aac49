"""One pass over a survey's files: measured and checked, and written to a store where one is wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import count, takewhile
from os import PathLike
from pathlib import Path
from tempfile import gettempdir
from typing import Any, NamedTuple

from cwt_dask.config.validation import shown
from cwt_dask.cwt.arrays import numpys_own
from cwt_dask.errors import InputError, SurveyError
from cwt_dask.storage.paths import as_path, backend_of, exists, on_disk
from cwt_dask.storage.room import room_for
from cwt_dask.survey.dataset import as_file
from cwt_dask.survey.moved import MovedSurvey, open_planes
from cwt_dask.survey.origin import files_of, origins_of, unit_of
from cwt_dask.survey.source import BANDS, NOTE, TOLD, WARNED, SurveySource
from cwt_dask.survey.sphere import SkyImage, Sphere
from cwt_dask.survey.statistics import Census, SurveyStatistics, digest_survey
from cwt_dask.survey.store import Survey
from cwt_dask.survey.strips import OpenSurvey
from cwt_dask.survey.wcs import closes_circle, pixel_scale, remarks, repeats_edge_column, wcs_from_text
from cwt_dask.survey.writer import StoreWriter


def scan(source: SurveySource) -> SurveyStatistics:
    """Check and measure a survey, as `ingest` does; nothing is written.

    Raises SurveyError if the survey cannot be analysed.
    """
    with open_planes(source) as survey:
        unit, census = unit_of(survey, source), Census(nside=_nside(survey))
        for strip in survey.strips():
            census.add(strip)
        return _statistics(survey, census, unit, source.index)


class Outline(NamedTuple):
    """What a survey says of itself before its pixels are read."""

    header_text: str  # The WCS cards of the counts, one a line.
    shape: tuple[int, int]  # Rows and columns.
    energies: str  # Those of the counts, for people; empty where the file does not say them.


def outline_of(source: SurveySource) -> Outline:
    """Open a survey for its outline.

    Raises SurveyError if it cannot be opened.
    """
    with open_planes(source) as survey:
        return Outline(survey.header_text, survey.shape, survey.energies)


@numpys_own
def ingest(
    source: Any,
    out: str | PathLike[str],
    *,
    begin: Callable[[tuple[int, int]], object] = lambda _: None,
    without_background: bool = False,
    **options: Any,
) -> Survey:
    """Write a survey to a store that workers read window by window.

    Memory is bounded by the map's width and by the largest tile of a compressed file, not by the map's height.
    The store appears whole under its name, or not at all.

    Parameters
    ----------
    source : path-like, SurveySource or dataset
        A FITS file, the files of a survey, or a survey in memory, such as Gammapy's `MapDataset`: see `as_file`.
    out : path-like
        Directory to create.
    begin : callable, optional
        Called with the map's shape, (y, x), before it is read; what it raises ends that.
    without_background : bool, optional
        Whether to write 0 as the background of a survey of which it is still to be estimated, not to refuse that one.
    **options
        Fields of `cwt_dask.config.options.SourceOptions`, such as band or emin: of a file or a dataset, which a
        SurveySource has already.

    Returns
    -------
    Survey

    Raises
    ------
    SurveyError
        If the survey cannot be analysed, `out` exists, be it only at the end, or its parent directory does not.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from cwt_dask.simulate import simulate
    >>> with TemporaryDirectory() as directory:
    ...     truth = simulate(f"{directory}/survey.fits", (60, 80), seed=1)
    ...     survey = ingest(f"{directory}/survey.fits", f"{directory}/survey.zarr")
    >>> survey.shape, survey.statistics.pixel_scale_deg
    ((60, 80), 0.1)
    """
    if not isinstance(source, SurveySource):
        with as_file(source) as (path, named):
            return ingest(SurveySource.of(path, **named | options), out, begin=begin)
    if not source.background and not without_background:
        raise SurveyError(
            "the background is to be estimated: make it first, by cwt-dask background, and give the file, or ingest by "
            "the command"
        )
    out, parent = free_path(out)
    with ExitStack() as stack:
        # Rows of chunks and large tiles are collected in files without names.
        stack.enter_context(room_for(on_disk(out) or Path(gettempdir())))
        survey = stack.enter_context(open_planes(source, parent))
        unit = unit_of(survey, source)
        begin(survey.shape)
        stack.enter_context(_survey_errors())
        try:
            new = stack.enter_context(backend_of(out).new_directory(out))
        except OSError as error:
            raise SurveyError(f"{out} cannot be written ({error.strerror or error}): choose another place") from error
        writer = StoreWriter(new, survey.shape, survey.dtypes, stack)
        census = Census(nside=_nside(survey))
        for strip in survey.strips():
            census.add(strip)
            if not census.faults:
                writer.add(strip)
        writer.finish(survey.header_text, _statistics(survey, census, unit, source.index))
    return Survey.open(out)


def free_path(out: str | PathLike[str]) -> tuple[Path, Path | None]:
    """A path at which there is nothing yet, and its directory if that is on a disk.

    Raises SurveyError if it exists, or its parent directory does not.
    """
    path = as_path(out)
    if exists(path):
        raise SurveyError(f"{path} exists: remove it or choose another name")
    if (parent := on_disk(path.parent)) and not parent.is_dir():
        raise SurveyError(f"{parent} is not a directory: create it first")
    return path, parent


@contextmanager
def _survey_errors() -> Iterator[None]:
    """Within the block, what is wrong with the place of a store is a SurveyError, too."""
    try:
        yield
    except InputError as error:
        if type(error) is not InputError:
            raise
        raise SurveyError(str(error)) from error


def _statistics(survey: OpenSurvey, census: Census, unit: str, index: float) -> SurveyStatistics:
    of_files = survey.of_files if isinstance(survey, MovedSurvey) else census
    of_files.check(survey.where, survey.type_of_files("background"), survey.mask)
    wcs = wcs_from_text(survey.header_text)
    of_counts = survey.planes["counts"][0].header
    warnings = (*_cards(of_counts, TOLD), *survey.warnings, *of_files.warnings(survey.mask), *remarks(of_counts))
    if repeats_edge_column(wcs, survey.shape):
        warnings += ("the last column shows the same sky as the first: sources there are found twice; cut it off",)
    if survey.exposure_unit and not unit:
        given = shown(survey.exposure_unit)
        warnings += (
            f"the exposure's unit {given} (BUNIT) is none of area times time: the catalogue gives no photon flux",
        )
    origins = tuple(origins_of(survey, census.planes, unit, index))
    note, warned = _note_of(survey, origins)
    warnings += warned
    return SurveyStatistics(
        shape=survey.shape,
        n_valid=census.n_valid,
        n_masked=census.n_masked,
        n_off_sky=census.n_off_sky,
        n_nan=census.n_nan,
        brightest=max(census.largest.values()),
        counts_sum=census.total("counts"),
        background_sum=census.total("background"),
        digest=digest_survey(survey.shape, f"{survey.header_text}{unit}", census.planes),
        pixel_scale_deg=pixel_scale(wcs, survey.shape),
        wraps=closes_circle(wcs, survey.shape),
        warnings=warnings,
        exposure_unit=unit,
        mask=survey.mask.name,
        planes=census.planes,
        origins=origins,
        files=tuple(files_of(survey)),
        background=note,
        sphere=Sphere(census.nside, tuple(sorted(census.covered))) if census.nside else None,
    )


def _nside(survey: OpenSurvey) -> int:
    """That of a map of the sphere; 0 of a flat one."""
    sphere = SkyImage.of_text(survey.header_text)
    return sphere.nside if sphere else 0


def _note_of(survey: OpenSurvey, origins: Iterable[Mapping[str, Any]]) -> tuple[str, tuple[str, ...]]:
    """How the background was estimated from the counts, and warnings about that; empty where it was not.

    Raises SurveyError if it was from other bands than are taken.
    """
    taken = next(origin.get("bands", "") for origin in origins if origin["plane"] == "counts")
    notes, warned = [], []
    for plane in survey.planes["background"]:
        if NOTE not in plane.header:
            continue
        if (bands := str(plane.header.get(BANDS, ""))) != taken and plane.n_bands == 1:
            raise SurveyError(
                f"{plane.where} was estimated from bands {bands or '0 of 1'} of counts, and {taken or '0 of 1'} are "
                "taken: choose the same, or estimate it from these"
            )
        notes.append(str(plane.header[NOTE]))
        warned += _cards(plane.header, WARNED)
    return "; ".join(notes), tuple(warned)


def _cards(header: Any, name: str) -> list[str]:
    """Texts of cards of a name with a number from 1 on."""
    return [str(header[key]) for key in takewhile(header.__contains__, (f"{name}{n}" for n in count(1)))]
