"""Datasets of several energies: counts, background and exposure are those that Gammapy reduces them to."""

import os
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from gammapy.datasets import MapDataset
from gammapy.estimators.utils import estimate_exposure_reco_energy
from gammapy.irf import EDispKernelMap
from gammapy.maps import Map, MapAxis, WcsGeom
from gammapy.modeling.models import PowerLawSpectralModel

from cwt_dask.survey import SurveySource, ingest, scan

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
SHAPE = (20, 30)
ENERGY = MapAxis.from_energy_edges([0.1, 0.3, 1, 4, 10] * u.TeV)
# Edges of the bands are among them.
TRUE = MapAxis.from_energy_edges([0.03, 0.1, 0.15, 0.3, 0.5, 1, 2, 4, 7, 10, 30] * u.TeV, name="energy_true")


def diagonal(dataset):
    axes = dataset.counts.geom.axes["energy"], dataset.exposure.geom.axes["energy_true"]
    return EDispKernelMap.from_diagonal_response(*axes)


@pytest.fixture(params=["masked", "whole"])
def dataset(request):
    rng = np.random.default_rng(3)
    geom = WcsGeom.create(npix=SHAPE[::-1], binsz=0.1, skydir=(10, 0), frame="galactic", proj="CAR", axes=[ENERGY])
    dataset = MapDataset.create(geom, energy_axis_true=TRUE, name="cta-1")
    dataset.counts.data = rng.poisson(3, dataset.counts.data.shape)
    dataset.background.data = rng.uniform(1, 5, dataset.counts.data.shape)
    dataset.exposure.data = rng.uniform(1e9, 1e12, dataset.exposure.data.shape)
    dataset.mask_safe.data = np.ones(dataset.counts.data.shape, bool)
    if request.param == "masked":
        dataset.mask_safe.data = rng.random(dataset.counts.data.shape) > 0.3
    else:
        dataset.mask_safe = None
    dataset.edisp = diagonal(dataset)
    return dataset


def exposure_of(dataset, index, energies):
    """Counts that Gammapy predicts of a flux in some energies, where bands are safe, over the flux."""
    model = PowerLawSpectralModel(index=index)
    predicted = estimate_exposure_reco_energy(dataset, model, normalize=False)
    used = predicted if dataset.mask_safe is None else predicted * dataset.mask_safe
    return (used.sum_over_axes(keepdims=False).quantity / model.integral(*energies)).to_value("cm2 s")


def compare(survey, dataset, index, energies, rtol=1e-6):
    image = dataset.to_image()
    used = np.ones(image.counts.data[0].shape, bool) if image.mask_safe is None else image.mask_safe.data[0]
    np.testing.assert_array_equal(survey.mask, used)
    np.testing.assert_array_equal(survey.counts, image.counts.data[0])
    np.testing.assert_allclose(survey.background, image.background.data[0], rtol=1e-6)
    exposure = (survey.exposure * u.Unit(survey.statistics.exposure_unit).to("cm2 s")).compute()
    np.testing.assert_allclose(exposure[used], exposure_of(dataset, index, energies)[used], rtol=rtol)


@pytest.mark.parametrize("index", [1.5, 2.0, 2.7])
def test_bands_are_summed_as_gammapy_does(dataset, tmp_path, index):
    dataset.write(tmp_path / "cube.fits.gz")
    every, some = ENERGY.edges[[0, -1]], ENERGY.edges[[1, 3]]
    part = dataset.slice_by_energy(*some)
    part.edisp = diagonal(part)
    for n, survey in enumerate((dataset, tmp_path / "cube.fits.gz")):
        compare(ingest(survey, tmp_path / f"{n}.zarr", band="sum", index=index), dataset, index, every)
        chosen = {"emin": "300GeV", "emax": 4 * u.TeV, "index": index}
        compare(ingest(survey, tmp_path / f"{n}some.zarr", **chosen), part, index, some)


def test_an_image_has_the_exposure_of_its_energies(dataset, tmp_path):
    image = dataset.to_image()
    image.write(tmp_path / "image.fits")
    # Which bands were safe where is no longer known: Gammapy has it in the energy dispersion.
    whole = dataset.copy()
    whole.mask_safe = None
    expected = exposure_of(whole, 2, ENERGY.edges[[0, -1]])
    for n, survey in enumerate((image, tmp_path / "image.fits")):
        store = ingest(survey, tmp_path / f"{n}.zarr")
        np.testing.assert_array_equal(store.counts, image.counts.data[0])
        exposure = store.exposure * u.Unit(store.statistics.exposure_unit).to("cm2 s")
        used = np.asarray(store.mask) > 0
        np.testing.assert_allclose(exposure.compute()[used], expected[used], rtol=1e-6)
        assert store.statistics.origins[0].get("energies") == "100 GeV to 10 TeV"


def test_exposure_at_nodes_of_energy_comes_from_memory_too(tmp_path):
    """As Gammapy reads the exposures of Fermi's tools."""
    nodes = MapAxis.from_nodes([0.1, 0.5, 10] * u.TeV, name="energy_true", interp="log")
    geom = WcsGeom.create(npix=SHAPE[::-1], binsz=0.1, axes=[ENERGY])
    ones = Map.from_geom(geom, data=1.0)
    exposure = Map.from_geom(geom.to_image().to_cube([nodes]), unit="cm2 s")
    exposure.data += nodes.center.value[:, None, None]
    exposure.write(tmp_path / "nodes.fits")
    found = ingest({"counts": ones, "background": ones, "exposure": exposure}, tmp_path / "a.zarr", emax="10TeV")
    ones.write(tmp_path / "ones.fits")
    planes = {name: tmp_path / f"{file}.fits" for name, file in (("background", "ones"), ("exposure", "nodes"))}
    of_file = ingest(tmp_path / "ones.fits", tmp_path / "b.zarr", band="sum", **planes)
    for store in (found, of_file):
        np.testing.assert_allclose(store.exposure, np.log(100) / (1 / 0.1 - 1 / 10), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "rtol", "dispersed"),
    [
        ("fermi_3fhl_crab_mapdataset.fits", 1e-6, 1e-6),
        # Edges of its bands are rounded ones of its true energies, of which Gammapy takes parts by width; and its bands
        # are far from true energies: that is what the warning is about.
        ("hawc_nhit5_mapdataset.fits.gz", 1e-3, 0.15),
    ],
)
def test_real_datasets(tmp_path, name, rtol, dispersed):
    path = SHARED / "real" / name
    if not path.exists() and not os.environ.get("CWT_DASK_REQUIRE_SHARED"):
        pytest.skip("the reference data (../shared/data) is not beside this checkout")
    dataset = MapDataset.read(path)
    energies = dataset.counts.geom.axes["energy"].edges[[0, -1]]
    store = ingest(path, tmp_path / "s.zarr", band="sum")
    with_dispersion = exposure_of(dataset, 2, energies)
    dataset.edisp = diagonal(dataset)
    compare(store, dataset, 2, energies, rtol)
    used = np.asarray(store.mask) > 0
    off = np.abs(np.asarray(store.exposure)[used] / with_dispersion[used] - 1).max()
    assert dispersed / 2 < off < dispersed if dispersed > rtol else off < rtol
    assert sum("energy dispersion" in warning for warning in store.statistics.warnings) == 1
    assert scan(SurveySource.of(path, band="sum")) == store.statistics
