"""Maps that close the circle: the last column is the neighbour of the first."""

from functools import cache, partial

import numpy as np
import oracle
import pytest
from astropy.io import fits
from reporters import DiesAt, InterruptedRunError
from skies import poisson_sky, write_survey
from whole import TOLERANCE, assert_equals_whole, assert_promised, whole_of

from cwt_dask import run_survey
from cwt_dask.inspection.verify import verify_run
from cwt_dask.trust import SourceFlag

KERNELS = {"n_scale": 2, "min_scale": 1.2, "step_scale": 1.5}
# As many iterations as show what lies beyond the edge.
FIXED = KERNELS | {"max_iter": 4}
OPTIONS = FIXED | {"workers": 0, "fits": "no", "stopping": "fixed"}
whole_ring = partial(whole_of, fixed=True, wrap=True, **FIXED)


def source_on_the_edge(shape=(50, 130)):
    """A sky whose brightest source, at row 24, lies across the map's edge; nothing else in its neighbourhood."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    background = np.full(shape, 0.5)
    profile = np.exp(-((y - 24) ** 2 + (x - 60.4) ** 2) / (2 * 1.3**2)) / (2 * np.pi * 1.3**2)
    profile += 0.3 * np.exp(-((y - 40) ** 2 + (x - 99) ** 2) / (2 * 1.3**2)) / (2 * np.pi * 1.3**2)
    return np.roll(np.random.default_rng(9).poisson(background + 1000 * profile), -60, axis=1), background


RINGS = [
    *(((50, 130), 37, 8), ((50, 130), 64, 3), ((50, 130), 130, 1)),
    # Narrower than a margin, than a kernel, and than what a pixel of the core reaches.
    *(((30, 17), 30, 1), ((30, 17), 9, 8), ((30, 5), 16, 2)),
]


# Every second one masked, or else the others.
@pytest.mark.parametrize(
    ("shape", "tile_size", "n_tiles", "masked"),
    [
        pytest.param(*ring, masked, marks=[pytest.mark.long] * (masked is (number % 2 > 0)))
        for number, ring in enumerate(RINGS)
        for masked in (False, True)
    ],
)
def test_a_ring_in_tiles_equals_the_whole_ring(tmp_path, shape, tile_size, n_tiles, masked):
    counts, background = poisson_sky(shape, seed=12, brightest=3000, n_sources=6)
    mask = np.random.default_rng(5).random(shape) > 0.03 if masked else None
    survey = write_survey(tmp_path / "survey.fits", counts, background, mask, ring=True)
    run = run_survey(survey, tmp_path / "run", tile_size=tile_size, **OPTIONS)
    assert run.stored.plan.grid.ring
    assert run.certificate["n_tiles"] == n_tiles
    whole = whole_ring(counts, background, mask=mask)
    assert whole.support.any()
    assert_equals_whole(run, whole)
    assert_promised(run)
    # A single tile on a ring has a seam too: with itself.
    assert run.certificate["seam_model_error"] is not None
    assert run.certificate["margin_effective"] >= run.stored.plan.contract_margin


@pytest.mark.parametrize("columns", [200, pytest.param(0, marks=pytest.mark.long)])
def test_an_island_longer_than_a_margin_over_the_edge_is_judged_as_one(tmp_path, columns):
    shape = (50, 300)
    background = np.full(shape, 1.0)
    expected = background.copy()
    expected[23:27] += 3.0
    expected[:, 140:150] = background[:, 140:150]
    expected[24:26, 280:290] += 100.0
    counts = np.roll(np.random.default_rng(1).poisson(expected), columns, axis=1)
    survey = write_survey(tmp_path / "survey.fits", counts, background, ring=True)
    options = {"significance_island_threshold": 20.0, "max_iter": 3}
    run = run_survey(survey, tmp_path / "run", tile_size=60, **OPTIONS | options)
    assert run.certificate["open_islands"] == 0
    assert_equals_whole(run, whole_ring(counts, background, **options))
    assert_promised(run)


def test_an_interrupted_ring_is_resumed_to_the_same_bits(tmp_path):
    survey = write_survey(tmp_path / "survey.fits", *poisson_sky((50, 130), seed=12), ring=True)
    options = OPTIONS | {"tile_size": 37, "max_iter": 3}
    whole = run_survey(survey, tmp_path / "whole", **options)
    with pytest.raises(InterruptedRunError):
        run_survey(survey, tmp_path / "run", progress=DiesAt("tiles", 3), **options)
    run = run_survey(survey, tmp_path / "run", **options)
    assert run.stored.plan.grid.ring
    assert run.certificate["digest_maps"] == whole.certificate["digest_maps"]
    assert not [check for check in verify_run(run) if check.fault]


@pytest.mark.parametrize("tile_size", [41, 65, 130])
def test_a_source_on_the_edge_is_found_once(tmp_path, tile_size):
    counts, background = source_on_the_edge()
    survey = write_survey(tmp_path / "survey.fits", counts, background, ring=True)
    run = run_survey(survey, tmp_path / "run", tile_size=tile_size, **OPTIONS)
    bright = run.catalogue[run.catalogue["significance"] > 20]
    assert sorted(bright["y_peak"]) == [24, 40]
    on_edge = bright[bright["y_peak"] == 24]
    assert on_edge["x_peak"][0] in (0, 1, 129)
    assert -0.5 <= on_edge["x_centroid"][0] < 129.5
    # Its disc and its island lie on both sides of the edge, and it is no border.
    disc = np.roll(counts, 60 - on_edge["x_peak"][0], axis=1)
    y, x = np.mgrid[: counts.shape[0], : counts.shape[1]]
    assert on_edge["counts"][0] == disc[np.hypot(y - 24, x - 60) <= on_edge["radius"][0]].sum()
    assert on_edge["flags"][0] == (SourceFlag.CROSSES_SEAM if run.stored.plan.grid.n_tiles > 1 else 0)
    support = run.support.any(axis=0).compute()
    islands = oracle.label_ring(support)
    assert islands[24, 0] == islands[24, -1] > 0
    assert on_edge["n_pixels"][0] == (islands == islands[24, 0]).sum()


SAME_IN_THE_CATALOGUE = ("y_peak", "glat", "significance", "scale", "n_pixels", "radius", "counts", "background",
                         "excess", "pos_err")  # fmt: skip


@pytest.fixture(scope="module")
def turned_run(tmp_path_factory):
    """Run a sky that was turned by so many columns; each once."""

    @cache
    def run(columns):
        folder = tmp_path_factory.mktemp("turned")
        sky = poisson_sky((50, 130), seed=12, brightest=3000, n_sources=6)
        turned = (np.roll(plane, columns, axis=1) for plane in sky)
        survey = write_survey(folder / "survey.fits", *turned, ring=True)
        return run_survey(survey, folder / "run", tile_size=50, **OPTIONS)

    return run


@pytest.mark.parametrize("columns", [1, pytest.param(-64, marks=pytest.mark.long)])
def test_turning_the_survey_turns_the_maps_and_the_catalogue(turned_run, columns):
    runs = [turned_run(0), turned_run(columns)]
    exact = {"best_scale", "best_iteration", "trust", "support"}
    for name in ("model", "approx", "residual", "significance", "transform_2d", *exact):
        before, after = (run.map(name).compute() for run in runs)
        tolerance = 0 if name in exact else TOLERANCE * np.abs(before).max()
        np.testing.assert_allclose(after, np.roll(before, columns, axis=-1), rtol=0, atol=tolerance)
    before, after = (run.catalogue.copy() for run in runs)
    assert len(before) == len(after) > 3
    before["x_peak"] = (before["x_peak"] + columns) % 130
    np.testing.assert_array_equal(after["x_peak"], before["x_peak"])
    # Tiles lie otherwise on the sky now.
    assert not ((after["flags"] ^ before["flags"]) & ~SourceFlag.CROSSES_SEAM).any()
    for name in SAME_IN_THE_CATALOGUE:
        np.testing.assert_allclose(after[name], before[name], rtol=TOLERANCE, atol=2e-6, err_msg=name)
    turned = (after["glon"] - before["glon"] + columns * 360 / 130 + 180) % 360 - 180
    np.testing.assert_allclose(turned, 0, atol=2e-7)
    # Islands have other numbers, but hold the same peaks.
    assert len(set(zip(before["island_id"], after["island_id"], strict=True))) == len(set(after["island_id"]))


def test_taking_the_edge_for_a_border_gives_another_result(tmp_path):
    counts, background = source_on_the_edge()
    survey = write_survey(tmp_path / "survey.fits", counts, background, ring=True)
    run = run_survey(survey, tmp_path / "run", tile_size=41, wrap="no", **OPTIONS)
    assert "its first and last column are borders" in " ".join(run.certificate["warnings"])
    ring = whole_ring(counts, background)
    difference = np.abs(run.model.compute() - ring.model) / ring.model.max()
    assert difference[24, [0, -1]].max() > 1e-2
    assert (run.support.compute() != ring.support)[:, 10:40, [0, 1, -2, -1]].any()
    # It is right about the map that it took it for.
    assert_equals_whole(run, whole_ring(counts, background, wrap=False))


def test_a_map_can_be_called_a_ring_against_its_header(tmp_path):
    counts, background = source_on_the_edge()
    survey = write_survey(tmp_path / "survey.fits", counts, background)
    run = run_survey(survey, tmp_path / "run", tile_size=41, wrap="yes", **OPTIONS)
    assert "it is assumed that its columns show the whole circle" in " ".join(run.certificate["warnings"])
    assert_equals_whole(run, whole_ring(counts, background))


@pytest.mark.parametrize("width", [17, pytest.param(130, marks=pytest.mark.long)])
def test_the_background_is_smoothed_over_the_edge(tmp_path, width):
    counts, background = poisson_sky((50, width), seed=3)
    background = background * (1 + np.linspace(0, 2, width))
    survey = write_survey(tmp_path / "survey.fits", counts, background, ring=True)
    run = run_survey(survey, tmp_path / "run", tile_size=41, **OPTIONS | {"max_iter": 2, "fits": "yes"})
    approx_bkg = fits.getdata(run.files.maps_fits, "APPROX_BKG")
    expected = whole_ring(counts, background, max_iter=2).approx_bkg
    np.testing.assert_allclose(approx_bkg, expected, rtol=0, atol=1e-12 * expected.max())
