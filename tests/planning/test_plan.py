import math
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
from skies import poisson_sky, write_survey
from spheres import small_run

from cwt_dask import CWTKernels, run_survey
from cwt_dask.config.settings import Settings
from cwt_dask.errors import InputError, SettingsError
from cwt_dask.geometry.margins import contract_margin
from cwt_dask.measure.likelihood import Fit
from cwt_dask.planning.cost import (
    PER_FACET_PIXEL,
    PER_FITTED_FACET_PIXEL,
    PER_FITTED_PIXEL,
    SINGLE_TILE_PIXELS,
    automatic_facets,
    automatic_grid,
    tile_memory,
    tile_seconds,
)
from cwt_dask.planning.making import make_plan
from cwt_dask.run import plan_survey
from cwt_dask.runtime.progress import Lines
from cwt_dask.survey import SurveyStatistics
from cwt_dask.survey.facets import FacetSurvey
from cwt_dask.survey.sphere import Sphere

FACTS = SurveyStatistics(
    shape=(1500, 3000),
    n_valid=4_500_000,
    n_masked=0,
    n_off_sky=0,
    n_nan=0,
    brightest=200.0,
    counts_sum=2e6,
    background_sum=2e6,
    digest="d",
    pixel_scale_deg=0.1,
    wraps=False,
    warnings=(),
)
FINE = CWTKernels(3, 1.2, 1.5)
MEMORY_TARGET = Settings().memory_target


@pytest.mark.parametrize("shape", [(1, 1), (101, 2001), (1500, 3000), (4096, 4096), (18000, 36000), (300, 36000)])
@pytest.mark.parametrize("kernels", [FINE, CWTKernels(2, 6.0, 1.3), CWTKernels(4, 6.0, 1.5)])
def test_automatic_tiles_fit_the_memory_target_and_give_eight_workers_something_to_do(shape, kernels):
    margin = contract_margin(kernels, 10, 100.0)
    grid = automatic_grid(shape, margin, kernels, 10, memory_target=MEMORY_TARGET)
    assert tile_memory(grid, kernels.n_scale) <= MEMORY_TARGET
    if math.prod(shape) > 2 * SINGLE_TILE_PIXELS:
        assert grid.n_tiles >= 6
    if grid.n_tiles > 1:
        assert grid.margin >= margin
        if kernels.reach <= 41:
            # Work is not multiplied by overlap without need.
            assert grid.n_tiles * math.prod(grid.box_shape) <= 4 * math.prod(shape)


@pytest.mark.parametrize("target", [MEMORY_TARGET, MEMORY_TARGET // 16])
def test_wide_kernels_get_more_memory_where_nothing_fits_or_that_saves_half_of_the_work(target):
    kernels = CWTKernels(2, 60.0, 1.3)
    grid = automatic_grid((4096, 4096), 997, kernels, 10, memory_target=target)
    assert MEMORY_TARGET < tile_memory(grid, 2) <= 4 * MEMORY_TARGET
    assert grid.n_tiles < 81


def test_what_auto_resolves_to_is_the_setting_it_resolves_to():
    automatic = make_plan(Settings(n_scale=1, min_scale=1.2), FACTS)
    margin = contract_margin(automatic.kernels, 10, FACTS.brightest)
    explicit = make_plan(
        Settings(n_scale=1, min_scale="0.12deg", tile_size=automatic.grid.core_shape[0], margin=margin), FACTS
    )
    assert explicit.grid == automatic.grid
    assert explicit.settings_digest == automatic.settings_digest
    circle = replace(FACTS, wraps=True)
    assert make_plan(Settings(wrap="yes"), circle).settings_digest == make_plan(Settings(), circle).settings_digest


def test_every_setting_that_decides_the_result_is_in_the_digest():
    settings = Settings(n_scale=2, min_scale=1.2, step_scale=1.5)
    changes = {"n_scale": 3, "min_scale": 1.3, "step_scale": 1.4, "old_kernels": True, "max_iter": 9, "tol": 1e-4}
    changes |= {"significance_threshold": 4.0, "significance_island_threshold": 5.0, "keep_isolated": True}
    changes |= {"stopping": "fixed", "tile_size": 500, "margin": 200, "wrap": "yes"}
    changed = [replace(settings, **{name: value}) for name, value in changes.items()]
    assert len({make_plan(one, FACTS).settings_digest for one in [settings, *changed]}) == 1 + len(changes)


def test_the_brightest_pixel_decides_through_the_rounding_level():
    bright = make_plan(Settings(margin=123), replace(FACTS, brightest=1e6))
    assert bright.rounding > make_plan(Settings(margin=123), FACTS).rounding
    assert bright.settings_digest != make_plan(Settings(margin=123), FACTS).settings_digest


# Differences of Gaussians this fine sit so far off their own centre that the model grows.
UNBOUNDED = {"min_scale": 0.6, "step_scale": 1.5, "old_kernels": True, "max_iter": 80, "tile_size": 300}


@pytest.mark.parametrize(
    ("settings", "statistics", "expected"),
    [
        ({"margin": 130, "tile_size": 300}, {}, "130 pixels is below the contract's 151: its error may reach 1e-08 of"),
        ({"margin": 10, "tile_size": 300}, {}, "no bound exists"),
        (UNBOUNDED, {"brightest": 1e5}, "no margin bounds what tiles do with these kernels, 80 iterations and pixels"),
        (UNBOUNDED | {"max_iter": 10}, {}, "the model can grow 1.39-fold an iteration, also without tiles"),
        ({"tile_size": 20}, {}, "tiles of 20 x 20 pixels are computed in boxes of "),
        (
            {"min_scale": 40.0},
            {"shape": (150, 3000)},
            "the coarsest kernel is 191 pixels wide, and the map 150",
        ),
        ({"stopping": "tile", "tile_size": 300}, {}, "tiles stop at iterations of their own"),
        ({"significance_island_threshold": 3.0}, {}, "threshold 3 is not above significance_threshold: it has no"),
        ({"wrap": "no"}, {"wraps": True}, "wrap is no, but by its WCS the map closes the circle"),
        ({"wrap": "yes"}, {}, "wrap is yes, but by its WCS the map does not close the circle: it is assumed that"),
        ({"stopping": "tile", "significance_island_threshold": 5.0, "tile_size": 300}, {}, "islands that leave a"),
        ({}, {"warnings": ("counts are not whole numbers",)}, "counts are not whole numbers"),
    ],
)
def test_what_a_user_should_know_is_said(settings, statistics, expected):
    plan = make_plan(Settings(**settings), replace(FACTS, **statistics))
    assert any(expected in warning for warning in plan.warnings)


@pytest.mark.parametrize(
    ("settings", "promised", "expected"),
    [
        ({"tile_size": 300}, True, 1e-9),
        ({"tile_size": 300, "margin": 130}, False, 1e-6),
        ({"tile_size": 300, "margin": 10}, False, None),
        ({"tile_size": 3000}, True, 0.0),
        (UNBOUNDED, False, None),
        (UNBOUNDED | {"tile_size": 3000}, True, 0.0),
        ({"tile_size": 300, "stopping": "tile"}, False, 1e-9),
        ({"tile_size": 300, "stopping": "fixed"}, True, 1e-9),
    ],
)
def test_what_is_promised_and_expected(settings, promised, expected):
    plan = make_plan(Settings(**settings), replace(FACTS, brightest=1e5))
    assert plan.exact is promised
    if expected:
        assert expected / 1000 < plan.expected_error <= expected
    else:
        assert plan.expected_error == expected


def test_a_single_column_is_no_ring():
    assert not make_plan(Settings(wrap="yes"), replace(FACTS, shape=(50, 1))).grid.ring


@pytest.mark.parametrize(
    ("wrap", "wraps", "ring"),
    [("auto", True, True), ("auto", False, False), ("yes", False, True), ("yes", True, True), ("no", True, False)],
)
def test_a_map_that_closes_the_circle_is_a_ring_unless_told_otherwise(wrap, wraps, ring):
    plan = make_plan(Settings(wrap=wrap), replace(FACTS, wraps=wraps))
    assert plan.grid.ring is ring
    assert not plan.grid.y.ring
    assert bool(plan.warnings) == (wrap != "auto" and ring != wraps)


def test_a_ring_of_one_tile_has_a_margin_to_keep():
    statistics = replace(FACTS, shape=(101, 400), wraps=True)
    plan = make_plan(Settings(), statistics)
    assert plan.grid.n_tiles == 1
    assert plan.grid.margin >= plan.contract_margin
    assert plan.exact
    narrow = make_plan(Settings(margin=50), statistics)
    assert narrow.grid.n_tiles == 1
    assert not narrow.exact
    assert any("below the contract's" in warning for warning in narrow.warnings)


def iterations_memory(plan):
    return tile_memory(plan.grid, plan.kernels.n_scale)


def test_a_plan_that_does_not_fit_is_refused_with_the_remedy():
    plan = make_plan(Settings(tile_size=4000), replace(FACTS, shape=(3000, 4000)))
    with pytest.raises(SettingsError, match="the limit is 1.00 GiB: take a smaller tile_size, memory_target or margin"):
        plan.check_memory(2**30)
    plan.check_memory(plan.worker_memory)
    assert plan.worker_memory == max(iterations_memory(plan), plan.fit_memory)


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(tmp_path, monkeypatch, capsys):
    survey = write_survey(tmp_path / "survey.fits", *poisson_sky((80, 120), seed=1))
    free = SimpleNamespace(free=150_000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: free)
    with pytest.raises(InputError, match="has 146.48 kiB free, the maps alone take 168.75 kiB: make room there, or"):
        run_survey(survey, tmp_path / "run", workers=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["survey.fits"]
    free.free = 300_000
    run_survey(survey, tmp_path / "run", workers=0, max_iter=1, progress=Lines())
    assert "warning: the run may take" in capsys.readouterr().out


def test_the_memory_target_decides_the_tiles_and_through_them_the_digest():
    statistics = replace(FACTS, shape=(4096, 4096))
    small, default = (make_plan(Settings(memory_target=target), statistics) for target in (500 * 2**20, 2**30))
    assert iterations_memory(small) <= 500 * 2**20 < iterations_memory(default) <= 2**30
    assert small.settings_digest != default.settings_digest
    same = Settings(memory_target=2**31, tile_size=default.grid.core_shape[0])
    assert make_plan(same, statistics).settings_digest == default.settings_digest


@pytest.mark.parametrize(("level", "warned"), [(0.1, True), (0.5, False)])
def test_few_counts_a_kernel_are_warned_about(tmp_path, level, warned):
    survey = write_survey(tmp_path / "survey.fits", *poisson_sky((60, 70), seed=1, level=level))
    kernels = {"n_scale": 2, "min_scale": 1.2, "step_scale": 1.5}
    warnings = plan_survey(survey, **kernels).warnings
    # The mean of the slope is 1.25 of the level; the disc has 2 pi (1.2 x 1.5)^2 = 20.4 pixels.
    said = [text for text in warnings if "few counts: the finest kernel's disc is expected to hold 2.5 of" in text]
    assert len(said) == warned


def test_fine_skies_are_planned_without_cells_that_are_mostly_margin():
    kernels = CWTKernels(3, 1.5, 1.5)
    for nside in (64, 512, 8192):
        sphere = Sphere(nside, tuple(range(12 * 4**4)))
        grid = automatic_facets(sphere, 60, kernels, 10, memory_target=2**30)
        assert grid.order == 2 or nside >> grid.order >= 64
        assert tile_memory(grid, 3) < 2**31


def test_the_time_of_facets_is_that_of_all_pixels_of_their_images_margins_as_well(tmp_path, monkeypatch):
    pixels = Counter()

    def counted(read, name, area):
        def counting(*given, **options):
            pixels[name] += area(*given)
            return read(*given, **options)

        return counting

    monkeypatch.setattr(
        FacetSurvey, "read_window", counted(FacetSurvey.read_window, "read", lambda _, window, _box: window.area)
    )
    monkeypatch.setattr(Fit, "__init__", counted(Fit.__init__, "fitted", lambda _, counts, *_rest: counts.size))
    plan = small_run(tmp_path, nside=256, stopping="fixed", no_report=True).stored.plan
    # Once for its iterations, once for its fit.
    assert plan.grid.n_pixels < plan.grid.map_box.area
    assert pixels == {"read": 2 * plan.grid.n_pixels, "fitted": plan.grid.n_pixels}
    of_tiles = plan.grid.n_tiles * tile_seconds(plan.grid, 2, plan.settings.max_iter)
    assert plan.core_seconds == pytest.approx(of_tiles + PER_FACET_PIXEL * pixels["read"] / 2)
    assert plan.fit_seconds[0] == pytest.approx((PER_FITTED_PIXEL + PER_FITTED_FACET_PIXEL) * pixels["fitted"])
