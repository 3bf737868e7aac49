"""What a tile puts aside is as it was when it is taken up again, also within one run."""

import numpy as np
import pytest

from cwt_dask.cwt.spectra import fast_length
from cwt_dask.errors import DamageError
from cwt_dask.geometry.tiling import TileGrid
from cwt_dask.tiles.checkpoint import TileState, read_checkpoint, write_checkpoint


@pytest.fixture
def put_aside(tmp_path):
    """A tile's state in two files."""
    tile = TileGrid.plan((20, 30), (20, 30), 0, 1, fast_length).tile(0)
    begun = TileState.start(2, tile)
    begun.state.joined[0, 3:6, 4:9] = 1
    begun.state.approx[:] = np.arange(begun.state.approx.size).reshape(begun.state.approx.shape)
    path = tmp_path / "tile.npz"
    write_checkpoint(path, "r", begun, {})
    np.testing.assert_array_equal(read_checkpoint(path, "r", tile).state.approx, begun.state.approx)
    return path, tile


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
@pytest.mark.parametrize("where", [0.1, 0.45, 0.5, 0.99])
def test_a_flipped_bit_is_found_and_the_file_named(put_aside, suffix, where):
    path, tile = put_aside
    damaged = path.with_suffix(suffix)
    content = bytearray(damaged.read_bytes())
    content[int(where * len(content))] ^= 4
    damaged.write_bytes(content)
    with pytest.raises(DamageError, match=rf"^{damaged} is damaged: the run's own command does the tile again"):
        read_checkpoint(path, "r", tile)
