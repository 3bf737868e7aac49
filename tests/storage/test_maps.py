import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from cwt_dask.cwt.state import State
from cwt_dask.geometry.tiling import TileGrid
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.maps import (
    STRIPS,
    create_maps,
    describe_maps,
    digest_pixels,
    publish_core,
    publish_history,
    publish_strips,
    published_digests,
)
from cwt_dask.storage.schema import HISTORY, map_names, maps_from

SCALES = (1.2, 1.8)
N_SCALE = len(SCALES)
TILE_MAPS = maps_from("tile")
NAMES = [spec.name for spec in TILE_MAPS]


def grid_of(shape=(23, 31), core=(9, 12)):
    return TileGrid.plan(shape, core, 4, 3, lambda length: length)


def core_arrays(core, rng):
    shapes = {"": core.shape, "scale": (N_SCALE, *core.shape)}
    return {spec.name: rng.integers(1, 100, shapes[spec.axis]).astype(spec.dtype) for spec in TILE_MAPS}


def files(folder):
    return {path.relative_to(folder): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def run_dir(tmp_path):
    run_dir = RunDir(tmp_path)
    create_maps(run_dir, grid_of(), SCALES, "CTYPE1  = 'GLON-CAR'")
    return run_dir


def test_what_is_written_does_not_depend_on_the_configuration_of_zarr(tmp_path):
    planned = RunDir(tmp_path), grid_of(), SCALES, ""
    expected = describe_maps(*planned)
    array = {"order": "F", "write_empty_chunks": False, "target_shard_size_bytes": 100}
    with zarr.config.set({"default_zarr_format": 2, "array": array}):
        assert describe_maps(*planned) == expected
        create_maps(*planned)
    assert {path.relative_to(tmp_path) for path in expected} == files(tmp_path).keys()


def test_maps_have_the_axes_and_types_of_the_contract(run_dir):
    group = zarr.open_group(run_dir.maps, mode="r")
    assert group.metadata.zarr_format == 3
    assert group.attrs["wcs_header"] == "CTYPE1  = 'GLON-CAR'"
    assert map_names(group) == sorted(NAMES)
    types = {name: array.dtype.str[1:] for name, array in group.arrays()}
    assert {types[name] for name in ("model", "approx", "residual", "significance")} == {"f8"}
    assert [types[name] for name in ("best_scale", "mask", "trust", "support")] == ["i2", "u1", "u1", "b1"]
    assert group["model"].metadata.dimension_names == ("y", "x")
    assert group["support"].metadata.dimension_names == ("scale", "y", "x")


def test_every_tile_writes_one_chunk_of_its_own_in_every_array(run_dir):
    grid, rng = grid_of(), np.random.default_rng(1)
    before = files(run_dir.maps)
    for tile in grid.tiles():
        publish_core(run_dir.maps, tile.core, core_arrays(tile.core, rng).items())
        after = files(run_dir.maps)
        assert sorted(path.parts[0] for path in after.keys() - before.keys()) == sorted(NAMES)
        assert before.items() <= after.items()
        before = after


@settings(max_examples=20)
@given(st.tuples(st.integers(1, 40), st.integers(1, 40)), st.tuples(st.integers(1, 50), st.integers(1, 50)))
def test_chunks_are_the_cores(shape, core):
    grid, run_dir = grid_of(shape, core), RunDir(Path("run"))
    described = describe_maps(run_dir, grid, SCALES, "")
    for name in NAMES:
        array = json.loads(described[run_dir.maps / name / "zarr.json"])
        chunk = array["chunk_grid"]["configuration"]["chunk_shape"][-2:]
        assert tuple(chunk) == grid.core_shape
        assert math.prod(math.ceil(a / b) for a, b in zip(array["shape"][-2:], chunk, strict=True)) == grid.n_tiles
        assert "sharding_indexed" not in str(array["codecs"])


def of_core(run_dir, tile):
    digests = published_digests(run_dir, grid_of(), tile.id)
    return {name: digest for name, digest in digests.items() if name not in STRIPS}


def test_digests_of_the_store_are_those_of_what_was_published_last(run_dir):
    grid, rng = grid_of(), np.random.default_rng(2)
    for tile in (grid.tile(0), grid.tile(8), grid.tile(0)):
        arrays = core_arrays(tile.core, rng)
        digests = publish_core(run_dir.maps, tile.core, arrays.items())
        assert digests == {name: digest_pixels(values, name) for name, values in arrays.items()}
        assert of_core(run_dir, tile) == digests
    # What cannot be read has none.
    (run_dir.maps / "model" / "c" / "0" / "0").write_bytes(b"abc")
    assert of_core(run_dir, tile) == {name: digest for name, digest in digests.items() if name != "model"}


def test_a_tile_of_zeros_is_written_too_and_takes_no_space(run_dir):
    tile = grid_of().tile(4)
    nothing = {name: np.zeros_like(values) for name, values in core_arrays(tile.core, np.random.default_rng(3)).items()}
    digests = publish_core(run_dir.maps, tile.core, nothing.items())
    chunks = [path for path in files(run_dir.maps) if path.name != "zarr.json" and path.parts[0] in NAMES]
    assert len(chunks) == len(NAMES)
    assert sum((run_dir.maps / path).stat().st_size for path in chunks) < 100 * len(NAMES)
    assert of_core(run_dir, tile) == digests
    # Lost, it is not taken for zeros.
    shutil.rmtree(run_dir.maps / "trust" / "c")
    assert of_core(run_dir, tile) == {name: digest for name, digest in digests.items() if name != "trust"}


def test_a_history_of_zeros_is_written_too(tmp_path):
    run_dir, core = RunDir(tmp_path), grid_of().tile(4).core
    create_maps(run_dir, grid_of(), SCALES, "", history=2)
    publish_history(run_dir.maps, core, 1, np.zeros(core.shape), 0, onwards=True)
    assert len([path for path in files(run_dir.maps) if path.parts[:2] == (HISTORY, "c")]) == 2


def test_the_strips_of_a_tile_are_digested_as_they_were_written(run_dir):
    grid, rng = grid_of(), np.random.default_rng(6)
    tile = grid.tile(4)
    joined = rng.integers(0, 3, (N_SCALE, *grid.box_shape), dtype=np.uint16)
    state = replace(State.start(N_SCALE, grid.box_shape), model=rng.random(grid.box_shape), joined=joined)
    digests = publish_strips(run_dir.seams, grid, tile, state)
    stored = published_digests(run_dir, grid, tile.id)
    assert {name: stored[name] for name in STRIPS} == digests
    shutil.rmtree(run_dir.seams / "beyond_model" / "c" / "4")
    assert published_digests(run_dir, grid_of(), tile.id)["beyond_model"] != digests["beyond_model"]


@pytest.mark.parametrize("name", ["model", "residual"])
@pytest.mark.parametrize("dtype", ["f8", "i2", "u2"])
def test_digests_are_of_values_not_of_bytes(dtype, name):
    values = np.arange(12).reshape(3, 4)
    native = digest_pixels(values.astype(f"<{dtype}"), name)
    assert digest_pixels(values.astype(f">{dtype}"), name) == native
    assert digest_pixels(np.asfortranarray(values.astype(dtype)), name) == native
    assert digest_pixels(np.repeat(values, 2, axis=1).astype(dtype)[:, ::2], name) == native
    assert digest_pixels(values.astype(dtype) + 1, name) != native
