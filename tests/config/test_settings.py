import json
import math
import tomllib
from dataclasses import asdict

import numpy as np
import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from cwt_dask.config.execution import Execution
from cwt_dask.config.settings import Settings, digest, read_toml, refuse_unknown
from cwt_dask.errors import SettingsError

positive = st.floats(1e-3, 1e3)
valid_settings = st.builds(
    Settings,
    n_scale=st.integers(1, 9),
    min_scale=positive | st.just("0.6deg"),
    step_scale=st.floats(1.01, 5),
    old_kernels=st.booleans(),
    max_iter=st.integers(1, 100),
    tol=st.floats(0, 1),
    significance_threshold=positive,
    significance_island_threshold=st.none() | positive,
    keep_isolated=st.booleans(),
    stopping=st.sampled_from(["global", "tile", "fixed"]),
    tile_size=st.just("auto") | st.integers(1, 10**6),
    margin=st.just("auto") | st.integers(0, 10**4),
    wrap=st.sampled_from(["auto", "yes", "no"]),
)


@given(valid_settings)
def test_settings_round_trip_through_toml_and_json_with_their_digest(settings):
    plain = {name: value for name, value in asdict(settings).items() if value is not None}
    for copy in (tomllib.loads(tomli_w.dumps(plain)), json.loads(json.dumps(plain))):
        assert Settings(**copy) == settings
        assert digest(Settings(**copy)) == digest(settings)


def test_equal_numbers_of_other_types_are_one_setting():
    settings = Settings(n_scale=np.int64(3), tol=0, significance_threshold=np.float32(4), margin=np.int32(5))
    assert digest(settings) == digest(Settings(n_scale=3, tol=0.0, significance_threshold=4.0, margin=5))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("n_scale", 0, "n_scale is 0: it must be a whole number of at least 1"),
        ("n_scale", 2.5, "n_scale is 2.5: it must be a whole number"),
        ("n_scale", True, "n_scale is True"),
        ("min_scale", 0.0, "min_scale is 0.0: it must be above 0"),
        ("min_scale", math.inf, "min_scale is inf: it must be a finite number"),
        ("step_scale", 1.0, "step_scale is 1.0: it must be above 1"),
        ("max_iter", 0, "max_iter is 0: it must be a whole number of at least 1"),
        ("max_iter", 65536, "max_iter is 65536: it must be at most 65535"),
        ("memory_target", 0, "memory_target is 0: it must be a whole number of at least 1"),
        ("tol", math.nan, "tol is nan: it must be a finite number"),
        ("tol", -1e-5, "tol is -1e-05: it must be at least 0"),
        ("significance_threshold", "high", "significance_threshold is high: it must be a finite number"),
        ("significance_island_threshold", math.nan, "significance_island_threshold is nan"),
        ("old_kernels", 1, "old_kernels is 1: it must be true or false"),
        ("keep_isolated", "no", "keep_isolated is no: it must be true or false"),
        ("stopping", "never", "stopping is never: it must be one of global, tile, fixed"),
        ("wrap", "maybe", "wrap is maybe: it must be one of auto, yes, no"),
        ("tile_size", 0, "tile_size is 0: it must be a whole number of at least 1, or auto"),
        ("margin", -1, "margin is -1: it must be a whole number of at least 0, or auto"),
    ],
)
def test_impossible_settings_are_named(option, value, message):
    with pytest.raises(SettingsError, match=message):
        Settings(**{option: value})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": -1}, "workers is -1"),
        ({"threads": 0}, "threads is 0"),
        ({"memory_limit": 0}, "memory_limit is 0"),
        ({"fits": "perhaps"}, "fits is perhaps"),
        ({"overwrite": "yes"}, "overwrite is yes"),
        ({"quiet": 1}, "quiet is 1"),
        ({"scheduler": "a", "scheduler_file": "b"}, "scheduler and scheduler_file are both given"),
    ],
)
def test_impossible_execution_is_named(options, message):
    with pytest.raises(SettingsError, match=message):
        Execution(**options)


@pytest.mark.parametrize(
    ("text", "pixels"), [("0.6deg", 6.0), (" 1.2 deg ", 12.0), ("36arcmin", 6.0), ("0.6degree", 6.0)]
)
def test_an_angle_becomes_pixels(text, pixels):
    assert Settings(min_scale=text).in_pixels(0.1).min_scale == pytest.approx(pixels)


def test_pixels_stay_pixels():
    assert Settings(min_scale=6.0).in_pixels(0.1) == Settings(min_scale=6.0)


@pytest.mark.parametrize("text", ["0.6", "0.6pix", "deg", "-1deg", "nan deg"])
def test_what_is_no_angle_is_refused(text):
    with pytest.raises(SettingsError, match="it must be pixels .* or an angle"):
        Settings(min_scale=text).in_pixels(0.1)


def test_unknown_options_are_refused_with_the_nearest_known_one():
    with pytest.raises(SettingsError, match="unknown option max_iters: did you mean max_iter?"):
        refuse_unknown(["max_iter", "tol"], {"max_iters": 3})
    with pytest.raises(SettingsError, match="unknown option zzz: known are: max_iter, tol"):
        refuse_unknown(["max_iter", "tol"], {"zzz": 3})


def test_toml_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="cannot read .*absent.toml: No such file"):
        read_toml(tmp_path / "absent.toml")
    (tmp_path / "bad.toml").write_text("n_scale = ")
    with pytest.raises(SettingsError, match="bad.toml is not TOML"):
        read_toml(tmp_path / "bad.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="bytes.toml is not TOML"):
        read_toml(tmp_path / "bytes.toml")
