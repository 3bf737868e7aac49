import numpy as np
import pytest
from skies import poisson_sky, write_survey

from cwt_dask.geometry.tiling import TileGrid
from cwt_dask.survey import Survey, SurveySource, ingest
from cwt_dask.tiles.quality import trust_flags
from cwt_dask.trust import Trust

REACH = 6


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A survey store with a few holes, one of them on the edge, and its mask."""
    folder = tmp_path_factory.mktemp("trust")
    counts, background = poisson_sky((30, 41), seed=3)
    mask = np.ones(counts.shape, dtype=bool)
    mask[15, 20] = mask[4, 40] = mask[25, 1] = False
    path = write_survey(folder / "survey.fits", counts, background, mask, ring=True)
    return ingest(SurveySource.of(path), folder / "survey.zarr").path, mask


def expected_flags(mask, undefined, y, x, *, ring):
    """Flags of one pixel, by looking at every pixel within reach."""
    if not mask[y, x]:
        return Trust(0)
    flags = Trust.ERROR_UNDEFINED if undefined[y, x] else Trust(0)
    for j in range(y - REACH, y + REACH + 1):
        for i in range(x - REACH, x + REACH + 1):
            if not 0 <= j < mask.shape[0] or not (ring or 0 <= i < mask.shape[1]):
                flags |= Trust.MAP_EDGE
            elif not mask[j, i % mask.shape[1]]:
                flags |= Trust.MASKED_NEIGHBOUR
    return flags


@pytest.mark.parametrize("ring", [False, True])
@pytest.mark.parametrize("core", [(9, 12), (30, 3), (30, 41)])
@pytest.mark.parametrize("margin", [0, 8])
def test_flags_are_those_of_a_plain_loop_over_pixels(stored, ring, core, margin):
    path, mask = stored
    undefined = np.random.default_rng(1).random(mask.shape) < 0.1
    grid = TileGrid.plan(mask.shape, core, margin, REACH, lambda length: length, ring=ring)
    survey = Survey.open(path, ring=ring)
    trust = np.full(mask.shape, 255, dtype=np.uint8)
    for tile in grid.tiles():
        trust[tile.core.slices] = trust_flags(grid, REACH, tile, survey, undefined[tile.core.slices])
    expected = [expected_flags(mask, undefined, y, x, ring=ring) for y, x in np.ndindex(mask.shape)]
    np.testing.assert_array_equal(trust.ravel(), expected)
    # On a ring the ends of rows are no borders.
    assert bool(trust[15, 0] & Trust.MAP_EDGE) is not ring


def test_a_ring_narrower_than_the_reach_is_seen_all_around(tmp_path):
    counts, background = poisson_sky((30, 5), seed=3)
    mask = np.ones(counts.shape, dtype=bool)
    mask[15, 2] = False
    path = write_survey(tmp_path / "survey.fits", counts, background, mask, ring=True)
    ingest(SurveySource.of(path), tmp_path / "survey.zarr")
    grid = TileGrid.plan(mask.shape, (30, 2), 0, REACH, lambda length: length, ring=True)
    survey = Survey.open(tmp_path / "survey.zarr", ring=True)
    nothing = np.zeros(mask.shape, dtype=bool)
    for tile in grid.tiles():
        trust = trust_flags(grid, REACH, tile, survey, nothing[tile.core.slices])
        for y, x in np.ndindex(trust.shape):
            assert trust[y, x] == expected_flags(mask, nothing, y, x + tile.core.x0, ring=True)
