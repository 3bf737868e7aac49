import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from cwt_dask.config.settings import Settings, kernels_of
from cwt_dask.cwt.spectra import fast_length
from cwt_dask.errors import InputError, SettingsError
from cwt_dask.geometry.facets import FacetGrid
from cwt_dask.geometry.tiling import TileGrid
from cwt_dask.planning.plan import Plan
from cwt_dask.planning.runfile import (
    DamagedRunFileError,
    note_versions,
    read_run,
    refuse_differences,
    remember_survey,
    write_run,
)
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.sealed import SEAL, sealed, unsealed


def plan_of(chosen, core=(40, 50), margin=44, warnings=(), ring=False):
    grid = TileGrid.plan((90, 130), core, margin, kernels_of(chosen).reach, fast_length, ring=ring)
    return Plan(chosen, grid, 100.0, 44, "ab" * 32, "cd" * 32, tuple(warnings))


PLAN = plan_of(Settings(n_scale=2, min_scale=1.2, step_scale=1.5))

plans = st.builds(
    plan_of,
    chosen=st.builds(
        Settings,
        n_scale=st.integers(1, 2),
        min_scale=st.floats(1.2, 3),
        step_scale=st.floats(1.5, 2),
        old_kernels=st.booleans(),
        tol=st.floats(0, 1),
        significance_threshold=st.floats(-10, 1e6),
        significance_island_threshold=st.none() | st.floats(0, 1e6),
        stopping=st.sampled_from(["global", "tile", "fixed"]),
        tile_size=st.just("auto") | st.integers(1, 100),
        margin=st.just("auto") | st.integers(0, 100),
    ),
    core=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    margin=st.integers(0, 100),
    warnings=st.lists(st.text(max_size=20), max_size=3),
    ring=st.booleans(),
)


@settings(max_examples=15)
@given(plans)
def test_a_plan_survives_the_file_to_the_last_bit(tmp_path_factory, plan):
    run_dir = RunDir(tmp_path_factory.mktemp("run"))
    write_run(run_dir, "r", plan, None)
    stored = read_run(run_dir)
    assert stored.plan == plan
    assert stored.plan.settings_digest == plan.settings_digest
    assert stored.places == (run_dir.survey,)
    refuse_differences(run_dir, stored.plan, plan)


def test_facets_from_before_images_had_sizes_of_their_own_are_read(tmp_path):
    run_dir = RunDir(tmp_path)
    facets = FacetGrid(64, 1, tuple(range(8)), side=80, margin=20, fft=96)
    plan = replace(PLAN, grid=facets)
    write_run(run_dir, "r", plan, None)
    content = tomllib.loads(run_dir.settings.read_text())
    del content["plan"]["facets"]["smaller"]
    run_dir.settings.write_text(tomli_w.dumps({SEAL: sealed(unsealed(content))[SEAL]} | unsealed(content)))
    assert read_run(run_dir).plan == plan
    # The digest in records is of a grid that did not have it.
    assert "smaller" not in plan.decisive["grid"]
    assert "smaller" in replace(plan, grid=replace(facets, smaller=((60, 72),))).decisive["grid"]


def test_what_is_damaged_is_not_sealed_again(tmp_path):
    files = RunDir(tmp_path)
    files.ledger.mkdir()
    write_run(files, "r", PLAN, None)
    stored, sound = read_run(files), files.settings.read_text()
    files.settings.write_text(damaged := sound.replace("contract_margin = 44", "contract_margin = 11"))
    for write in (
        lambda: remember_survey(files, stored, tmp_path / "survey.zarr"),
        lambda: note_versions(files, [{"numpy": "1.0.0"}]),
    ):
        with pytest.raises(DamagedRunFileError, match="it is not as it was written"):
            write()
        assert files.settings.read_text() == damaged
    files.settings.write_text(sound)
    for _ in range(2):
        note_versions(files, [{"numpy": "1.0.0"}])
        assert read_run(files) == replace(stored, earlier_versions=({"numpy": "1.0.0"},))


def test_the_file_says_what_was_asked_and_with_what(tmp_path):
    write_run(RunDir(tmp_path), "r", PLAN, None)
    content = tomllib.loads((tmp_path / "run.toml").read_text())
    assert content["settings"]["min_scale"] == 1.2
    assert content["survey"] == {"digest": "ab" * 32, "facts": "cd" * 32, "shape": [90, 130]}
    assert content["plan"]["settings_digest"] == PLAN.settings_digest
    assert content["versions"].keys() >= {"python", "numpy", "cwt_dask"}
    assert content["created"].endswith("+00:00")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[settings]", "[setting]"),
        # No text.
        ("[settings]", "\xff\xfe"),
        ("contract_margin = 44", ""),
        ("n_scale = 2", "n_scales = 2"),
        ("n_scale = 2", 'n_scale = "2"'),
        ("n_scale = 2", "n_scale = 0"),
        ("length = 90", ""),
        ("digest = ", "digests = "),
        ("contract_margin = 44", "contract_margin = 11"),
        ('run_id = "r"', 'run_id = "s"'),
        ("warnings = [", 'warnings = ["new",'),
        ("seal = ", "sea1 = "),
    ],
)
def test_a_damaged_file_is_refused_with_the_remedy(tmp_path, old, new):
    run_dir = RunDir(tmp_path)
    write_run(run_dir, "r", PLAN, None)
    text = run_dir.settings.read_text()
    assert old in text
    run_dir.settings.write_text(text.replace(old, new, 1), encoding="latin-1")
    with pytest.raises(InputError, match=r"run\.toml is damaged \(.*\): undo that, or give the run's own command"):
        read_run(run_dir)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (plan_of(replace(PLAN.settings, tol=1e-3)), "that differs: tol was 1e-05, is 0.001. Choose"),
        (plan_of(replace(PLAN.settings, n_scale=1, max_iter=9)), "n_scale was 2, is 1; max_iter was 10, is 9. Choose"),
        (plan_of(PLAN.settings, core=(40, 51)), "differs: this version lays out its tiles in another way"),
        (plan_of(replace(PLAN.settings, tile_size=51), core=(40, 51)), "differs: tile_size was auto, is 51. Choose"),
        (plan_of(replace(PLAN.settings, wrap="yes"), ring=True), "differs: wrap was auto, is yes. Choose"),
        (replace(PLAN, survey_digest="cd", brightest=1e4), "differs: its survey is another one, or .* since. Choose"),
        (replace(PLAN, brightest=1e4), "rounding was 1e-11, is 1e-09"),
    ],
)
def test_what_differs_is_named(wanted, said):
    with pytest.raises(SettingsError, match=said):
        refuse_differences(RunDir(Path("run")), PLAN, wanted)


def test_what_does_not_decide_the_result_may_differ():
    wanted = replace(PLAN, warnings=("new",), settings=replace(PLAN.settings, tile_size=40, wrap="no"))
    refuse_differences(RunDir(Path("run")), PLAN, wanted)
