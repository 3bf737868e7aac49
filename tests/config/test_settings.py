import json
import math
import tomllib
from dataclasses import asdict

import numpy as np
import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from cwt_dask.config.execution import Cluster, Execution
from cwt_dask.config.options import refuse_unknown
from cwt_dask.config.settings import Settings, digest
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


GIB = 2**30
AT_LEAST = "a whole number of at least"


# That each option is checked is shown in test_declaration.py: here are the bounds.
@pytest.mark.parametrize(
    ("kind", "name", "value", "wanted"),
    [
        (Settings, "n_scale", 0, f"{AT_LEAST} 1"),
        (Settings, "n_scale", 2.5, f"{AT_LEAST} 1"),
        (Settings, "n_scale", True, f"{AT_LEAST} 1"),
        (Settings, "min_scale", 0.0, "above 0"),
        (Settings, "min_scale", math.inf, "a finite number"),
        (Settings, "step_scale", 1.0, "above 1"),
        (Settings, "max_iter", 0, f"{AT_LEAST} 1"),
        (Settings, "max_iter", 65536, "at most 65535"),
        (Settings, "tol", -1e-5, "at least 0"),
        (Settings, "significance_island_threshold", math.nan, "a finite number"),
        (Settings, "false_sources", 0.0, "above 0"),
        (Settings, "false_sources", -1.0, "above 0"),
        (Settings, "false_sources", math.nan, "a finite number"),
        (Settings, "old_kernels", 1, "true or false"),
        (Settings, "stopping", "never", "one of global, tile, fixed"),
        (Settings, "tile_size", 0, f"{AT_LEAST} 1, or auto"),
        (Settings, "margin", -1, f"{AT_LEAST} 0, or auto"),
        (Settings, "memory_target", 0, f"{AT_LEAST} 1"),
        (Settings, "source_prefix", "a b", "up to 16 letters, digits, - or +, such as CWT"),
        (Execution, "workers", -1, f"{AT_LEAST} 0"),
        (Execution, "threads", 0, f"{AT_LEAST} 1"),
        (Execution, "memory_limit", True, "a size such as 4GiB"),
        (Execution, "memory_limit", "1e400", "a size such as 4GiB"),
        (Execution, "memory_limit", [4], "a size such as 4GiB"),
        (Execution, "stall_timeout", -1.5, "above 0"),
        (Execution, "stall_timeout", "5 weeks", "a time such as 10min, in s, min, h or d"),
        (Execution, "stall_timeout", True, "a finite number"),
        (Cluster, "minimum", -1, f"{AT_LEAST} 0"),
    ],
)
def test_impossible_values_are_named(kind, name, value, wanted):
    with pytest.raises(SettingsError) as refused:
        kind(**{name: value})
    assert str(refused.value) == f"{kind.prefix}{name} is {value}: it must be {wanted}"


@pytest.mark.parametrize(
    ("time", "seconds"), [(90, 90.0), ("90", 90.0), ("1.5 min", 90.0), ("2h", 7200.0), ("1d", 86400.0)]
)
def test_a_time_becomes_seconds(time, seconds):
    assert Execution(stall_timeout=time).stall_timeout == seconds


@pytest.mark.parametrize("name", ["n_workers", "threads_per_worker", "nthreads", "processes", "cores"])
def test_clusters_that_would_compute_nothing_are_refused(name):
    for value in (0, -1, 2.5, "many", True):
        with pytest.raises(
            SettingsError, match=rf"^cluster.options.{name} is {value}: it must be a whole number of at "
        ):
            Cluster("local", options={name: value})
    assert Cluster("local", options={name: None}).options == {name: None}
    assert Cluster("slurm", options={"n_workers": 0}).options


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ({}, 4 * GIB),
        ({"memory_limit": "1GiB"}, GIB),
        ({"memory_limit": GIB}, GIB),
        # No limit, a share of the machine's memory, and what Dask chooses.
        ({"memory_limit": 0}, 4 * GIB),
        ({"memory_limit": 0.5}, 4 * GIB),
        ({"memory_limit": "auto"}, 4 * GIB),
        ({"worker_options": {"memory_limit": "2GiB"}}, 2 * GIB),
        ({"memory": "6GiB", "processes": 3}, 2 * GIB),
        ({"memory": "3GiB"}, 3 * GIB),
    ],
)
def test_a_worker_may_take_what_the_options_of_its_cluster_say(options, limit):
    assert Execution(cluster=Cluster("slurm", options=options), workers=2).worker_limit == limit


@pytest.mark.parametrize(("scale", "pixels"), [(" 1.2 deg ", 12.0), ("36arcmin", 6.0), ("0.6degree", 6.0), (6.0, 6.0)])
def test_an_angle_becomes_pixels_and_pixels_stay(scale, pixels):
    assert Settings(min_scale=scale).in_pixels(0.1).min_scale == pytest.approx(pixels)


@pytest.mark.parametrize("text", ["0.6", "0.6pix", "deg", "-1deg", "nan deg"])
def test_what_is_no_angle_is_refused(text):
    with pytest.raises(SettingsError, match="it must be pixels .* or an angle"):
        Settings(min_scale=text).in_pixels(0.1)


def test_unknown_options_are_refused_with_the_nearest_known_one():
    with pytest.raises(SettingsError, match="^unknown option max_iters: did you mean max_iter?"):
        refuse_unknown({"tol": 1, "max_iters": 3})
    with pytest.raises(SettingsError, match="^unknown option zzz: known are: n_scale, min_scale, "):
        refuse_unknown({"zzz": 3})
