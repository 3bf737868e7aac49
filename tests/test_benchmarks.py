"""The benchmarks still fit the package, and compare what is the same; what they measure is not asserted."""

import importlib
import sys
from pathlib import Path

import dask
import dask.array
import numpy as np
import oracle
import pytest
from astropy.table import Table
from cases import EVERY
from skies import poisson_sky, rounding_of, write_survey

from cwt_dask import run_survey
from cwt_dask.cwt.kernels import CWTKernels
from cwt_dask.geometry.healpix import lon_lat_of
from cwt_dask.geometry.margins import contract_margin

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
KERNELS = CWTKernels(2, 1.5, 1.3)


@pytest.fixture(scope="module")
def load():
    """Import of a benchmark by its name; all are forgotten in the end, for they are scripts and not modules."""
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module
    for name in set(sys.modules) - before:
        if (BENCHMARKS / f"{name}.py").is_file():
            del sys.modules[name]


def test_the_step_is_measured(load):
    cost = load("step").measure(64, 1)
    assert set(cost) == {"plain", "step", "ffts", "moments"}
    assert min(cost.values()) > 0


def test_plain_is_the_oracle(load):
    counts, background = poisson_sky((60, 80), seed=5)
    rounding = rounding_of(counts, background)
    settings = {"n_scale": 2, "min_scale": 1.5, "step_scale": 1.3, "max_iter": 4}
    expected = oracle.analyze(counts, background, **settings, fixed=True, rounding=rounding)
    base = list(KERNELS.kern_base.values())
    maps = load("plain").analyse(counts, background, base, KERNELS.kern_approx, 3.0, 4, rounding)
    assert np.abs(maps.model - expected.model).max() <= 1e-12 * expected.model.max()
    assert np.array_equal(maps.support, expected.support)
    assert expected.support.any()


def test_expected_ts_is_cashs_of_one_source_and_less_of_one_with_a_neighbour(load):
    expected_root_ts, profile = load("asimov").expected_root_ts, load("injected").GAUSSIAN
    source = np.zeros((33, 33))
    load("injected").add_source(source, 16.2, 16.0, 80.0, profile)
    cash = 2 * ((source + 0.3) * np.log1p(source / 0.3) - source).sum()
    of = {away: np.array([[80.0, 0.2, 0.0], [150.0, 0.2, away]]) for away in (4.0, 30.0)}
    assert expected_root_ts(of[4.0][:1], 0, 0.3, profile) == pytest.approx(np.sqrt(cash), rel=1e-6)
    assert expected_root_ts(of[30.0], 0, 0.3, profile) == pytest.approx(np.sqrt(cash), rel=1e-4)
    assert 0.5 < expected_root_ts(of[4.0], 0, 0.3, profile) / np.sqrt(cash) < 0.9


def test_ways_of_element_wise_work_agree(load):
    elementwise = load("elementwise")
    before = elementwise.Before.of_sky(96)
    found = {}
    for name, way in elementwise.INSTALLED.items():
        found[name] = elementwise.After((96, 96))
        way(before, found[name])
    (choice, *others) = found.values()
    assert others
    assert choice.above.any()
    for other in others:
        for name in ("transform_hat", "variance_hat"):
            expected = getattr(choice, name)
            assert np.abs(getattr(other, name) - expected).max() <= 1e-14 * np.abs(expected).max()
        for name in ("ratio", "above", "wanted", "near", "significance", "best_scale", "hidden"):
            assert np.array_equal(getattr(other, name), getattr(choice, name)), name


def test_ways_of_labelling_agree(load):
    labelling = load("labelling")
    for share in labelling.SHARES:
        mask = labelling.islands(128, share)
        assert len({way(mask) for way in labelling.INSTALLED.values()}) == 1
        assert mask.mean() == pytest.approx(share, abs=1e-3)


def test_ffts_are_ffts(load):
    ffts = load("ffts")
    image = ffts.noise(45)
    expected = np.fft.rfft2(image)
    for name in ffts.INSTALLED:
        transforms = ffts.INSTALLED[name](image)
        assert np.abs(transforms.forward() - expected).max() <= 1e-14 * np.abs(expected).max(), name
        image_again = transforms.backward()
        # FFTW leaves out the division by the number of pixels.
        assert np.allclose(image_again / image_again[0, 0] * image[0, 0], image, atol=1e-10), name


def test_map_overlap_is_a_run(load, tmp_path):
    sky = poisson_sky((150, 200), seed=5)
    options = {"kernels": KERNELS, "max_iter": 4, "stopping": "fixed", "tile_size": 100, "workers": 0}
    run = run_survey(write_survey(tmp_path / "survey.fits", *sky), tmp_path / "run", **options)
    margin = contract_margin(KERNELS, 4, float(sky[0].max()))
    planes = (dask.array.from_array(plane, chunks=100) for plane in sky)
    model = load("map_overlap").detect(*planes, KERNELS, 3.0, 4, margin)
    assert model.npartitions == 4
    expected = run.model.compute()
    with dask.config.set(scheduler="synchronous"):
        assert np.abs(model.compute() - expected).max() <= 1e-6 * expected.max()
    assert expected.max() > 0


def test_parts_have_their_places_on_the_page(load):
    performance = load("performance")
    text = performance.PAGE.read_text(encoding="utf-8")
    for part, script in performance.PARTS.items():
        assert (BENCHMARKS / script).is_file()
        assert "| a |" in performance.page(text, part, "| a |\n")


def test_positions_of_injected_sources_are_measured(load):
    positions = load("positions")
    heading, *rows = positions.table(2).splitlines()
    assert heading.startswith("| T/E | sources |")
    assert len(rows) > 3
    assert len(positions.sparse_table(3).splitlines()) == 2 + len(positions.SPARSE)


def test_islands_of_noise_are_counted(load):
    noise = load("noise")
    assert len(noise.table(100).splitlines()) == 2 + len(noise.LEVELS)
    (many, large), (few, _) = noise.islands(0.01, 300), noise.islands(3.0, 300)
    assert many > 10 * (few + 1)
    assert large > 5
    page = noise.PAGE.read_text(encoding="utf-8")
    assert "| 0.28 | " in page.split(noise.BEGIN)[1].split(noise.END)[0]


def test_the_page_of_matches_shows_what_is_measured(load, shared_data, monkeypatch):
    """Of its three runs the one with the fewest rows."""
    benchmark = load("fermi")
    monkeypatch.setattr(benchmark, "FALSE_SOURCES", (1.0,))
    files = (shared_data / "fermi_survey.fits.gz", shared_data / "gll_psch_v13.fit.gz")
    *_, near, far = benchmark.table(*files).splitlines()
    assert f"{near}\n{far}\n" in (BENCHMARKS.parent / "docs" / "match.md").read_text(encoding="utf-8")


@pytest.mark.long
def test_events_are_binned_onto_the_whole_sky(load, tmp_path):
    table = load("events").tables(True, tmp_path, 10**8)
    assert "| 1e+04 | 180 x 360 |" in table


def test_estimated_backgrounds_are_judged(load):
    background = load("background")
    sky = background.draw((60, 80), 20.0, 1)
    assert sky.counts.sum() > sky.truth.sum()
    header, line, row = background.table((60, 80), ((5.0, 4.0, (1,)),)).splitlines()
    assert header.count("|") == line.count("|") == row.count("|")
    assert 0 < float(row.split("|")[3].strip(" %")) < 20


def test_limits_are_measured_at_places_of_known_counts(load, tmp_path):
    limits = load("limits")
    rows = limits.measured(tmp_path, 0.3, (64, 96), 1)
    assert len(rows) == 6
    assert set(rows["true"]) <= set(limits.TRUE)
    n, limit, interval, off = limits.line(rows)
    assert n == 6
    assert all("±" in figure for figure in (limit, interval, off))


def test_an_assessment_is_compared_with_other_skies(load, tmp_path):
    name, one, _, _, here, there, chi2, _ = load("assess").line(tmp_path, 0.3, 1, (60, 80), 1)
    assert name == "0.3"
    assert "(" in one or not one
    assert min(int(here), int(there)) > 0
    assert " of " in chi2


def test_the_best_rows_are_taken_until_ten_are_false(load, tmp_path):
    completeness = load("completeness")
    truth = np.rec.fromarrays([[5.0, 20.0, 50.0], [5.0, 20.0, 50.0], [9.0, 90.0, 900.0]], names="y, x, counts")
    # The second is a row after ten false ones, the third after eleven.
    places = np.array([[5.5, 5.0], *[[80.0, 80.0 + k] for k in range(10)], [20.0, 19.0], [99.0, 1.0], [50.0, 50.0]])
    found = completeness.found(places, -np.arange(len(places), dtype=float), truth)
    assert found.tolist() == [True, True, False]
    bright = np.arange(90) > 40
    completeness.draw({"one": bright, "other": ~bright}, np.geomspace(1, 100, 90), tmp_path / "completeness.png")
    assert (tmp_path / "completeness.png").stat().st_size > 1000


def test_the_likelihood_is_measured_on_groups_of_sources(load):
    likelihood, rng = load("likelihood"), np.random.default_rng(3)
    truth = likelihood.field(rng, [(500.0, 0.0, 0.0), (100.0, 0.0, 6.0)], 3, 48)
    counts = rng.poisson(likelihood.expect(truth, 0.05, 144)).astype(float)
    found = likelihood.fit(counts, 0.05, truth[:, 1:]).sources
    assert likelihood.describe(found, truth, 500.0).startswith("1.000 | ")


@pytest.fixture
def few(load, monkeypatch):
    """The benchmark of the catalogue, with one case of each kind."""
    catalogue = load("catalogue")
    few = {"SKIES": {"flat0.3": 2002, "sim": 4242}, "NULLS": ((0.3, {}), ("structured", {"extended": True}))}
    few |= {"GHOST_COUNTS": (1e5,), "GHOST_LEVELS": (0.3,), "FLUXES": ((300.0, 0.3),)}
    for name, cases in few.items():
        monkeypatch.setattr(catalogue, name, cases)
    return catalogue


@pytest.mark.parametrize(
    ("part", "n_rows"),
    [
        *(("fluxes", 1), ("cost", 1)),
        *(
            pytest.param(*part, marks=pytest.mark.long)
            for part in (("roc", 13), ("nulls", 2), ("ghosts", 2), ("extended", 8), ("flagged", 14))
        ),
    ],
)
def test_what_the_catalogue_is_worth_is_measured(few, shared_data, tmp_path, part, n_rows):
    given = few.Given(shared_data.parent / "science", tmp_path, quick=True, fermi=None, tsmap=None)
    heading, line, *rows = [row for row in few.PARTS[part](given).splitlines() if row.startswith("|")]
    assert len(rows) == n_rows
    assert {row.count("|") for row in rows} == {heading.count("|"), line.count("|")}
    on_page = few.PAGE.read_text(encoding="utf-8").split(f"<!-- {part} -->")[1].split(f"<!-- /{part} -->")[0]
    assert heading.split("|")[1] in on_page


@pytest.fixture
def sphere(load, monkeypatch):
    """The benchmark of the sphere, with runs in this process."""
    sphere = load("sphere")
    monkeypatch.setitem(sphere.OPTIONS, "workers", 0)
    return sphere


def test_whole_skies_are_judged_by_latitude(sphere):
    sky = sphere.draw(64, 60, 3)
    expected = sky.background.sum() + sky.fluxes.sum()
    assert sky.counts.sum() == pytest.approx(expected, abs=5 * np.sqrt(expected))
    lon, lat = lon_lat_of(np.vstack([sky.places, [[0.0, 0.0, 1.0]]]))
    npred = np.append(1.1 * sky.fluxes, 5.0)
    rows = Table({"glon": lon, "glat": lat, "npred": npred, "npred_errp": npred, "npred_errn": npred / 11})
    rows["pos_err"] = 0.1
    judged = sphere.judge(sky, rows)
    assert judged.found.all()
    assert judged.within.all()
    assert judged.twice == 0
    np.testing.assert_allclose(judged.latitude_of_false, 90)
    np.testing.assert_allclose([judged.ratio, judged.pull], [[1.1], [1.0]] * np.ones(60))
    heading, line, *lines = sphere.by_bands([judged, judged]).splitlines()
    assert len(lines) == len(sphere.BANDS)
    assert {row.count("|") for row in (line, *lines)} == {heading.count("|")}
    assert heading in sphere.PAGE.read_text(encoding="utf-8")


@pytest.mark.long
@pytest.mark.parametrize(
    ("part", "n_rows"),
    [("bands", 4), ("likelihood", 4), ("moved", 4), ("turned", 2), ("speed", 2)][:: 1 if EVERY else 2],
)
def test_runs_on_whole_skies_are_measured(sphere, tmp_path, part, n_rows):
    given = sphere.Given(tmp_path, quick=True, seed=1, skies=1, nside=64, cells=192)
    heading, line, *rows = [row for row in sphere.PARTS[part](given).splitlines() if row.startswith("|")]
    assert len(rows) == n_rows
    assert {row.count("|") for row in (line, *rows)} == {heading.count("|")}
