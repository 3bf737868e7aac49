"""The catalogue as models of sources for the next fit: of Gammapy (YAML), of Fermi's tools and ctools (XML)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cwt_dask.config.validation import Energy, Number, format_energy, refuse_disorder
from cwt_dask.errors import InputError
from cwt_dask.products.regions import numbers
from cwt_dask.products.source import MapSource
from cwt_dask.survey import band_of
from cwt_dask.survey.exposure import integral_of_power
from cwt_dask.survey.wcs import is_galactic

if TYPE_CHECKING:
    from astropy.table import Table

# Of a radius that holds 68 % in two dimensions, over the standard deviation along one.
_RADIUS_68 = math.sqrt(-2 * math.log(1 - 0.68))
_DEFAULT_INDEX = 2.0


@dataclass(frozen=True)
class PowerLaw:
    """The spectrum that fluxes are of: a power law between two energies in TeV."""

    low: float
    high: float
    index: float

    @classmethod
    def of(cls, run: MapSource, emin: Any = None, emax: Any = None, index: Any = None) -> PowerLaw:
        """That of a run.

        Parameters
        ----------
        run : SurveyRun
        emin, emax : str or Quantity, optional
            Energies of the counts, such as ``"10GeV"``, where the survey does not say them.
        index : float, optional
            Photon index; by default that with which the exposure is weighted, 2 where it is not.

        Raises
        ------
        InputError
            If an energy is not known, or is given and known, or there is no flux.
        """
        plan = run.stored.plan
        if "flux" not in run.catalogue.colnames:
            why = plan.no_flux or "the exposure has no unit, or does not fit"
            raise InputError(f"{run.files.path} has no flux, and models need it ({why}): run again with an exposure")
        texts = [
            str(origin["energies"]) for origin in plan.origins if origin["plane"] == "counts" and "energies" in origin
        ]
        known = next((band for band in map(band_of, texts[:1]) if band and band[0] < band[1]), (0.0, math.inf))
        ends: list[float] = []
        for name, given, end in (("emin", emin, known[0]), ("emax", emax, known[1])):
            is_known = 0 < end < math.inf
            if is_known and given is not None:
                raise InputError(f"{name} is given, and the survey is of {texts[0]}: leave it out")
            if given is None and not is_known:
                raise InputError(
                    f"{run.files.path} does not know the energies of its counts, of which its fluxes are: "
                    "say them, --emin E --emax E, such as 10GeV"
                )
            ends.append(end if given is None else Energy().check(name, given))
        refuse_disorder(*ends)
        weighted = (float(origin["index"]) for origin in plan.origins if "index" in origin)
        power = next(weighted, _DEFAULT_INDEX) if index is None else Number(-10, 10).check("index", index)
        return cls(ends[0], ends[1], float(power))

    @property
    def reference(self) -> float:
        """The energy in TeV at which amplitudes are given: the middle in the logarithm."""
        return math.sqrt(self.low * self.high)

    @property
    def per_flux(self) -> float:
        """The amplitude there, per TeV, of a flux of 1."""
        half = math.log(self.high / self.low) / 2
        return float(1 / (self.reference * integral_of_power(1 - self.index, -half, half)))


@dataclass(frozen=True)
class _Source:
    """A row, as models have it: degrees, and fluxes in cm-2 s-1."""

    name: str
    lon: float
    lat: float
    error: float  # Along one axis.
    extension: float
    flux: float
    flux_error: float


def _sources(catalogue: Table, lon: str, lat: str) -> Iterator[_Source]:
    """Rows that have a flux."""
    columns = [numbers(catalogue, name) for name in (lon, lat, "pos_err", "extension")]
    fluxes = [catalogue[name].quantity.to_value("cm-2 s-1") for name in ("flux", "flux_errn", "flux_errp")]
    for name, x, y, error, extension, flux, low, high in zip(catalogue["name"], *columns, *fluxes, strict=True):
        # Where the exposure is 0 there is none.
        if math.isfinite(flux):
            yield _Source(str(name), x, y, error / _RADIUS_68, extension, flux, (low + high) / 2)


def gammapy(run: MapSource, spectrum: PowerLaw) -> Iterator[str]:
    """Lines of YAML that `gammapy.modeling.models.Models.read` reads.

    Amplitudes are free; positions, extensions and indices are frozen.

    Parameters
    ----------
    run : SurveyRun
        A finished one.
    spectrum : PowerLaw
        Of its fluxes.
    """
    catalogue = run.catalogue
    frame, lon, lat = ("galactic", "glon", "glat") if is_galactic(run.wcs) else ("icrs", "ra", "dec")
    yield f"# Sources by falling score; fluxes are of {_energies(spectrum)}. Free are the amplitudes: with\n"
    yield "# models.unfreeze('spatial') positions and extensions are, too, with models.unfreeze('spectral') indices.\n"
    sources = list(_sources(catalogue, lon, lat))
    yield "components:\n" if sources else "components: []\n"
    for source in sources:
        wide = source.extension > 0
        along = source.error / max(math.cos(math.radians(source.lat)), 1e-6)
        yield f'- name: "{source.name}"\n  type: SkyModel\n  spectral:\n    type: PowerLawSpectralModel\n'
        yield "    parameters:\n"
        yield _parameter("index", spectrum.index, frozen=True)
        scale = spectrum.per_flux
        yield _parameter("amplitude", source.flux * scale, "cm-2 s-1 TeV-1", source.flux_error * scale)
        yield _parameter("reference", spectrum.reference, "TeV", frozen=True)
        yield f"  spatial:\n    type: {'Gaussian' if wide else 'Point'}SpatialModel\n    frame: {frame}\n"
        yield "    parameters:\n"
        yield _parameter("lon_0", source.lon, "deg", along, frozen=True)
        yield _parameter("lat_0", source.lat, "deg", source.error, frozen=True)
        if wide:
            yield _parameter("sigma", source.extension, "deg", frozen=True)
            yield _parameter("e", 0.0, frozen=True)
            yield _parameter("phi", 0.0, "deg", frozen=True)


def _parameter(name: str, value: float, unit: str = "", error: float = 0.0, *, frozen: bool = False) -> str:
    # What has no point is no number to YAML 1.1.
    words = [f"name: {name}", f"value: {value:.9e}", *([f"unit: {unit}"] if unit else [])]
    words += [f"error: {error:.4e}"] if 0 < error < math.inf else []
    words += ["frozen: true"] if frozen else []
    return f"    - {{{', '.join(words)}}}\n"


def fermi_xml(run: MapSource, spectrum: PowerLaw) -> Iterator[str]:
    """Lines of the XML of Fermi's tools (gtlike, Fermipy), which ctools read, too.

    Parameters
    ----------
    run, spectrum
        As of `gammapy`.
    """
    mev = 1e6
    yield '<?xml version="1.0" standalone="no"?>\n'
    yield f"<!-- Integral is of {_energies(spectrum)}. -->\n"
    yield '<source_library title="source library">\n'
    for source in _sources(run.catalogue, "ra", "dec"):
        wide = source.extension > 0
        # Parameters are best of the order of 1.
        scale = 10.0 ** math.floor(math.log10(source.flux)) if source.flux > 0 else 1e-12
        yield f'  <source name="{source.name}" type="{"DiffuseSource" if wide else "PointSource"}">\n'
        yield '    <spectrum type="PowerLaw2">\n'
        flux, error = source.flux / scale, source.flux_error / scale
        yield _element("Integral", flux, f"{scale:.0e}", 0, 1e4, error if 0 < error < math.inf else 0, free=True)
        yield _element("Index", spectrum.index, "-1", -10, 10)
        for name, energy in (("LowerLimit", spectrum.low), ("UpperLimit", spectrum.high)):
            yield _element(name, energy * mev, "1", 1e-6, 1e12)
        yield f'    </spectrum>\n    <spatialModel type="{"RadialGaussian" if wide else "SkyDirFunction"}">\n'
        yield _element("RA", source.lon, "1", -360, 360)
        yield _element("DEC", source.lat, "1", -90, 90)
        if wide:
            yield _element("Sigma", source.extension, "1", 1e-4, 90)
        yield "    </spatialModel>\n  </source>\n"
    yield "</source_library>\n"


def _element(
    name: str, value: float, scale: str, least: float, most: float, error: float = 0.0, *, free: bool = False
) -> str:
    words = f'name="{name}" value="{value:.9g}" scale="{scale}" min="{least:g}" max="{most:g}" free="{free:d}"'
    words += f' error="{error:.4g}"' if error else ""
    return f"      <parameter {words}/>\n"


def _energies(spectrum: PowerLaw) -> str:
    return f"{format_energy(spectrum.low)} to {format_energy(spectrum.high)}"
