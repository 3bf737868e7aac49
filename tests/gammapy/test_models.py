"""Models of `cwt-dask export --format gammapy`, read by Gammapy and fitted on the dataset that the run was on."""

import json
import subprocess
import sys

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from gammapy.datasets import MapDataset
from gammapy.irf import EDispKernelMap, PSFMap
from gammapy.maps import MapAxis, WcsGeom
from gammapy.modeling import Fit
from gammapy.modeling.models import (
    FoVBackgroundModel,
    GaussianSpatialModel,
    Models,
    PointSpatialModel,
    PowerLawSpectralModel,
    SkyModel,
)
from pages import GAMMAPY, python_blocks

from cwt_dask import run_survey
from cwt_dask.products.export import export

EDGES = [0.1, 1, 10] * u.TeV
INDEX = 2.3
# Galactic longitude and latitude, extension and flux between the edges.
TRUTH = [(9.0, 0.3, 0.0, 8e-9), (11.5, -0.5, 0.0, 3e-9), (10.4, 1.0, 0.35, 2e-8)]


def model_of(lon, lat, extension, flux):
    spectrum = PowerLawSpectralModel(index=INDEX, reference="1 TeV")
    spectrum.amplitude.value *= flux / spectrum.integral(*EDGES[[0, -1]]).to_value("cm-2 s-1")
    place = {"lon_0": lon * u.deg, "lat_0": lat * u.deg, "frame": "galactic"}
    spatial = GaussianSpatialModel(sigma=extension * u.deg, **place) if extension else PointSpatialModel(**place)
    return SkyModel(spectrum, spatial)


@pytest.fixture(scope="module")
def dataset():
    energy = MapAxis.from_energy_edges(EDGES)
    true = MapAxis.from_energy_bounds("0.1 TeV", "10 TeV", nbin=8, name="energy_true")
    geom = WcsGeom.create(npix=(90, 70), binsz=0.1, skydir=(10, 0), frame="galactic", proj="CAR", axes=[energy])
    dataset = MapDataset.create(geom, energy_axis_true=true, name="survey")
    dataset.exposure.data += 5e6  # m2 s
    dataset.background.data[0], dataset.background.data[1] = 0.4, 0.1
    dataset.mask_safe.data[...] = True
    dataset.psf = PSFMap.from_gauss(true, MapAxis.from_bounds(0, 1, nbin=200, unit="deg", name="rad"), sigma="0.13 deg")
    dataset.edisp = EDispKernelMap.from_diagonal_response(energy, true)
    dataset.models = [FoVBackgroundModel(dataset_name="survey"), *(model_of(*source) for source in TRUTH)]
    dataset.fake(random_state=5)
    dataset.models = None
    return dataset


@pytest.fixture(scope="module")
def run(dataset, tmp_path_factory):
    options = {"n_scale": 2, "max_iter": 3, "extended": True, "false_sources": 0.01, "workers": 0, "no_report": True}
    return run_survey(dataset, tmp_path_factory.mktemp("models") / "run", band="sum", index=INDEX, **options)


def test_models_are_read_and_fitted_with_the_fluxes_of_the_catalogue(run, dataset, tmp_path):
    models = Models.read(export(run, tmp_path / "sources.yaml", "gammapy"))
    rows = run.catalogue
    assert models.names == list(rows["name"])
    assert [model.spectral_model.index.value for model in models] == [INDEX] * len(TRUTH)
    assert len(models.parameters.free_parameters) == len(TRUTH)
    found = SkyCoord([model.position for model in models])
    assert found.separation(SkyCoord(rows["ra"], rows["dec"])).max() < 1e-6 * u.deg
    expected, low, high = (rows[name].quantity.to_value("cm-2 s-1") for name in ("flux", "flux_errn", "flux_errp"))
    fluxes = [model.spectral_model.integral(*EDGES[[0, -1]]).to_value("cm-2 s-1") for model in models]
    np.testing.assert_allclose(fluxes, expected, rtol=1e-6)

    fitted = dataset.copy(name="survey")
    fitted.models = models
    assert Fit().run(fitted).success
    for model, of_row, error_of_row in zip(models, expected, (low + high) / 2, strict=True):
        flux = model.spectral_model.integral(*EDGES[[0, -1]]).to_value("cm-2 s-1")
        error = flux * model.spectral_model.amplitude.error / model.spectral_model.amplitude.value
        # The same counts: a fraction of an error. They add up the likelihood of two bands.
        assert flux == pytest.approx(of_row, abs=0.3 * error)
        assert error == pytest.approx(error_of_row, rel=0.15)
        separations = [
            model.position.separation(SkyCoord(x, y, unit="deg", frame="galactic")).deg for x, y, *_ in TRUTH
        ]
        *_, extension, true = TRUTH[int(np.argmin(separations))]
        assert flux == pytest.approx(true, abs=4 * error)
        assert isinstance(model.spatial_model, GaussianSpatialModel) == (extension > 0)
        if extension:
            assert model.spatial_model.sigma.value == pytest.approx(extension, rel=0.1)


def test_the_block_of_the_page_frees_positions(run, dataset, tmp_path, monkeypatch):
    written = export(run, tmp_path / "sources.yaml", "gammapy")
    monkeypatch.chdir(tmp_path)
    (block,) = [block for block in python_blocks("howto/export.md") if block.startswith(GAMMAPY)]
    exec(compile(block, "docs/howto/export.md", "exec"), names := {})  # noqa: S102 - that is the test
    fitted = dataset.copy(name="survey")
    fitted.models = names["models"]
    fitted.models.unfreeze("spectral")
    assert Fit().run(fitted).success
    for model, before in zip(fitted.models[: len(TRUTH)], Models.read(written), strict=True):
        index, place, error = model.spectral_model.index, model.spatial_model.lat_0, before.spatial_model.lat_0.error
        assert index.value == pytest.approx(INDEX, abs=5 * index.error)
        assert place.value == pytest.approx(before.spatial_model.lat_0.value, abs=error)
        # With the energies it is known better.
        assert 0.5 * error < place.error < 1.2 * error


# In a process of its own: Fermipy leaves files open, and here warnings are errors.
FERMIPY = """
import json, sys
from astropy.coordinates import SkyCoord
from fermipy.roi_model import ROIModel

region = ROIModel(skydir=SkyCoord(10, 0, unit="deg", frame="galactic"))
region.load_xml(sys.argv[1])
found = {
    source.name: {"radec": source.radec.tolist(), "kind": source["SpatialModel"], "extended": source.extended}
    | {name: p | {"value": float(p["value"])} for name, p in {**source.spectral_pars, **source.spatial_pars}.items()}
    for source in region.sources
}
print("=" * 9 + json.dumps(found))
"""


def test_fermipy_reads_the_xml(run, tmp_path):
    command = [sys.executable, "-c", FERMIPY, export(run, tmp_path / "sources.xml", "fermipy-xml")]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    sources = json.loads(said.rpartition("=" * 9)[2])
    rows = {row["name"]: row for row in run.catalogue}
    assert sources.keys() == rows.keys()
    for name, source in sources.items():
        row, flux, is_wide = rows[name], source["Integral"], rows[name]["extension"] > 0
        assert source["radec"] == pytest.approx([row["ra"], row["dec"]], abs=1e-6)
        of_row = (row["flux"] * run.catalogue["flux"].unit).to_value("cm-2 s-1")
        assert flux["value"] * flux["scale"] == pytest.approx(of_row, rel=1e-6)
        assert flux["free"]
        assert (source["Index"]["value"], source["Index"]["scale"]) == (INDEX, -1)
        limits = [source[each]["value"] for each in ("LowerLimit", "UpperLimit")]
        assert limits == pytest.approx(EDGES[[0, -1]].to_value("MeV"))
        assert (source["extended"], source["kind"]) == (is_wide, "RadialGaussian" if is_wide else "PointSource")
        if is_wide:
            assert source["Sigma"]["value"] == pytest.approx(row["extension"], rel=1e-6)
