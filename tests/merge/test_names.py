import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from cwt_dask.merge.names import source_names


@pytest.mark.parametrize(
    ("position", "name"),
    [
        ("12h34m59.9s +05d59m59.9s", "CWT J1234.9+0559"),
        ("00h00m00s +00d00m00s", "CWT J0000.0+0000"),
        ("23h59m59.99s -89d59m59s", "CWT J2359.9-8959"),
        ("05h34m31.9s -00d30m30s", "CWT J0534.5-0030"),
        ("05h34m31.9s -00d00m01s", "CWT J0534.5-0000"),
        ("10h00m05.9s +90d00m00s", "CWT J1000.0+9000"),
        ("10h00m06.1s -09d09m09s", "CWT J1000.1-0909"),
    ],
)
def test_names_are_truncated_not_rounded_and_keep_their_sign(position, name):
    sky = SkyCoord(position)
    assert source_names([sky.ra.deg], [sky.dec.deg], 0.1) == [name]


def test_names_of_positions_on_the_border_of_a_digit_are_exact():
    # Where grids of pixels put them; in floats about one in thirty comes out a digit too low.
    tenths, minutes = np.arange(0, 14400, 7), np.arange(-5399, 5400, 5)
    names = source_names(tenths / 40, np.zeros(tenths.size), 0.1, "X")
    assert names == [f"X J{n // 600:02d}{n // 10 % 60:02d}.{n % 10}+0000" for n in tenths]
    names = source_names(np.arange(minutes.size) / 40, minutes / 60, 0.1, "X")
    assert [name[-5:] for name in names] == [
        f"{(n < 0 and '-') or '+'}{abs(n) // 60:02d}{abs(n) % 60:02d}" for n in minutes
    ]
    assert source_names([359.99999999], [0.0], 0.1) == ["CWT J0000.0+0000"]


def test_names_are_given_to_the_second_where_pixels_are_finer_than_a_minute():
    sky = SkyCoord(["05h34m31.96s -00d30m59.9s", "23h59m59.99s +89d00m01s"])
    names = source_names(sky.ra.deg, sky.dec.deg, 0.01)
    assert names == ["CWT J053431.9-003059", "CWT J235959.9+890001"]


def test_equal_names_are_told_apart_by_letters():
    names = source_names([10.0] * 28 + [40.0], [20.0] * 28 + [5.0], 0.1, prefix="X")
    assert names[:3] == ["X J0040.0+2000a", "X J0040.0+2000b", "X J0040.0+2000c"]
    assert names[25:28] == ["X J0040.0+2000z", "X J0040.0+2000aa", "X J0040.0+2000ab"]
    assert names[28] == "X J0240.0+0500"
