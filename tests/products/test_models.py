"""Models and regions of the catalogue are those of its rows, as others read them."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io.misc import yaml
from regions import CircleSkyRegion, PointSkyRegion, Regions

from cwt_dask.errors import InputError
from cwt_dask.products.export import export
from cwt_dask.products.models import PowerLaw, fermi_xml, gammapy
from cwt_dask.products.regions import crtf, ds9
from cwt_dask.survey.spectra import SourceModel

SPECTRUM = PowerLaw(0.01, 2.0, 2.5)


@pytest.fixture
def with_extension(run):
    """The run with an extended source as second row, and a last row without a flux."""
    rows = run.catalogue
    rows["extension"][1] = 0.25
    rows["flux"][-1] = np.nan
    return SimpleNamespace(catalogue=rows, wcs=run.wcs, stored=run.stored, files=run.files)


def told(run, **origins):
    """The run where its survey says so much of its energies."""
    known = [origin | origins.get(origin["plane"], {}) for origin in run.stored.plan.origins]
    stored = replace(run.stored, plan=replace(run.stored.plan, origins=tuple(known)))
    return SimpleNamespace(catalogue=run.catalogue, wcs=run.wcs, stored=stored, files=run.files)


def integral(amplitude, reference, index, low, high):
    """Of a power law, by its primitive."""
    return amplitude * reference**index * (low ** (1 - index) - high ** (1 - index)) / (index - 1)


def test_models_of_gammapy_have_the_rows_with_a_flux(with_extension):
    content = "".join(gammapy(with_extension, SPECTRUM))
    models, rows = yaml.load(content)["components"], with_extension.catalogue[:-1]
    assert [model["name"] for model in models] == list(rows["name"])
    for model, row in zip(models, rows, strict=True):
        spectral, spatial = (
            {each["name"]: each for each in model[part]["parameters"]} for part in ("spectral", "spatial")
        )
        index, amplitude, reference = (spectral[name]["value"] for name in ("index", "amplitude", "reference"))
        assert integral(amplitude, reference, index, 0.01, 2.0) == pytest.approx(row["flux"], rel=1e-8)
        error = (row["flux_errn"] + row["flux_errp"]) / 2
        assert spectral["amplitude"]["error"] / amplitude == pytest.approx(error / row["flux"], rel=1e-4)
        assert model["spatial"]["frame"] == "galactic"
        assert spatial["lon_0"]["value"] == pytest.approx(row["glon"], abs=1e-7)
        assert spatial["lat_0"]["value"] == pytest.approx(row["glat"], abs=1e-7)
        # In two dimensions 68 % lie within 1.51 standard deviations.
        assert spatial["lat_0"]["error"] == pytest.approx(row["pos_err"] / 1.50959, rel=1e-4)
        free = [name for name, each in (spectral | spatial).items() if not each.get("frozen")]
        assert free == ["amplitude"]
        assert spatial.get("sigma", {"value": 0})["value"] == pytest.approx(row["extension"])


def test_a_catalogue_without_a_row_makes_files_without_a_source(with_extension, tmp_path):
    with_extension.catalogue = with_extension.catalogue[:0]
    assert yaml.load("".join(gammapy(with_extension, SPECTRUM))) == {"components": []}
    (path := tmp_path / "models.xml").write_text("".join(fermi_xml(with_extension, SPECTRUM)))
    assert not SourceModel.read(path).sources
    assert not Regions.parse("".join(crtf(with_extension.catalogue)), format="crtf")


def test_a_run_of_a_release_without_extensions_has_points(with_extension):
    with_extension.catalogue.remove_columns(["extension", "pos_err"])
    spatial = [model["spatial"] for model in yaml.load("".join(gammapy(with_extension, SPECTRUM)))["components"]]
    assert {place["type"] for place in spatial} == {"PointSpatialModel"}
    assert not any("error" in each for place in spatial for each in place["parameters"])
    assert "DiffuseSource" not in "".join(fermi_xml(with_extension, SPECTRUM))
    for lines in (ds9, crtf):
        assert "circle" not in "".join(lines(with_extension.catalogue))


def test_xml_has_their_fluxes_in_mev(with_extension, tmp_path):
    (path := tmp_path / "models.xml").write_text("".join(fermi_xml(with_extension, SPECTRUM)))
    read, rows = SourceModel.read(path), with_extension.catalogue[:-1]
    assert len(read.sources) == len(rows)
    for row in rows:
        assert read.kind(row["name"]) == "PowerLaw2"
        energies = np.geomspace(1e4, 2e6, 20001)
        flux = np.trapezoid(read.spectrum(row["name"], energies) * energies, np.log(energies))
        assert flux == pytest.approx(row["flux"], rel=1e-6)
        element = read.sources[row["name"].upper()]
        place = {each.get("name"): float(each.get("value")) for each in element.find("spatialModel")}
        assert (place["RA"], place["DEC"]) == pytest.approx((row["ra"], row["dec"]), abs=1e-6)
        kinds = element.get("type"), element.find("spatialModel").get("type")
        extended = row["extension"] > 0
        assert kinds == (("DiffuseSource", "RadialGaussian") if extended else ("PointSource", "SkyDirFunction"))
        assert place.get("Sigma", 0) == pytest.approx(row["extension"])
        assert [each.get("name") for each in element.iter("parameter") if each.get("free") == "1"] == ["Integral"]


@pytest.mark.parametrize(("lines", "kind"), [(ds9, "ds9"), (crtf, "crtf")])
def test_regions_are_points_and_extensions(with_extension, lines, kind):
    rows = with_extension.catalogue
    for region, row in zip(Regions.parse("".join(lines(rows)), format=kind), rows, strict=True):
        assert region.center.separation(SkyCoord(row["ra"], row["dec"], unit="deg")) < 0.01 * u.arcsec
        assert region.meta["text" if kind == "ds9" else "label"] == row["name"]
        assert isinstance(region, CircleSkyRegion if row["extension"] > 0 else PointSkyRegion)
        if row["extension"] > 0:
            assert region.radius.to_value("deg") == pytest.approx(row["extension"])


def test_energies_and_index_are_those_of_the_run(run):
    assert PowerLaw.of(run, emin="10GeV", emax=2 * u.TeV) == PowerLaw(pytest.approx(0.01), 2.0, 2.0)
    known = told(run, counts={"energies": "10 GeV to 2 TeV"}, exposure={"index": 2.7})
    assert PowerLaw.of(known) == PowerLaw(pytest.approx(0.01), 2.0, 2.7)
    assert PowerLaw.of(known, index=2.2).index == 2.2
    half = told(run, counts={"energies": "from 10 GeV"})
    assert PowerLaw.of(half, emax="1TeV") == PowerLaw(pytest.approx(0.01), 1.0, 2.0)


def test_energies_that_are_known_already_or_in_disorder_are_refused(run):
    known = told(run, counts={"energies": "10 GeV to 2 TeV"})
    with pytest.raises(InputError, match="emax is given, and the survey is of 10 GeV to 2 TeV: leave it out"):
        PowerLaw.of(known, emax="1TeV")
    with pytest.raises(InputError, match="does not know the energies of its counts.*--emin E --emax E"):
        PowerLaw.of(told(run, counts={"energies": "up to 2 TeV"}))
    with pytest.raises(InputError, match="emin is 3 TeV and emax 2 TeV: emin must be below emax"):
        PowerLaw.of(run, emin="3TeV", emax="2TeV")


def test_models_without_a_flux_are_refused(ring, tmp_path):
    with pytest.raises(InputError, match="has no flux, and models need it .the survey has no exposure.: run again"):
        export(ring, tmp_path / "models.yaml", "gammapy", emin="10GeV", emax="2TeV")
    assert not list(tmp_path.iterdir())


def test_a_run_on_the_sphere_has_models_and_regions(sphere, tmp_path):
    out = export(sphere, tmp_path / "models.xml", "fermipy-xml", emin="1GeV", emax="1TeV")
    read = SourceModel.read(out)
    assert list(read.sources) == [name.upper() for name in sphere.catalogue["name"]]
    regions = Regions.read(export(sphere, tmp_path / "sources.crtf", "crtf"), format="crtf")
    assert len(regions) == len(sphere.catalogue) > 0
