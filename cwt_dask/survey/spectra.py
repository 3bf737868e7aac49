"""Spectra of sources, from the XML model of Fermi's tools (gtlike, gtmodel, Fermipy).

Formulas are those of "Source Model Definitions for gtlike" (Fermi Science Support Center), by the names that the
parameters have in XML; energies are in MeV. The true value of a parameter is its value times its scale.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser

import numpy as np

from cwt_dask.config.validation import shown
from cwt_dask.cwt.arrays import Floats
from cwt_dask.errors import SurveyError
from cwt_dask.storage.checksum import input_file
from cwt_dask.storage.paths import as_path, exists, read_file
from cwt_dask.survey.exposure import integral_of_power

# Below it the two terms of PLSuperExpCutoff4 cancel, and the first ones of their series are as exact.
_SMALL = 1e-2
_TABULATED = "FileFunction"


def _power_law_of_integral(e: Floats, integral: float, index: float, lower: float, upper: float) -> Floats:
    return np.asarray(integral * e**index / integral_of_power(index + 1, np.log(lower), np.log(upper)))


def _super_cutoff_4(e: Floats, prefactor: float, index: float, scale: float, d: float, b: float) -> Floats:
    log = np.log(e / scale)
    x = b * log
    with np.errstate(all="ignore"):
        curvature = np.where(np.abs(x) < _SMALL, -(1 / 2 + x / 6 + x**2 / 24), (x - np.expm1(x)) / x**2)
    return np.asarray(prefactor * np.exp(index * log + d * log**2 * curvature))


_FORMULAS: dict[str, tuple[str, Callable[..., Floats]]] = {
    "ConstantValue": ("Value", np.full_like),
    "PowerLaw": ("Prefactor Index Scale", lambda e, n, index, scale: n * (e / scale) ** index),
    "PowerLaw2": ("Integral Index LowerLimit UpperLimit", _power_law_of_integral),
    "BrokenPowerLaw": (
        "Prefactor Index1 Index2 BreakValue",
        lambda e, n, index1, index2, at: n * (e / at) ** np.where(e < at, index1, index2),
    ),
    "LogParabola": (
        "norm alpha beta Eb",
        lambda e, n, alpha, beta, scale: n * (e / scale) ** -(alpha + beta * np.log(e / scale)),
    ),
    "PLSuperExpCutoff": (
        "Prefactor Index1 Scale Cutoff Index2",
        lambda e, n, index1, scale, cutoff, index2: n * (e / scale) ** index1 * np.exp(-((e / cutoff) ** index2)),
    ),
    "PLSuperExpCutoff2": (
        "Prefactor Index1 Scale Expfactor Index2",
        lambda e, n, index1, scale, a, index2: n * (e / scale) ** index1 * np.exp(-a * e**index2),
    ),
    "PLSuperExpCutoff4": ("Prefactor IndexS Scale ExpfactorS Index2", _super_cutoff_4),
}


@dataclass(frozen=True)
class SourceModel:
    """Sources of an XML model."""

    path: Path
    sources: Mapping[str, Element]  # By their names in capitals, as names of HDUs are compared.
    files: list[dict[str, str]] = field(default_factory=list)  # It, and those that spectra were read from so far.

    @classmethod
    def read(cls, path: Path) -> SourceModel:
        """Read a model.

        Raises SurveyError if it cannot be read, is no XML, declares a document type, or names a source twice.
        """
        content = _content(path, "the source model")
        parser = XMLParser(target=_NoDoctype(path))  # noqa: S314 - see there
        try:
            parser.feed(content)
            root = parser.close()
        except ParseError as error:
            raise SurveyError(
                f"{path} is no XML ({error}): give the source model that gtsrcmaps or gtlike was given"
            ) from error
        sources: dict[str, Element] = {}
        for source in root.iter("source"):
            name = source.get("name", "").upper()
            if name in sources:
                raise SurveyError(f"{path} has two sources {shown(source.get('name'))}: rename one of them")
            sources[name] = source
        return cls(path, sources, [_file("source model", path, content)])

    def spectrum(self, name: str, energies: Floats) -> Floats:
        """The spectrum of a source at energies (energy,) in MeV, per MeV.

        Raises SurveyError if there is no such source, or its spectrum is of an unknown type, lacks a parameter, or is
        negative or no number there.
        """
        where = f"source {shown(name)} of {self.path}"
        spectrum = self._spectrum_of(name)
        kind = str(spectrum.get("type"))
        if kind == _TABULATED:
            (norm,) = _parameters(spectrum, "Normalization", where)
            values = norm * self._tabulated(spectrum, energies, where)
        elif kind in _FORMULAS:
            names, formula = _FORMULAS[kind]
            with np.errstate(all="ignore"):
                values = formula(energies, *_parameters(spectrum, names, where))
        else:
            raise SurveyError(
                f"{where} has a spectrum {shown(kind)}; known are {', '.join((*_FORMULAS, _TABULATED))}: have gtmodel "
                "make the expected counts, outtype=CCUBE"
            )
        bad = ~np.isfinite(values) | (values < 0)
        if bad.any():
            raise SurveyError(
                f"{where} has a spectrum of {values[bad][0]:g} at {energies[bad][0]:g} MeV: correct its parameters"
            )
        return values

    def kind(self, name: str) -> str:
        """Type of the spectrum of a source that there is."""
        return str(self._spectrum_of(name).get("type"))

    def _spectrum_of(self, name: str) -> Element:
        if name.upper() not in self.sources:
            have = ", ".join(str(source.get("name")) for source in self.sources.values())
            raise SurveyError(
                f"{self.path} has no source {shown(name)}; it has {shown(have) or 'none'}: give the model that "
                "gtsrcmaps was given, or name other HDUs"
            )
        spectrum = self.sources[name.upper()].find("spectrum")
        if spectrum is None:
            raise SurveyError(f"source {shown(name)} of {self.path} has no spectrum: correct the model")
        return spectrum

    def _tabulated(self, spectrum: Element, energies: Floats, where: str) -> Floats:
        """Energies and fluxes of a text, joined by power laws."""
        path = self._locate(spectrum.get("file", ""))
        content = _content(path, f"the spectrum of {where}")
        try:
            rows = [
                line.split()[:2]
                for line in StringIO(content.decode("utf-8", "replace"))
                if line.strip() and not line.lstrip().startswith("#")
            ]
            energy, flux = np.array(rows, np.float64).reshape(len(rows), 2).T
            sound = bool(rows and energy[0] > 0 and flux.min() > 0 and np.all(np.diff(energy) > 0))
        except ValueError:
            sound = False
        if not sound:
            raise SurveyError(
                f"{path}, the spectrum of {where}, has no rows of rising energies and fluxes above 0: correct it"
            )
        self.files.append(_file("spectrum", path, content))
        x = np.log(energies)
        known = np.log(energy)
        # Energies are written with six digits.
        if x.min() < known[0] - _DIGITS or x.max() > known[-1] + _DIGITS:
            raise SurveyError(
                f"{path}, the spectrum of {where}, is of {energy[0]:g} to {energy[-1]:g} MeV, and the bands taken are "
                f"of {energies.min():g} to {energies.max():g} MeV: choose others, --emin E --emax E"
            )
        return np.asarray(np.exp(np.interp(x, known, np.log(flux))))

    def _locate(self, named: str) -> Path:
        """Find a file as gtlike does, from the current directory; else from that of the model."""
        path = as_path(os.path.expandvars(re.sub(r"\$\((\w+)\)", r"${\1}", named)))
        beside = self.path.parent / path
        return beside if exists(beside) and not exists(path) else path


_DIGITS = 1e-5


class _NoDoctype(TreeBuilder):
    """Builds elements of XML without a document type, and so without entities, which may stand for endless text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def doctype(self, *_: Any) -> None:
        """Refuse."""
        raise SurveyError(
            f"{self._path} declares a document type (DOCTYPE), which is not read for safety: remove that line"
        )


def _parameters(spectrum: Element, names: str, where: str) -> list[float]:
    """True values of parameters."""
    there = {each.get("name"): each for each in spectrum.iter("parameter")}
    values = []
    for name in names.split():
        if name not in there:
            raise SurveyError(f"{where} has a spectrum {spectrum.get('type')} without {name}: correct the model")
        try:
            value, scale = (float(there[name].get(key, default)) for key, default in (("value", ""), ("scale", "1")))
        except ValueError as error:
            raise SurveyError(f"{name} of {where} has no number as value, or scale: correct the model") from error
        values.append(value * scale)
    return values


def _file(what: str, path: Path, content: bytes) -> dict[str, str]:
    return input_file(what, path, sha256(content).hexdigest())


def _content(path: Path, what: str) -> bytes:
    try:
        return read_file(path)
    except OSError as error:
        raise SurveyError(f"{path}, {what}, cannot be read ({error.strerror or error}): check the path") from error
