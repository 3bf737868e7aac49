"""Compressed tiles: each is unpacked once, whatever its size, and rows that wait for their strip are few or on disk."""

import errno
import math
from tempfile import SpooledTemporaryFile, gettempdir

import numpy as np
import pytest
from astropy.io import fits
from astropy.io.fits.hdu.compressed import _tiled_compression, section

from cwt_dask.errors import SurveyError
from cwt_dask.storage import disk
from cwt_dask.survey import SurveySource, ingest, misfits, scan, strips, unpacking

# Of the planes of conftest.py, and of a cube of them.
SHAPE, DEPTH = (40, 60), 3
# One tile; some of which strips of 8 rows cut most; small ones; rows, as programs make them; more than there is.
TILES = [(40, 60), (17, 60), (40, 7), (7, 13), (3, 20), (1, 60), (100, 100)]


class Unpacked:
    """What astropy unpacks: how many tiles, and the most pixels in one piece."""

    def __init__(self, monkeypatch):
        self.tiles, self.most = 0, 0
        decompress, read = _tiled_compression._decompress_tile, section.CompImageSection.__getitem__

        def decompressed(*arguments, **options):
            self.tiles += 1
            return decompress(*arguments, **options)

        def piece(of, index):
            pixels = read(of, index)
            self.most = max(self.most, pixels.size)
            return pixels

        monkeypatch.setattr(_tiled_compression, "_decompress_tile", decompressed)
        monkeypatch.setattr(section.CompImageSection, "__getitem__", piece)


@pytest.fixture
def unpacked(monkeypatch):
    return Unpacked(monkeypatch)


@pytest.fixture(autouse=True)
def narrow_strips(monkeypatch):
    """Strips of 8 rows, and small tiles unpacked together up to 500 pixels."""
    monkeypatch.setattr(strips, "MOST_ROWS", 8)
    monkeypatch.setattr(unpacking, "_TOGETHER", 500)


@pytest.fixture
def on_disk(monkeypatch):
    """Rows that wait are on disk; the directories of their files."""
    made = []

    class File(SpooledTemporaryFile):
        def __init__(self, most, **options):
            super().__init__(most, **options)
            self.where = options["dir"]

        def rollover(self):
            made.append(self.where)
            super().rollover()

    monkeypatch.setattr(disk, "SpooledTemporaryFile", File)
    monkeypatch.setattr(unpacking, "_IN_MEMORY", 100)
    return made


def n_tiles(shape, tile):
    return math.prod(-(-length // step) for length, step in zip(shape, tile, strict=True))


def digest(path, **options):
    return scan(SurveySource.of(path, **options)).digest


def compressed(write, planes, tile):
    # GZIP_2 would be unpacked twice by astropy.
    return write("tiles.fits.fz", tiles={"compression_type": "GZIP_1", "tile_shape": tile}, **planes)


@pytest.mark.parametrize("tile", TILES)
def test_each_tile_is_unpacked_once_and_few_pixels_at_a_time(write, planes, unpacked, tile):
    expected = digest(write(**planes))
    path = compressed(write, planes, tile)
    assert (digest(path), unpacked.tiles) == (expected, len(planes) * n_tiles(SHAPE, tile))
    whole = math.prod(min(length, step) for length, step in zip(SHAPE, tile, strict=True))
    assert unpacked.most <= max(whole, 500)


@pytest.mark.parametrize("tile", TILES)
def test_rows_that_wait_are_on_disk_where_they_are_many(write, planes, unpacked, on_disk, tmp_path, tile):
    expected = digest(write(**planes))
    path = compressed(write, planes, tile)
    survey = ingest(SurveySource.of(path), tmp_path / "out.zarr")
    assert (survey.statistics.digest, unpacked.tiles) == (expected, len(planes) * n_tiles(SHAPE, tile))
    # Where the store is to be; tiles of a row keep none waiting.
    assert on_disk == [str(tmp_path)] * (0 if tile[0] == 1 else len(planes))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["out.zarr", "survey.fits", "tiles.fits.fz"]


@pytest.mark.parametrize("tile", [(3, 40, 60), (2, 40, 7), (2, 9, 60), (1, 40, 60), (1, 1, 60)])
def test_tiles_of_several_planes_of_a_cube_are_unpacked_once(write, unpacked, on_disk, tile):
    rng = np.random.default_rng(8)
    cubes = {name: rng.integers(1, 9, (DEPTH, *SHAPE)).astype(np.int16) for name in ("counts", "background")}
    path = compressed(write, cubes, tile)
    together = write("sum.fits", **{name: cube.sum(axis=0) for name, cube in cubes.items()})
    assert (digest(path, band="sum"), unpacked.tiles) == (digest(together), 2 * n_tiles((DEPTH, *SHAPE), tile))
    unpacked.tiles = 0
    single = write("single.fits", **{name: cube[1] for name, cube in cubes.items()})
    assert (digest(path, band=1), unpacked.tiles) == (digest(single), 2 * n_tiles(SHAPE, tile[1:]))
    assert on_disk.count(gettempdir()) == len(on_disk)


def test_axes_before_the_last_two_are_counted_as_one(write, unpacked):
    rng = np.random.default_rng(8)
    cubes = {name: rng.integers(1, 9, (2, 3, *SHAPE)).astype(np.int16) for name in ("counts", "background")}
    path = compressed(write, cubes, (2, 2, 40, 60))
    together = write("sum.fits", **{name: cube.sum(axis=(0, 1)) for name, cube in cubes.items()})
    assert (digest(path, band="sum"), unpacked.tiles) == (digest(together), 4)
    single = write("single.fits", **{name: cube[1, 2] for name, cube in cubes.items()})
    assert digest(path, band=5) == digest(single)


@pytest.mark.usefixtures("on_disk")
def test_without_room_for_rows_that_wait_the_place_is_named(write, two, tmp_path, monkeypatch):
    path = compressed(write, two, SHAPE)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("cwt_dask.storage.disk.SpooledTemporaryFile.rollover", full)
    with pytest.raises(OSError, match=rf"No space left on device: '{tmp_path}'"):
        ingest(SurveySource.of(path), tmp_path / "out.zarr")
    with pytest.raises(OSError, match=rf"No space left on device: '{gettempdir()}'"):
        scan(SurveySource.of(path))
    assert not (tmp_path / "out.zarr").exists()


@pytest.mark.parametrize("n", [0, -3])
def test_tiles_without_pixels_are_damage(write, two, n):
    path = compressed(write, two, SHAPE)
    with fits.open(path, mode="update", disable_image_compression=True) as hdus:
        hdus[1].header["ZTILE2"] = n
    with pytest.raises(SurveyError, match=rf"COUNTS .* is damaged: its header says tiles of {n} x 60 pixels: get the"):
        scan(SurveySource.of(path))


def test_a_tile_that_is_too_large_is_refused_before_it_is_unpacked(write, two, unpacked, monkeypatch):
    path = compressed(write, two, SHAPE)
    monkeypatch.setattr(unpacking, "LARGEST_TILE", 2400)
    assert scan(SurveySource.of(path)).shape == SHAPE
    unpacked.tiles = 0
    monkeypatch.setattr(unpacking, "LARGEST_TILE", 2399)
    with pytest.raises(SurveyError, match=r"COUNTS .* in tiles of 40 x 60 pixels, .* may have up to 2399: unpack"):
        scan(SurveySource.of(path))
    assert unpacked.tiles == 0


def test_the_longest_maps(write, two, monkeypatch):
    path = write(**two)
    monkeypatch.setattr(misfits, "_LONGEST", 60)
    assert scan(SurveySource.of(path)).shape == SHAPE
    monkeypatch.setattr(misfits, "_LONGEST", 59)
    monkeypatch.setattr(misfits, "celestial_header", None)
    with pytest.raises(SurveyError, match=r"COUNTS .* is 40 x 60 pixels \(y, x\), and .* up to 59 rows and"):
        scan(SurveySource.of(path))
