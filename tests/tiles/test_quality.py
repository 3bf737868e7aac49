import numpy as np
import pytest
from skies import poisson_sky, write_survey

from cwt_dask.geometry.tiling import TileGrid
from cwt_dask.survey import Survey, SurveySource, ingest
from cwt_dask.tiles.quality import trust_flags
from cwt_dask.trust import Trust

REACH = 6


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


# The last ring is narrower than the reach.
@pytest.mark.parametrize(
    ("width", "core", "ring"),
    [(41, core, ring) for core in ((9, 12), (30, 3), (30, 41)) for ring in (False, True)] + [(5, (30, 2), True)],
)
@pytest.mark.parametrize("margin", [0, 8])
def test_flags_are_those_of_a_plain_loop_over_pixels(tmp_path, width, core, ring, margin):
    counts, background = poisson_sky((30, width), seed=3)
    mask = np.ones(counts.shape, dtype=bool)
    # A few holes, two of them near the edge.
    mask[15, width // 2] = mask[4, -1] = mask[25, 1] = False
    path = write_survey(tmp_path / "survey.fits", counts, background, mask, ring=True)
    survey = Survey.open(ingest(SurveySource.of(path), tmp_path / "survey.zarr").path, ring=ring)
    undefined = np.random.default_rng(1).random(mask.shape) < 0.1
    grid = TileGrid.plan(mask.shape, core, margin, REACH, lambda length: length, ring=ring)
    trust = np.full(mask.shape, 255, dtype=np.uint8)
    for tile in grid.tiles():
        trust[tile.core.slices] = trust_flags(grid, REACH, tile, survey, undefined[tile.core.slices])
    expected = [expected_flags(mask, undefined, y, x, ring=ring) for y, x in np.ndindex(mask.shape)]
    np.testing.assert_array_equal(trust.ravel(), expected)
