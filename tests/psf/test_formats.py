"""Each format of point spread functions, made of formulas, weighted by energy and placed on a map."""

import gzip
import math
from types import SimpleNamespace

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import Angle
from astropy.io import fits
from skies import sky_header
from spreads import (
    ALL,
    ENERGIES,
    SIGMAS,
    TARGET,
    columns,
    effective_area,
    gtpsf,
    king_share,
    psf_3gauss,
    psf_king,
    psf_map,
    psf_table,
    share,
    write,
)

from cwt_dask.errors import InputError
from cwt_dask.psf import Spectrum, point_spread_of

RADII = np.array([0.05, 0.1, 0.2, 0.3, 0.5, 0.9])  # deg
ONE = np.full(4, 0.2)


def read(given, spectrum=ALL):
    return point_spread_of(given, TARGET, spectrum)


def shares(spread, x=39.5, y=29.5):
    return spread.containment(RADII / TARGET.pixel_deg, x, y)


def test_widths():
    for given in (2.4, 0.24 * u.deg, Angle("0.24deg"), "0.24deg", "14.4 arcmin", " 2.4 ", np.float32(2.4)):
        spread = read(given)
        assert (spread.kind, spread.setting) == ("Gaussian", pytest.approx(2.4, rel=1e-6))
    assert read("0.24deg").setting == 2.4


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: psf_table(ONE), share(RADII, 0.2)),
        (lambda: psf_3gauss(ONE), (share(RADII, 0.2) + share(RADII, 0.6) / 3) / (4 / 3)),
        (lambda: psf_king(ONE), king_share(RADII, 0.2, 2.5)),
    ],
    ids=["psf_table", "psf_3gauss", "psf_king"],
)
def test_tables_of_one_width(tmp_path, make, expected):
    spread = read(write(tmp_path / "psf.fits", make()))
    np.testing.assert_allclose(shares(spread), expected, atol=2e-4)


def test_gtpsf(tmp_path):
    energies = np.geomspace(1e4, 1e6, 8)
    file = write(tmp_path / "psf.fits", *gtpsf(energies, np.full(8, 0.2)))
    np.testing.assert_allclose(shares(read(file)), share(RADII, 0.2), atol=1e-3)
    (tmp_path / "psf.fits.gz").write_bytes(gzip.compress(file.read_bytes()))
    assert read(tmp_path / "psf.fits.gz").setting == read(f"{file}[PSF]").setting == read(f"{file}[1]").setting


def test_a_map_of_profiles(tmp_path):
    file = write(tmp_path / "psf.fits", *psf_map([[0.2] * 3, [0.4] * 3]))
    spread = read(file)
    assert spread.kind == "PSFMap"
    # At l = 8 and 10; the map goes from 14 to 6 with x.
    for x, sigma in ((0, 0.4), (45, 0.4), (55, 0.2), (79, 0.2)):
        np.testing.assert_allclose(shares(spread, x), share(RADII, sigma), atol=2e-4)


def power_law(low, high, index):
    return (low ** (1 - index) - high ** (1 - index)) / (index - 1)


def between(energies, values, energy):
    """Linear in the logarithm of the energy, and constant beyond the last."""
    return np.stack([np.interp(np.log(energy), np.log(energies), each) for each in np.transpose(values)], axis=-1)


def averaged(profiles, energies, low, high, index, recorded):
    """Average of profiles (energy, radius) over photons, by brute force."""
    steps = np.geomspace(low, high, 200_001)
    middle, width = np.sqrt(steps[1:] * steps[:-1]), np.diff(steps)
    photons = middle**-index * width * between(energies, recorded[:, np.newaxis], middle)[:, 0]
    return photons @ between(energies, profiles, middle) / photons.sum()


@pytest.mark.parametrize("index", [1.5, 2.0, 3.0])
@pytest.mark.parametrize("band", [None, (0.5, 2.0), (0.02, 0.4), (5.0, 900.0)])
def test_energies_are_weighted_by_power_law_and_effective_area_over_the_band(tmp_path, index, band):
    area = np.array([1.0, 10.0, 40.0, 50.0])
    file = write(tmp_path / "psf.fits", psf_table(), effective_area(area))
    nodes = np.sqrt(ENERGIES[1:] * ENERGIES[:-1])
    low, high = (ENERGIES[0], ENERGIES[-1]) if band is None else (max(0.1, band[0]), min(10, band[1]))
    profiles = share(RADII, SIGMAS[:, np.newaxis])
    expected = averaged(profiles, nodes, low, high, index, area)
    np.testing.assert_allclose(shares(read(file, Spectrum(index, band))), expected, atol=5e-4)
    # Without an effective area by the power law alone.
    file = write(tmp_path / "psf.fits", psf_table())
    expected = averaged(profiles, nodes, low, high, index, np.ones(4))
    np.testing.assert_allclose(shares(read(file, Spectrum(index, band))), expected, atol=5e-4)


def test_the_exposure_of_a_map_of_profiles_counts_place_by_place(tmp_path):
    sigmas = [[0.2, 0.4], [0.2, 0.4]]
    profiles, nodes = share(RADII, np.array([[0.2], [0.4]])), np.sqrt([0.1, 10])
    exposure = np.array([[1.0, 0.0], [0.0, 1.0]])
    spread = read(write(tmp_path / "psf.fits", *psf_map(sigmas, exposure)))
    for x, row in ((79, exposure[0]), (0, exposure[1])):
        expected = averaged(profiles, nodes, 0.1, 10, 2.0, row)
        np.testing.assert_allclose(shares(spread, x), expected, atol=5e-4)
    # Where there was none, the power law alone counts.
    dark = read(write(tmp_path / "dark.fits", *psf_map(sigmas, [[0.0, 0.0], [0.0, 1.0]])))
    plain = read(write(tmp_path / "plain.fits", *psf_map(sigmas)))
    np.testing.assert_allclose(shares(dark, 79), shares(plain, 79), atol=1e-6)


@pytest.mark.parametrize("prefix", ["", "CTA-"])
def test_without_an_exposure_of_its_own_that_of_the_dataset_counts(tmp_path, prefix):
    hdus = psf_map([[0.2, 0.4], [0.2, 0.4]], name=f"{prefix}PSF")
    exposure = fits.ImageHDU(np.stack([np.zeros((6, 8)), np.ones((6, 8))]), name=f"{prefix}EXPOSURE")
    edges = {"ENERGY_TRUE_MIN": [0.1, 1.0], "ENERGY_TRUE_MAX": [1.0, 10.0]}
    bands = [fits.Column(name, "D", unit="TeV", array=values) for name, values in edges.items()]
    bands = fits.BinTableHDU.from_columns(bands, name=f"{prefix}EXPOSURE_BANDS")
    spread = read(write(tmp_path / "psf.fits", fits.ImageHDU(np.ones((60, 80)), name="COUNTS"), exposure, bands, *hdus))
    profiles, nodes = share(RADII, np.array([[0.2], [0.4]])), np.sqrt([0.1, 10])
    expected = averaged(profiles, nodes, 0.1, 10, 2.0, np.array([0.0, 1.0]))
    np.testing.assert_allclose(shares(spread), expected, atol=5e-4)
    # An exposure of no known energies is none.
    spread = read(write(tmp_path / "psf.fits", exposure, *hdus))
    expected = averaged(profiles, nodes, 0.1, 10, 2.0, np.ones(2))
    np.testing.assert_allclose(shares(spread), expected, atol=5e-4)


def test_where_a_file_has_no_profile_the_nearest_one_stands(tmp_path):
    hdus = psf_map([[0.2, 0.2], [0.4, 0.4]])
    hdus[0].data[..., 0] = np.nan
    np.testing.assert_allclose(shares(read(write(tmp_path / "psf.fits", *hdus)), 79), share(RADII, 0.4), atol=2e-4)
    table = psf_table(ONE, offsets=(0.0, 1.0, 2.0))
    table.data["RPSF"][0, :, 1:] = 0
    np.testing.assert_allclose(shares(read(write(tmp_path / "t.fits", table)), 70), share(RADII, 0.2), atol=2e-4)
    king = psf_king(np.array([0.0, np.nan, 0.3, 0.3]))
    np.testing.assert_allclose(shares(read(write(tmp_path / "k.fits", king))), king_share(RADII, 0.3, 2.5), atol=2e-4)


@pytest.mark.parametrize("place", ["table", "events", "primary"])
def test_offsets_are_from_the_pointing(tmp_path, place):
    table = psf_table(ONE, offsets=(0.0, 1.0, 2.0, 3.0), growth=0.5)
    events = fits.BinTableHDU.from_columns([fits.Column("ENERGY", "D", array=[1.0])], name="EVENTS")
    pointing = TARGET.wcs.pixel_to_world(59.5, 29.5).icrs
    file = write(tmp_path / "psf.fits", events, table)
    number = {"table": 2, "events": 1, "primary": 0}[place]
    with fits.open(file, mode="update") as hdus:
        hdus[number].header.update(RA_PNT=pointing.ra.deg, DEC_PNT=pointing.dec.deg)
    spread = read(file)
    for x, sigma in ((59.5, 0.2), (49.5, 0.3), (39.5, 0.4)):
        np.testing.assert_allclose(shares(spread, x), share(RADII, sigma), atol=3e-4)
    assert "centre" not in spread.origin


def test_without_a_pointing_or_with_one_elsewhere_offsets_are_from_the_centre(tmp_path):
    table = psf_table(ONE, offsets=(0.0, 1.0), growth=0.5)
    for cards, said in (
        ({}, "it says no pointing (RA_PNT)"),
        ({"RA_PNT": 83.6, "DEC_PNT": 22.0}, "it points elsewhere"),
    ):
        table.header.update(cards)
        spread = read(write(tmp_path / "psf.fits", table))
        np.testing.assert_allclose(shares(spread), share(RADII, 0.2), atol=2e-3)
        np.testing.assert_allclose(shares(spread, 49.5), share(RADII, 0.3), atol=2e-3)
        assert spread.origin.endswith(f", offsets from the map's centre, as {said}")


def test_gtpsf_by_offset_in_one_row(tmp_path):
    theta, energies, offsets = np.linspace(0, 2, 300), np.geomspace(1e4, 1e6, 5), np.array([0.0, 1.0])
    sigmas = np.array([0.2, 0.4])[:, np.newaxis, np.newaxis]
    density = np.exp(-(theta[:, np.newaxis] ** 2) / (2 * sigmas**2)) * np.ones(5)
    table = columns({}, Theta=theta, Energy=energies, Exposure=np.ones(5), Offset=offsets, Psf=density)
    spread = read(write(tmp_path / "psf.fits", table))
    np.testing.assert_allclose(shares(spread, 49.5), share(RADII, 0.4), atol=2e-3)


def image(sigma=1.5, side=21, shift=0.0):
    y, x = np.mgrid[:side, :side] - side // 2
    return np.exp(-((x - shift) ** 2 + y**2) / (2 * sigma**2))


def test_images(tmp_path):
    header = fits.Header(sky_header((21, 21)))
    for hdus in ([fits.PrimaryHDU(image())], [fits.PrimaryHDU(), fits.ImageHDU(image()[np.newaxis], header, "K")]):
        fits.HDUList(hdus).writeto(tmp_path / "psf.fits", overwrite=True)
        np.testing.assert_allclose(read(tmp_path / "psf.fits").kernel(size=21), image() / image().sum(), atol=1e-7)
    np.testing.assert_allclose(read(image().tolist()).kernel(size=21), image() / image().sum(), atol=1e-7)
    scaled = fits.PrimaryHDU(np.round(1000 * image()).astype(np.int16))
    scaled.header["BSCALE"] = 0.001
    scaled.writeto(tmp_path / "scaled.fits")
    np.testing.assert_allclose(read(tmp_path / "scaled.fits").sigma, read(image()).sigma, rtol=1e-3)


def kernel_of(planes):
    """A PSFKernel as Gammapy writes its map: images by energy, and a table of these."""
    edges = {"ENERGY_TRUE_MIN": ENERGIES[: len(planes)], "ENERGY_TRUE_MAX": ENERGIES[1 : len(planes) + 1]}
    bands = [fits.Column(name, "D", unit="TeV", array=values) for name, values in edges.items()]
    primary = fits.PrimaryHDU(planes, fits.Header(sky_header((21, 21))))
    primary.header["BANDSHDU"] = "PRIMARY_BANDS"
    return fits.HDUList([primary, fits.BinTableHDU.from_columns(bands, name="PRIMARY_BANDS")])


def test_kernels_by_energy(tmp_path):
    planes = np.stack([image(sigma) * scale for sigma, scale in ((2.0, 1.0), (1.0, 7.0))])
    kernel_of(planes).writeto(tmp_path / "psf.fits")
    low, high = ENERGIES[0], ENERGIES[2]
    nodes, both = np.sqrt(ENERGIES[:2] * ENERGIES[1:3]), planes / planes.sum(axis=(1, 2), keepdims=True)
    expected = averaged(both.reshape(2, -1), nodes, low, high, 2.0, np.ones(2)).reshape(21, 21)
    np.testing.assert_allclose(read(tmp_path / "psf.fits").kernel(size=21), expected, atol=1e-5)
    # An energy of which there is no image takes no part.
    kernel_of(np.stack([np.full_like(planes[0], np.nan), planes[1]])).writeto(tmp_path / "part.fits")
    np.testing.assert_allclose(read(tmp_path / "part.fits").kernel(size=21), both[1], atol=1e-7)


def test_objects_that_write_themselves(tmp_path):
    kernel = SimpleNamespace(psf_kernel_map=SimpleNamespace(to_hdulist=lambda: kernel_of(np.stack([image(), image()]))))
    np.testing.assert_allclose(read(kernel).sigma, read(image()).sigma, rtol=1e-6)
    made = SimpleNamespace(to_hdulist=lambda: fits.HDUList([fits.PrimaryHDU(), *psf_map([[0.2, 0.2]])]))
    np.testing.assert_allclose(shares(read(made)), share(RADII, 0.2), atol=2e-4)
    assert read(made).setting == read(write(tmp_path / "psf.fits", *psf_map([[0.2, 0.2]]))).setting


def refused(given, spectrum=ALL):
    with pytest.raises(InputError) as error:
        read(given, spectrum)
    return str(error.value)


@pytest.mark.parametrize("width", ["0deg", "-2", "nan", "inf deg", "0.6parsec", "-0.1deg"])
def test_no_width(width):
    assert refused(width) == (
        f'psf is "{width}": it must be a width above 0, in pixels (2.4) or as an angle ("0.12deg"), or a file'
    )
    assert refused(0.5 * u.m).startswith('psf is "0.5 m": it must be a width above 0')


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p: p[:, :-1], "psf has 21 x 20 pixels: its sides must be odd, with the source on the middle pixel"),
        (lambda p: np.pad(p, 20), "psf has 61 x 61 pixels, the map 60 x 80: cut it around its middle"),
        (lambda p: -p, "psf has negative pixels, the lowest -1: set to 0 what is noise"),
        (lambda p: 0 * p, "psf is 0 everywhere: give the image of a point source"),
        (
            lambda p: np.where(p > 0.99, np.nan, p),
            "psf has 1 pixel NaN or infinite: set them to what is expected there",
        ),
        (lambda p: np.roll(p, 2, 1), "psf is not centred: its centroid lies +2.00, +0.00 pixels (x, y) off the middle"),
        (lambda p: p[np.newaxis], "psf is a ndarray: it must be a width in pixels"),
    ],
)
def test_no_image(change, said):
    assert refused(change(image())).startswith(said)


def test_images_that_do_not_fit(tmp_path):
    header = sky_header((21, 21))
    header["CDELT1"], header["CDELT2"] = -0.02, 0.02
    fits.PrimaryHDU(image(), header).writeto(tmp_path / "psf.fits")
    assert refused(tmp_path / "psf.fits").endswith(
        "psf.fits has pixels of 0.02 deg, the survey of 0.1: resample it to those, or give a table (gtpsf, psf_table, "
        "PSFMap)"
    )
    fits.PrimaryHDU(np.stack([image(), image()])).writeto(tmp_path / "cube.fits")
    assert refused(tmp_path / "cube.fits").endswith("cube.fits has 2 planes, of no known energies: give one of them")
    kernel_of(np.stack([image(), image()])).writeto(tmp_path / "kernel.fits")
    assert refused(tmp_path / "kernel.fits", Spectrum(2.0, (50.0, 90.0))).endswith(
        "kernel.fits: its energies, from 0.1 to 1 TeV, and the survey's, from 50 to 90 TeV, do not overlap: give that "
        "of the survey's energies"
    )


def test_tables_that_are_none(tmp_path):
    def said(*hdus, spectrum=ALL):
        return refused(write(tmp_path / "psf.fits", *hdus), spectrum).replace(str(tmp_path / "psf.fits"), "F")

    assert said(psf_table(RAD_LO="m")) == "HDU 1 of F: RAD_LO is in m: it must be in a unit of an angle, deg"
    assert said(psf_table(ENERG_HI="s")) == "HDU 1 of F: ENERG_HI is in s: it must be in a unit of an energy, TeV"
    assert "do not overlap" in said(psf_table(), spectrum=Spectrum(2.0, (20.0, 30.0)))
    empty = psf_table(ONE)
    empty.data["RPSF"] = 0
    assert said(empty) == ("HDU 1 of F holds no point spread function at these energies: its values are 0 or NaN")
    negative, backwards, short, wrong, odd = (psf_table(ONE, offsets=(0.0, 1.0)) for _ in range(5))
    negative.data["RPSF"][0, 5] = -1
    assert said(negative) == "HDU 1 of F holds negative values: a point spread function has none"
    backwards.data["RAD_HI"][0] = backwards.data["RAD_HI"][0][::-1]
    assert said(backwards) == "HDU 1 of F: its radii do not rise from 0: correct them"
    short.data["ENERG_LO"][0] = 1.0
    assert said(short) == "HDU 1 of F: its energies do not rise: correct them"
    wrong.data["THETA_HI"][0] = wrong.data["THETA_LO"][0] = 0.5
    assert said(wrong) == "HDU 1 of F: its offsets do not rise: correct them"
    table = columns({}, **{name: odd.data[name][0] for name in odd.data.names if name != "RPSF"}, RPSF=np.ones((2, 2)))
    assert said(table) == "HDU 1 of F: RPSF has shape (2, 2), its axes (400, 2, 4): write the file again"
    psf, theta = gtpsf(np.geomspace(1e4, 1e6, 8), np.full(8, 0.2))
    assert said(psf) == ("HDU PSF of F has no radii (column THETA, or a table of that name): get the file again")
    cut = fits.BinTableHDU(theta.data[:100], name="THETA")
    assert said(psf, cut) == "HDU PSF of F: PSF has shape (8, 300), its axes (8, 100): write the file again"


def test_files_without_one(tmp_path):
    events = fits.BinTableHDU.from_columns([fits.Column("ENERGY", "D", array=[1.0])], name="EVENTS")
    formats = "PSFMap, PSFKernel, psf_table, psf_3gauss, psf_king, gtpsf, or an image"
    file = write(tmp_path / "psf.fits", events)
    assert refused(file) == f"{file} holds no point spread function of a known format: {formats}"
    assert refused(f"{file}[EVENTS]") == (
        f"HDU EVENTS of {file} holds no point spread function of a known format: {formats}"
    )
    assert refused(f"{file}[PSF]") == (
        f"{file} has no HDU PSF; it has 0 PRIMARY, 1 EVENTS: name the one of the point spread function"
    )
    file = write(tmp_path / "psf.fits", psf_table(), psf_king())
    assert refused(file) == f"{file} holds 2 point spread functions: name one, --psf '{file}[HDU]', of 1, 2"
    map_hdu, bands = psf_map([[0.2, 0.2]])
    bands.columns.del_col("RAD_MIN")
    file = write(tmp_path / "psf.fits", map_hdu, bands)
    assert refused(f"{file}[PSF]").startswith(f"HDU PSF of {file}")
    map_hdu, bands = psf_map([[0.2, 0.2]])
    file = write(tmp_path / "psf.fits", map_hdu, fits.BinTableHDU(bands.data[:100], name="PSF_BANDS"))
    assert refused(file) == (
        f"HDU PSF of {file} has no table of the energies and radii of its planes: write it with Gammapy"
    )
    (tmp_path / "psf.txt").write_text("0.12 deg\n")
    assert refused(tmp_path / "psf.txt").endswith(
        "psf.txt is not a FITS file (.fits, .fits.gz, .fits.fz): give the file of a point spread function"
    )


def test_king_has_its_tail():
    assert king_share(math.inf, 1.0, 2.0) == 1
