"""What a survey was made of: files, HDUs, bands and energies of each plane."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from astropy.units import Unit

from cwt_dask.config.validation import format_energy, shown
from cwt_dask.errors import SurveyError
from cwt_dask.storage.checksum import input_file
from cwt_dask.survey.fits_file import FitsFile
from cwt_dask.survey.headers import damage_named
from cwt_dask.survey.regrid import Regridded
from cwt_dask.survey.source import IN_MEMORY_CARD, INPUT_FILES, SurveySource
from cwt_dask.survey.source_maps import SourceMap
from cwt_dask.survey.strips import OpenSurvey


def unit_of(survey: OpenSurvey, source: SurveySource) -> str:
    """The exposure's unit as astropy spells it, of its file or as it was given; empty where it is none of an exposure.

    Raises SurveyError if the unit that was given is none, or the file has another one.
    """
    of_file = _known(survey.exposure_unit)
    if not source.exposure_unit:
        return of_file
    given = _known(source.exposure_unit)
    if not given:
        raise SurveyError(
            f'exposure_unit is "{shown(source.exposure_unit)}": give an area times a time, such as "cm2 s"'
        )
    if of_file and Unit(of_file) != Unit(given):
        raise SurveyError(
            f"{survey.where['exposure']} has BUNIT = {survey.exposure_unit}, which is not {source.exposure_unit}: "
            "leave out exposure_unit, or correct the header"
        )
    return given if "exposure" in survey.planes else ""


def _known(text: str) -> str:
    try:
        unit = Unit(text)
    except (TypeError, ValueError):
        return ""
    return str(unit.to_string()) if unit.is_equivalent("m2 s") else ""


def origins_of(survey: OpenSurvey, digests: Mapping[str, str], unit: str, index: float) -> Iterator[dict[str, Any]]:
    """Each image that the survey was made of, as plain data.

    Parameters
    ----------
    survey : OpenSurvey
    digests : mapping of str
        SHA-256 of each plane, as it is analysed.
    unit : str
        Of the exposure.
    index : float
        Photon index with which exposures are weighted.
    """
    for name, planes in survey.planes.items():
        for plane in planes:
            taken = survey.planes_taken(name, plane)
            origin: dict[str, Any] = {"plane": name, "file": str(plane.path.absolute()), "hdu": plane.hdu}
            if isinstance(plane, SourceMap):
                origin["spectrum"] = plane.spectrum
            if plane.stands_for:
                origin["file"] = plane.stands_for
            if plane.n_bands > 1:
                origin["bands"] = f"{_span(taken)} of {plane.n_bands}"
            if name == "counts" and survey.energies:
                origin["energies"] = survey.energies
            edges = plane.bands.edges
            if edges is not None and not plane.bands.of_header:
                low, high = format_energy(float(edges[taken[0], 0])), format_energy(float(edges[taken[-1], 1]))
                origin["energies"] = low if low == high else f"{low} to {high}"
                origin |= {"energy": "true"} if plane.bands.true else {}
            if name == "exposure":
                origin |= {"unit": unit} if unit else {}
                origin |= {"pixels": "interpolated"} if isinstance(plane, Regridded) else {}
                origin |= {"index": index} if survey.weighted else {}
            yield origin | {"digest": digests[name]}


def files_of(survey: OpenSurvey) -> Iterator[dict[str, str]]:
    """Each file that the survey was read from, with the SHA-256 of its bytes; those for what is removed after reading.

    Raises SurveyError if one has changed meanwhile.
    """
    for file in survey.files:
        if not file.hdus[0].header.get(IN_MEMORY_CARD):
            yield input_file("survey", file.path, file.sha256())
        yield from _files_in(file)
    if survey.model:
        yield from survey.model.files


def _files_in(file: FitsFile) -> list[dict[str, str]]:
    """The files that a table of one says that it was made of."""
    names = ("what", "file", "sha256")
    with damage_named(f"HDU {INPUT_FILES} of {file.path} is damaged"):
        tables = [hdu for hdu in file.hdus if not hdu.is_image and hdu.name == INPUT_FILES]
        return [{name: str(row[name]) for name in names} for table in tables for row in table.data]


def _span(planes: range) -> str:
    return f"{planes[0]}" if len(planes) == 1 else f"{planes[0]} to {planes[-1]}"


def describe_origin(origin: Mapping[str, Any]) -> str:
    """Describe one of `origins_of` in a line."""
    bands = f", bands {origin['bands']}" if "bands" in origin else ""
    energies = f", {origin['energies']}{' (true energy)' * ('energy' in origin)}" if "energies" in origin else ""
    weighted = f", weighted by a power law of index {origin['index']:g}" if "index" in origin else ""
    weighted += f", times the spectrum {origin['spectrum']}" if "spectrum" in origin else ""
    unit = f", in {origin['unit']}" if "unit" in origin else ""
    unit += ", interpolated to the pixels of the counts" * ("pixels" in origin)
    return f"{origin['plane']}: HDU {origin['hdu']} of {origin['file']}{bands}{energies}{weighted}{unit}"
