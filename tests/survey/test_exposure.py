"""Exposures at other energies than the bands: weighted by a power law, as a numerical integral has it."""

from itertools import pairwise

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st
from skies import sky_header

from cwt_dask.errors import SurveyError
from cwt_dask.survey import SurveySource, ingest, scan
from cwt_dask.survey.bands import Bands
from cwt_dask.survey.choice import choose
from cwt_dask.survey.exposure import weigh
from cwt_dask.survey.source import Selection

SHAPE = (3, 4)
RNG = np.random.default_rng(5)


def bins(edges):
    return Bands(edges=np.stack([edges[:-1], edges[1:]], axis=1))


def nodes(energies):
    return Bands(edges=np.stack([energies, energies], axis=1), true=True)


def exposure_of(exposure, planes, counts, index, used=(), **selection):
    """The exposure of the bands chosen, made of planes of any energies."""
    n_bands = len(counts.edges)
    chosen = choose(counts, n_bands, Selection(**selection or {"band": "sum"}), "COUNTS")
    weighting = weigh(exposure, len(planes), counts, chosen, index)
    taken = weighting.planes
    return weighting.combine(planes[taken.start : taken.stop], used)


def integrated(exposure_at, edges, index, used=None):
    """Exposure (y, x) of bands by a sum over many energies; `used` are those bands that take part at each pixel."""
    total, flux = 0, 0
    for band, (low, high) in enumerate(pairwise(edges)):
        energies = np.exp(np.linspace(np.log(low), np.log(high), 20001))
        middles, widths = np.sqrt(energies[1:] * energies[:-1]), np.diff(energies)
        weights = middles**-index * widths
        of_band = np.tensordot(weights, exposure_at(middles), 1)
        total = total + (of_band if used is None else np.where(used[band], of_band, 0))
        flux += weights.sum()
    return total / flux


EDGES = np.array([1.0, 1.7, 4.0, 11.0, 12.0])
INDICES = [-1.0, 0.0, 1.0, 2.0, 2.7, 9.0]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("index", INDICES)
def test_bins_of_true_energy_count_by_their_overlap(index, masked):
    true = np.geomspace(0.7, 15, 12)
    planes = list(RNG.uniform(1, 9, (11, *SHAPE)))
    used = list(RNG.random((4, *SHAPE)) > 0.4) if masked else []
    found = exposure_of(bins(true), planes, bins(EDGES), index, used)

    def at(energies):
        return np.stack(planes)[np.searchsorted(true, energies) - 1]

    np.testing.assert_allclose(found, integrated(at, EDGES, index, used or None), rtol=2e-4)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("index", INDICES)
@pytest.mark.parametrize("energies", [np.geomspace(0.9, 12.5, 8), EDGES])
def test_nodes_are_joined_by_power_laws(index, energies, masked):
    planes = list(RNG.uniform(1, 9, (len(energies), *SHAPE)))
    used = list(RNG.random((4, *SHAPE)) > 0.4) if masked else []
    found = exposure_of(nodes(energies), planes, bins(EDGES), index, used)

    def at(middles):
        upper = np.clip(np.searchsorted(energies, middles), 1, len(energies) - 1)
        part = (np.log(middles / energies[upper - 1]) / np.log(energies[upper] / energies[upper - 1]))[:, None, None]
        logs = np.log(np.stack(planes))
        return np.exp(logs[upper - 1] * (1 - part) + logs[upper] * part)

    np.testing.assert_allclose(found, integrated(at, EDGES, index, used or None), rtol=1e-6)


def test_nodes_without_exposure_are_joined_by_lines():
    planes = [np.array([[0.0, 0.0, 4.0, np.nan]]), np.array([[2.0, 0.0, 0.0, 1.0]])]
    found = exposure_of(nodes(np.array([1.0, np.e])), planes, bins(np.array([1.0, np.e])), 1.0)
    np.testing.assert_allclose(found, [[1, 0, 2, np.nan]])


@settings(deadline=None)
@given(
    st.lists(st.floats(1e-6, 1e3), min_size=2, max_size=6, unique=True),
    st.floats(-10, 10),
    st.booleans(),
    st.floats(1e-3, 1e15),
)
def test_a_flat_exposure_is_that_of_all_bands(energies, index, at_nodes, value):
    edges = np.sort(energies)
    edges = edges[np.append(True, np.diff(edges) > 1e-2 * edges[:-1])]
    edges = edges if len(edges) > 1 else np.array([1.0, 2.0])
    true = np.geomspace(edges[0] / 2, edges[-1] * 3, 9)
    planes = [np.full(SHAPE, value)] * (9 if at_nodes else 8)
    found = exposure_of(nodes(true) if at_nodes else bins(true), planes, bins(edges), index)
    np.testing.assert_allclose(found, value, rtol=1e-9)


def test_a_band_alone_has_its_own_plane_bit_for_bit():
    planes = list(RNG.uniform(1, 9, (4, *SHAPE)).astype(np.float32))
    found = exposure_of(bins(EDGES), planes, bins(EDGES), 2.0, band=2)
    assert found is planes[2]
    one = exposure_of(bins(EDGES[:2]), planes[:1], bins(EDGES), 2.0)
    assert one is planes[0]
    # Of one plane for all bands that takes part which the mask uses.
    used = [np.full(SHAPE, band < 2) for band in range(4)]
    share = (1 - 1 / 4) / (1 - 1 / 12)
    np.testing.assert_allclose(exposure_of(bins(EDGES[:2]), planes[:1], bins(EDGES), 2.0, used), share * planes[0])


@pytest.mark.parametrize(
    "exposure",
    [
        nodes(np.array([1.1, 5, 12])),
        nodes(np.array([1, 5, 11.9])),
        bins(np.array([1.1, 5, 12])),
        Bands(edges=np.array([[1, 4], [5, 12.0]])),
        Bands(edges=np.array([[5, 12.0], [1, 5]])),
        Bands(edges=np.array([[0, 5], [5, 12.0]])),
        Bands(edges=np.array([[1, 5], [5, np.nan]])),
        Bands(edges=np.array([[1, 5], [5, 12.0]]), of_header=True),
        Bands(),
    ],
)
def test_energies_that_do_not_cover_the_bands_are_none(exposure):
    n_planes = 2 if exposure.edges is None else len(exposure.edges)
    chosen = choose(bins(EDGES), 4, Selection(band="sum"), "COUNTS")
    assert weigh(exposure, n_planes, bins(EDGES), chosen, 2.0) is None


# --- files ------------------------------------------------------------------------------------------------------------


COUNTS = RNG.poisson(3, (4, 20, 30)).astype(np.int32)
BACKGROUND = RNG.integers(1, 5, (4, 20, 30)).astype(np.float64)


def cube(path, pixels, *tables, name=None, **cards):
    """A file of Fermi's kind: a cube in the primary HDU, and tables."""
    header = dict(sky_header(pixels.shape[-2:]))
    header |= {"CTYPE3": "photon energy", "CRPIX3": 1.0, "CRVAL3": 10000.0, "CDELT3": 9e3, "CUNIT3": "MeV"} | cards
    hdu = fits.PrimaryHDU(pixels, fits.Header(header))
    hdu.header.update({"EXTNAME": name} if name else {})
    fits.HDUList([hdu, *tables]).writeto(path, overwrite=True)
    return path


def ebounds(edges=EDGES * 10 * u.GeV, unit="keV"):
    rows = {"CHANNEL": np.arange(1, len(edges)), "E_MIN": edges[:-1].to(unit), "E_MAX": edges[1:].to(unit)}
    return fits.BinTableHDU(Table(rows), name="EBOUNDS")


def energies(edges=EDGES * 10 * u.GeV):
    """As gtexpcube2 writes it: MeV, and no word about that."""
    return fits.BinTableHDU(Table({"Energy": edges.to_value("MeV")}), name="ENERGIES")


GTI = fits.BinTableHDU(Table({"START": [0.0], "STOP": [9.0]}), name="GTI")


@pytest.fixture
def fermi(tmp_path):
    """Files of gtbin, gtmodel and gtexpcube2; the exposure goes as the energy."""
    exposure = np.broadcast_to((EDGES * 1e10)[:, None, None], (5, 20, 30))
    return {
        "survey": cube(tmp_path / "ccube.fits", COUNTS, ebounds(), GTI),
        "background": cube(tmp_path / "model.fits", BACKGROUND, ebounds(), GTI),
        "exposure": cube(tmp_path / "bexpmap.fits", exposure.astype(np.float32), energies(), GTI, BUNIT="cm^2 s"),
    }


def test_files_of_fermis_tools_need_no_names(fermi, tmp_path):
    survey = fermi.pop("survey")
    of = {emin: ingest(survey, tmp_path / f"{emin}.zarr", emin=emin, **fermi) for emin in ("10GeV", "40 GeV")}
    assert of["10GeV"].statistics.counts_sum == COUNTS.sum()
    assert of["40 GeV"].statistics.counts_sum == COUNTS[2:].sum()
    np.testing.assert_allclose(of["40 GeV"].background, BACKGROUND[2:].sum(axis=0))
    for store, low in zip(of.values(), (1.0, 4.0), strict=True):
        # Of E with E^-2: the logarithm over the flux.
        np.testing.assert_allclose(store.exposure, 1e10 * np.log(12 / low) / (1 / low - 1 / 12), rtol=1e-6)
        assert (store.statistics.exposure_unit, store.statistics.warnings) == ("cm2 s", ())
    one, third = (ingest(survey, tmp_path / f"{n}.zarr", band=n, index=3, **fermi) for n in (0, 2))
    np.testing.assert_array_equal(third.counts, COUNTS[2])
    np.testing.assert_allclose(one.exposure, 1e10 * (1 - 1 / 1.7) / (0.5 - 0.5 / 1.7**2), rtol=1e-6)
    made_of = of["40 GeV"].statistics.origins
    assert [(each["plane"], each["hdu"], each["bands"], each["energies"]) for each in made_of] == [
        ("counts", "PRIMARY", "2 to 3 of 4", "40 GeV to 120 GeV"),
        ("background", "PRIMARY", "2 to 3 of 4", "40 GeV to 120 GeV"),
        ("exposure", "PRIMARY", "2 to 4 of 5", "40 GeV to 120 GeV"),
    ]
    assert made_of[2]["index"] == 2
    assert {each["digest"] for each in made_of} <= set(of["40 GeV"].statistics.planes.values())


def test_bands_at_their_centres_are_those_of_the_counts(fermi, tmp_path):
    """As gtexpcube2 with bincalc=CENTER writes them."""
    centres = np.sqrt(EDGES[1:] * EDGES[:-1])
    planes = np.broadcast_to(np.arange(1.0, 5)[:, None, None], (4, 20, 30))
    for table in (ebounds(), energies(centres * 10 * u.GeV)):
        fermi["exposure"] = cube(tmp_path / "centres.fits", planes, table, BUNIT="cm2 s")
        flux = 1 / EDGES[:-1] - 1 / EDGES[1:]
        store = ingest(
            **{"source": fermi["survey"], "out": tmp_path / f"{table.name}.zarr", "band": "sum"}
            | {name: fermi[name] for name in ("background", "exposure")}
        )
        np.testing.assert_allclose(store.exposure, np.arange(1, 5) @ flux / flux.sum())


def test_components_of_a_background_are_summed_by_name(fermi, tmp_path):
    halves = [fits.ImageHDU(part * BACKGROUND, name=name) for part, name in ((0.25, "galdiff"), (0.75, "isodiff"))]
    point = fits.ImageHDU(BACKGROUND, name="4FGL J0534.5+2201")
    path = cube(tmp_path / "srcmap.fits", COUNTS, ebounds(), GTI, *halves, point)
    other = cube(tmp_path / "iso.fits", 0.75 * BACKGROUND, ebounds())
    expected = scan(SurveySource.of(fermi["survey"], background=fermi["background"], band="sum"))
    for spelled in (f"{path}[galdiff,isodiff]", [f"{path}[GALDIFF]", f"{path}[4]"], (f"{path}[galdiff]", other)):
        found = scan(SurveySource.of(fermi["survey"], background=spelled, band="sum"))
        assert found.digest == expected.digest
        assert [each["plane"] for each in found.origins] == ["counts", "background", "background"]
        assert scan(SurveySource.of(fermi["survey"], background=spelled, emin="17GeV", emax="40GeV")).counts_sum == (
            COUNTS[1].sum()
        )
    with pytest.raises(SurveyError, match=r"has no HDU isotropic; it has .*: name the one to use, --background '"):
        scan(SurveySource.of(fermi["survey"], background=f"{path}[galdiff, isotropic]", band="sum"))


def test_maps_that_lack_a_spectrum_are_refused(fermi, tmp_path):
    path = cube(tmp_path / "srcmap.fits", COUNTS, ebounds(), fits.ImageHDU(np.ones((5, 20, 30)), name="galdiff"))
    with pytest.raises(
        SurveyError, match="5 planes, one at each edge of the 4 bands of .* gtsrcmaps .*: give its model"
    ):
        scan(SurveySource.of(fermi["survey"], background=f"{path}[galdiff]", band="sum"))


def test_a_counts_map_says_by_which_energies_its_events_were_selected(fermi, tmp_path):
    cards = {"DSTYP1": "TIME", "DSVAL1": "TABLE", "DSTYP2": "ENERGY", "DSUNI2": "MeV", "DSVAL2": "17000.:110000."}
    counts = cube(tmp_path / "cmap.fits", COUNTS[1:3].sum(axis=0), GTI, **cards)
    background = cube(tmp_path / "m.fits", BACKGROUND[1:3].sum(axis=0), GTI)
    store = ingest(counts, tmp_path / "s.zarr", background=background, exposure=fermi["exposure"])
    np.testing.assert_allclose(store.exposure, 1e10 * np.log(11 / 1.7) / (1 / 1.7 - 1 / 11), rtol=1e-6)
    assert store.statistics.origins[0]["energies"] == "17 GeV to 110 GeV"
    for selection, ok in {"10GeV": True, "20GeV": False}.items():
        source = SurveySource.of(counts, background=background, emin=selection)
        if ok:
            assert scan(source).warnings == (
                "energies from 10 GeV were asked for, and bands wholly within are taken: 17 GeV to 110 GeV",
            )
        else:
            with pytest.raises(
                SurveyError, match="no band wholly within energies from 20 GeV: its edges are 17 GeV, 110"
            ):
                scan(source)


@pytest.mark.parametrize("shape", [(6,), (2, 3), (3, 2), (1, 6), (2, 1, 3)])
@pytest.mark.parametrize("tiles", [None, (2, 7, 13)])
def test_some_planes_of_a_cube_are_read_however_it_is_kept(tmp_path, shape, tiles):
    pixels = RNG.poisson(9, (*shape, 20, 30)).astype(np.int16)
    edges = np.geomspace(1, 64, 7) * u.GeV
    table = fits.BinTableHDU(Table({"E_MIN": edges[:-1], "E_MAX": edges[1:]}), name="EBOUNDS")
    kind = {} if tiles is None else {"tile_shape": (*(1,) * (len(shape) - 1), *tiles), "compression_type": "GZIP_1"}
    made = fits.ImageHDU if tiles is None else fits.CompImageHDU
    header = fits.Header(sky_header((20, 30)))
    hdus = [made(pixels + extra, header, name=name, **kind) for extra, name in ((0, "counts"), (1, "background"))]
    fits.HDUList([fits.PrimaryHDU(), *hdus, table]).writeto(tmp_path / "c.fits")
    store = ingest(tmp_path / "c.fits", tmp_path / "s.zarr", emin="2GeV", emax="16GeV")
    np.testing.assert_array_equal(store.counts, pixels.reshape(6, 20, 30)[1:4].sum(axis=0))
    assert store.statistics.background_sum == store.statistics.counts_sum + 3 * 600
