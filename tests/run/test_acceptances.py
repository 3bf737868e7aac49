"""Two thousand random acceptances, and two thousand laid at the rounding floor: tiles against the whole map."""

import pytest
from floors import assert_tiles_equal_whole, random_sky, sky_at_the_floor

SEEDS = range(10_000, 12_000)


@pytest.mark.parametrize("make", [random_sky, sky_at_the_floor])
@pytest.mark.parametrize("part", range(4))
def test_tiles_equal_the_whole_map(make, part):
    # Pixels that are near a threshold anyway: few skies have one.
    assert assert_tiles_equal_whole(make, SEEDS[part::4]) < len(SEEDS) / 20
