"""Point spread functions as Gammapy has them: containment and kernels, of its files and its objects."""

import os
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from gammapy.datasets import MapDataset
from gammapy.irf import PSF3D, EnergyDependentMultiGaussPSF, PSFKernel, PSFMap
from gammapy.maps import MapAxis, WcsGeom
from skies import poisson_sky, write_survey

from cwt_dask import run_survey
from cwt_dask.psf import Spectrum, TargetMap, point_spread_of
from cwt_dask.run import plan_survey

ENERGY = MapAxis.from_energy_bounds("0.1 TeV", "10 TeV", nbin=8, name="energy_true")
RAD = MapAxis.from_bounds(0, 1.5, nbin=300, unit="deg", name="rad")
GEOM = WcsGeom.create(npix=(90, 70), binsz=0.05, skydir=(10, 0), frame="galactic", proj="CAR")
TARGET = TargetMap(GEOM.wcs, (70, 90), 0.05)
FRACTIONS = (0.2, 0.3935, 0.68, 0.9)


REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "real"


def real(name):
    """A file of the reference data; tests are skipped where it is absent, unless CI demands it."""
    file = REAL / name
    if not file.exists():
        if os.environ.get("CWT_DASK_REQUIRE_SHARED"):
            pytest.fail(f"the reference data is missing: {file}")
        pytest.skip("the reference data (../shared/data/real) is not beside this checkout")
    return file


def varying():
    """A PSFMap that changes over the field, and with energy."""
    geom = WcsGeom.create(npix=(5, 4), binsz=1.0, skydir=(10, 0), frame="galactic", proj="CAR", axes=[RAD, ENERGY])
    psf = PSFMap.from_geom(geom)
    sigma = (0.3 - 0.03 * np.arange(8))[:, None, None, None] * (1 + 0.1 * np.arange(5)) * np.ones((1, 1, 4, 1))
    rad = RAD.center.value[:, None, None]
    data = np.exp(-(rad**2) / 2 / sigma**2) / (2 * np.pi * sigma**2)
    psf.psf_map.quantity = (data * u.Unit("deg-2")).to("sr-1")
    psf.exposure_map.data += np.geomspace(1, 100, 8)[:, None, None, None]
    return psf


def at_energy(given, energy, target=TARGET):
    """Ours, of photons of one energy."""
    energy = energy.to_value("TeV")
    return point_spread_of(given, target, Spectrum(2.0, (energy * (1 - 1e-6), energy * (1 + 1e-6))))


def test_containment_by_place_and_energy(tmp_path):
    psf = varying()
    psf.write(tmp_path / "psf.fits", overwrite=True)
    for given in (tmp_path / "psf.fits", psf):
        for energy in ENERGY.center[[0, 3, 7]]:
            ours = at_energy(given, energy)
            for lon in (9, 10, 11):
                place = SkyCoord(lon, 0.5, unit="deg", frame="galactic")
                x, y = (float(each) for each in GEOM.wcs.world_to_pixel(place))
                for fraction in FRACTIONS:
                    radius = psf.containment_radius(fraction, energy, place).to_value("deg")
                    assert ours.containment(radius / 0.05, x, y).item() == pytest.approx(fraction, abs=1e-3)
    assert at_energy(tmp_path / "psf.fits", ENERGY.center[2]).setting == at_energy(psf, ENERGY.center[2]).setting


def test_the_average_over_energies_is_that_of_the_image():
    psf = varying()
    image = psf.to_image()
    ours = point_spread_of(psf, TARGET, Spectrum(2.0, None))
    place = SkyCoord(10, 0.5, unit="deg", frame="galactic")
    x, y = (float(each) for each in GEOM.wcs.world_to_pixel(place))
    theirs = image.containment(np.array([0.1, 0.2, 0.4, 0.8]) * u.deg, 1 * u.TeV, place)
    # They sum bands, we integrate between their middles.
    np.testing.assert_allclose(ours.containment(np.array([2, 4, 8, 16]), x, y), theirs.ravel(), atol=0.01)


def test_kernels(tmp_path):
    psf = PSFMap.from_gauss(ENERGY, RAD, sigma=0.15 * u.deg)
    kernel = psf.get_psf_kernel(geom=GEOM.to_cube([ENERGY]), max_radius=0.8 * u.deg)
    kernel.psf_kernel_map.write(tmp_path / "kernel.fits")
    for given in (tmp_path / "kernel.fits", kernel):
        ours = point_spread_of(given, TARGET, Spectrum(2.0, None))
        np.testing.assert_allclose(ours.kernel(size=kernel.data.shape[-1]), kernel.data[3], atol=1e-4)
    gaussian = PSFKernel.from_gauss(GEOM, 0.15 * u.deg, max_radius=0.8 * u.deg)
    ours = point_spread_of(gaussian, TARGET, Spectrum(2.0, None))
    assert ours.sigma == pytest.approx(3.0, rel=0.02)
    # The map itself as kernels: pixels where both are known.
    of_map = point_spread_of(psf, TARGET, Spectrum(2.0, None)).kernel(45, 35, kernel.data.shape[-1])
    np.testing.assert_allclose(of_map, kernel.data[3], atol=2e-4)


def test_tables_of_gadf(tmp_path):
    offset = MapAxis.from_nodes([0, 1, 2], unit="deg", name="offset")
    energy = MapAxis.from_energy_bounds("0.1 TeV", "10 TeV", nbin=4, name="energy_true")
    shape = (4, 3)
    sigmas = (0.2 - 0.03 * np.arange(4))[:, None] * (1 + 0.3 * np.arange(3))
    data = np.zeros(
        shape,
        dtype=[(name, float) for name in ("scale", "sigma_1", "sigma_2", "sigma_3", "ampl_2", "ampl_3")],
    )
    data["sigma_1"], data["sigma_2"], data["ampl_2"], data["sigma_3"] = sigmas, 3 * sigmas, 0.05, 0.1
    data["scale"] = 1 / (2 * np.pi * np.radians(sigmas) ** 2 * 1.45)
    units = {"scale": "sr-1"} | dict.fromkeys(("sigma_1", "sigma_2", "sigma_3"), "deg")
    units = {name: u.Unit(units.get(name, "")) for name in data.dtype.names}
    three = EnergyDependentMultiGaussPSF(axes=[energy, offset], data=data, unit=units)
    three.to_hdulist().writeto(tmp_path / "psf_3gauss.fits")
    table: PSF3D = three.to_psf3d(rad=np.linspace(0, 2, 400) * u.deg)
    table.to_hdulist().writeto(tmp_path / "psf_table.fits")
    centre = GEOM.center_skydir
    for name, psf, end in (("psf_3gauss", three, 30), ("psf_table", table, 2)):
        for energy_at in energy.center:
            ours = at_energy(tmp_path / f"{name}.fits", energy_at)
            for offset_at in (0, 1):
                place = centre.directional_offset_by(90 * u.deg, offset_at * u.deg)
                x, y = (float(each) for each in GEOM.wcs.world_to_pixel(place))
                radii = np.array([0.05, 0.1, 0.2, 0.4]) * u.deg
                theirs = psf.containment(radii, energy_true=energy_at, offset=offset_at * u.deg)
                whole = psf.containment(end * u.deg, energy_true=energy_at, offset=offset_at * u.deg)
                np.testing.assert_allclose(
                    ours.containment(radii.value / 0.05, x, y), np.ravel(theirs / whole), atol=1e-3
                )


def test_gtpsf():
    file = real("fermi_3fhl_psf_gtpsf.fits.gz")
    psf = PSFMap.read(file, format="gtpsf")
    for energy in psf.psf_map.geom.axes["energy_true"].center[[1, 8, 15]]:
        ours = at_energy(file, energy)
        for fraction in FRACTIONS:
            whole = psf.containment(9.9 * u.deg, energy).item()
            radius = psf.containment_radius(fraction * whole, energy).to_value("deg")
            assert ours.containment(radius / 0.05).item() == pytest.approx(fraction, abs=3e-3)


def test_the_psf_of_a_real_dataset():
    file = real("hawc_nhit5_mapdataset.fits.gz")
    dataset = MapDataset.read(file)
    geom = dataset.counts.geom.to_image()
    target = TargetMap(geom.wcs, geom.data_shape, 0.05)
    energies = dataset.psf.psf_map.geom.axes["energy"].center
    # At one of its nodes: between them they interpolate, and we take the nearest.
    nodes = dataset.psf.psf_map.geom.to_image().get_coord().skycoord
    place = nodes[3, 3]
    x, y = (float(each) for each in geom.wcs.world_to_pixel(place))
    for number in (1, 2, 3, 4):
        ours = at_energy(f"{file}[PSF]", energies[number], target)
        for fraction in FRACTIONS:
            radius = dataset.psf.containment_radius(fraction, energies[number], place).to_value("deg")
            assert ours.containment(radius / 0.05, x, y).item() == pytest.approx(fraction, abs=3e-3)


def test_a_run_with_a_map_of_gammapy(tmp_path):
    survey = write_survey(tmp_path / "survey.fits", *poisson_sky((70, 90), seed=8))
    psf = PSFMap.from_gauss(ENERGY, RAD, sigma=0.13 * u.deg)
    options = {"n_scale": 1, "max_iter": 2, "significance_threshold": 6, "workers": 0, "no_report": True}
    run = run_survey(survey, tmp_path / "run", psf=psf, **options)
    assert run.stored.plan.kernels.min_scale == pytest.approx(1.3, rel=1e-3)
    radius = np.asarray(run.catalogue["radius"])
    expected = 1 - np.exp(-(radius**2) / (2 * 1.3**2))
    np.testing.assert_allclose(run.catalogue["containment"], expected, atol=1e-3)


def test_a_dataset_brings_its_own(tmp_path):
    file = real("fermi_3fhl_crab_mapdataset.fits")
    dataset = MapDataset.read(file)
    options = {"emin": "50GeV", "n_scale": 1}
    dataset.write(tmp_path / "dataset.fits")
    plan, of_file, of_another = (plan_survey(each, **options) for each in (dataset, tmp_path / "dataset.fits", file))
    assert plan.settings == of_file.settings
    # It was written by an older Gammapy, which rounds edges of radii in another way.
    assert of_another.settings.min_scale == pytest.approx(plan.settings.min_scale, rel=1e-6)
    assert plan.settings.psf.startswith("PSFMap sha256:")
    assert plan.psf.startswith(
        "PSFMap of HDU PSF of the dataset, 0.08326 to 2 TeV weighted by E^-2 and exposure, the survey"
    )
    assert plan_survey(dataset, psf=dataset.psf, **options).settings.min_scale == plan.settings.min_scale
    assert plan_survey(dataset, psf=2.0, **options).settings.min_scale == 2
    assert plan_survey(dataset, psf=None, **options).settings.psf is None
    written = tmp_path / "image.fits"
    dataset.to_image().write(written)
    assert plan_survey(dataset.to_image(), n_scale=1).settings == plan_survey(written, n_scale=1).settings
    # A kernel, of which Gammapy writes none into a file.
    geom = dataset.counts.geom.to_image().to_cube([dataset.exposure.geom.axes[0]])
    dataset.psf = dataset.psf.get_psf_kernel(geom=geom, max_radius=0.8 * u.deg)
    of_kernel = plan_survey(dataset, n_scale=1, band="sum")
    assert of_kernel.settings.psf.startswith("image sha256:")
    assert of_kernel.psf.startswith("image of HDU PSF of the dataset, the survey's own")


def test_a_dataset_without_one_is_told():
    dataset = MapDataset.read(real("fermi_3fhl_crab_mapdataset.fits"))
    dataset.psf.psf_map.data *= 0
    plan = plan_survey(dataset, band="sum", min_scale=1.2)
    reason = "HDU PSF of the dataset holds no point spread function at these energies: its values are 0 or NaN"
    assert f"the point spread function of the survey's own file is left out: {reason}" in plan.warnings
    dataset.psf = None
    assert not [each for each in plan_survey(dataset, band="sum", min_scale=1.2).warnings if "spread" in each]
