"""Events are where `numpy.histogramdd` puts them by astropy's pixel positions: at edges, poles and wrap, exactly."""

from dataclasses import astuple
from types import SimpleNamespace

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from event_lists import all_over, write_lists
from hypothesis import given
from hypothesis import strategies as st

from cwt_dask.config.events import PROJECTIONS, EventOptions
from cwt_dask.errors import MachineError, SurveyError
from cwt_dask.events import Tally, ingest_events, product, tables
from cwt_dask.events import spool as spools
from cwt_dask.events.grid import Grid
from cwt_dask.survey import Survey

WHOLE_SKY = {"center": (0, 0), "size": (360, 180), "pixel": 1.0}


def by_numpy(x, y, shape, *, ring=False):
    """The map (y, x) by numpy, columns modulo the width on a ring."""
    if ring:
        x = np.where(x > shape[1] - 0.5, x - shape[1], np.where(x < -0.5, x + shape[1], x))
    edges = [np.arange(length + 1) - 0.5 for length in shape]
    on_map = np.isfinite(x) & np.isfinite(y)
    return np.histogramdd((y[on_map], x[on_map]), edges)[0].astype(int)


def by_us(grid, sky, wcs=None):
    counts = np.zeros(grid.shape, int)
    np.add.at(counts, grid.pixels(wcs or grid.new_wcs(), sky), 1)
    return counts


@given(
    st.sampled_from(PROJECTIONS),
    st.sampled_from(("gal", "icrs")),
    st.floats(-360, 360),
    st.floats(-80, 80),
    st.floats(0.3, 40),
    st.integers(0, 10),
)
def test_maps_are_those_of_numpy_in_every_projection(projection, frame, lon, lat, pixel, seed):
    options = EventOptions(center=(lon, lat), size=(100, 80), pixel=pixel, projection=projection, frame=frame)
    grid = Grid.of(options)
    sky = all_over(200, seed, "galactic" if seed % 2 else "icrs")
    x, y = WCS(grid.header).world_to_pixel(sky)
    np.testing.assert_array_equal(by_us(grid, sky), by_numpy(x, y, grid.shape))
    # The middle of the map is what was asked for.
    middle = grid.new_wcs().pixel_to_world((grid.shape[1] - 1) / 2, (grid.shape[0] - 1) / 2)
    asked = SkyCoord(lon, lat, unit="deg", frame="galactic" if frame == "gal" else "icrs")
    assert middle.separation(asked).deg < 1e-6


BESIDE = st.sampled_from((0.0, 0.5, np.nextafter(0.5, 0), np.nextafter(0.5, 1), -1e-300, 1e-17, 0.25))


@given(st.lists(st.tuples(st.integers(-3, 22), BESIDE, st.integers(-3, 12), BESIDE), min_size=1), st.booleans())
def test_edges_of_pixels_belong_where_numpy_has_them(positions, ring):
    x, dx, y, dy = np.array(positions, float).T
    x, y = np.append(x + dx, np.nan), np.append(y - dy, 0.0)
    if ring:
        x = np.clip(x, -1, 20)
    grid = Grid((10, 20), fits.Header(), ring=ring)
    found = by_us(grid, None, SimpleNamespace(world_to_pixel=lambda _: (x, y)))
    np.testing.assert_array_equal(found, by_numpy(x, y, grid.shape, ring=ring))


@pytest.mark.parametrize("center", [(0, 0), (180, 0), (-77.3, 0)])
def test_on_a_ring_no_event_is_lost_at_its_edge_or_poles(center):
    grid = Grid.of(EventOptions(**WHOLE_SKY | {"center": center}))
    edge = center[0] + 180 + np.array([-1e-12, 0, 1e-12, 360, -360])
    lon, lat = np.append(edge, np.linspace(-180, 180, 9)), np.append(np.zeros(5), [90, -90, 90, -90, 90, 0, -90, 89, 1])
    sky = SkyCoord(lon, lat, unit="deg", frame="galactic")
    assert grid.ring
    assert by_us(grid, sky).sum() == len(lon)
    x, y = grid.new_wcs().world_to_pixel(sky)
    np.testing.assert_array_equal(by_us(grid, sky), by_numpy(x, y, grid.shape, ring=True))


def test_a_size_that_is_no_whole_number_of_pixels_shows_no_sky_twice():
    assert Grid.of(EventOptions(center="0,0", size="360,180", pixel="1.7")).shape == (105, 211)
    assert Grid.of(EventOptions(center="0,0", size="360,180", pixel="6arcmin")).shape == (1800, 3600)
    assert Grid.of(EventOptions(center="0,0", size="10.04,9.96", pixel="0.1deg")).shape == (100, 100)


def test_lists_make_the_map_of_numpy_and_every_event_is_accounted_for(tmp_path, many):
    made = ingest_events(many.paths, tmp_path / "counts.fits", center=(30, 10), size=(90, 60), pixel=0.7, emin="30GeV")
    with fits.open(tmp_path / "counts.fits") as hdus:
        counts, header, lists = hdus["COUNTS"].data, hdus["COUNTS"].header, Table(hdus["EVENT_LISTS"].data)
    taken = many.ENERGY >= 30000
    x, y = WCS(header).world_to_pixel(SkyCoord(many.RA[taken], many.DEC[taken], unit="deg"))
    np.testing.assert_array_equal(counts, by_numpy(x, y, counts.shape))
    tally = made.tally
    assert tally == Tally(len(many.RA), counts.sum(), taken.sum() - counts.sum(), (~taken).sum(), 0)
    assert [header[key] for key in ("NROWS", "NBINNED", "NOUTSIDE", "NOTHEREN", "NNOPOS")] == list(astuple(tally))
    assert [lists[name].sum() for name in ("n_rows", "n_binned")] == [tally.n_rows, tally.n_binned]
    assert header["EMIN"] == pytest.approx(0.03)
    assert made.describe() == (
        f"86 x 129 pixels, {tally.n_binned} counts of {tally.n_rows} events in 3 lists, {tally.n_outside} outside of "
        f"the map, {tally.n_other_energy} of other energies"
    )


def test_order_threads_blocks_and_bands_do_not_matter(tmp_path, many, monkeypatch):
    maps = []
    ways = (
        (many.paths, {}),
        (many.paths[::-1], {}),
        (write_lists(tmp_path, many.sky, many.energies, n_lists=7, shuffle=1), {"_BAND_PIXELS": 1000, "_AT_ONCE": 5}),
        (write_lists(tmp_path, many.sky, many.energies, n_lists=1, shuffle=2), {"_BAND_PIXELS": 1, "_AT_ONCE": 1}),
    )
    for number, (paths, settings) in enumerate(ways):
        for name, value in settings.items():
            monkeypatch.setattr(spools, name, value)
        monkeypatch.setattr(tables, "_MOST_ROWS", 2**18 if number < 2 else 77)
        out = tmp_path / f"counts-{number}.fits"
        made = ingest_events(paths, out, **WHOLE_SKY)
        assert made.tally.n_binned == made.tally.n_rows == len(many.RA)
        maps.append(fits.getdata(out))
    for other in maps[1:]:
        np.testing.assert_array_equal(maps[0], other)


@pytest.mark.parametrize(("emin", "emax", "taken"), [("0.7TeV", None, 2), (None, "700GeV", 1), ("700GeV", "1TeV", 1)])
def test_the_lowest_energy_is_taken_and_the_highest_is_not(tmp_path, emin, emax, taken):
    energy = np.array([0.5, 0.7, 1.0, np.nan], np.float32) * u.TeV
    Table({"GLON": np.zeros(4), "GLAT": np.zeros(4), "ENERGY": energy}).write(tmp_path / "events.fits")
    limits = {name: value for name, value in (("emin", emin), ("emax", emax)) if value}
    made = ingest_events(tmp_path / "events.fits", tmp_path / "c.fits", center=(0, 0), size=(2, 2), pixel=1, **limits)
    assert made.tally == Tally(4, taken, 0, 4 - taken, 0)


def test_events_without_a_position_are_told(tmp_path):
    lon, lat = [0, np.nan, 0, np.inf, 1, 100], [0, 0, np.nan, 0, 91, 0]
    Table({"GLON": np.array(lon, float), "GLAT": np.array(lat, float)}).write(tmp_path / "events.fits")
    made = ingest_events(tmp_path / "events.fits", tmp_path / "c.fits", center=(0, 0), size=(2, 2), pixel=1)
    assert made.tally == Tally(6, 1, 1, 0, 4)


def test_what_lies_behind_a_projection_is_outside(tmp_path):
    Table({"GLON": [0.0, 179.0], "GLAT": [0.0, 0.0]}).write(tmp_path / "events.fits")
    shown = {"center": (0, 0), "size": (120, 120), "pixel": 1, "projection": "TAN"}
    made = ingest_events(tmp_path / "events.fits", tmp_path / "c.fits", **shown)
    assert made.tally == Tally(2, 1, 1, 0, 0)


def test_counts_with_a_background_are_a_survey(tmp_path, many, call, monkeypatch):
    monkeypatch.setattr(product, "_MOST_NAMED", 1)
    onto = ("--center=30,10", "--size=9,6", "--pixel=0.3")
    assert call("ingest", *many.paths, tmp_path / "counts.fits", *onto).status == 0
    with fits.open(tmp_path / "counts.fits") as hdus:
        counts, header = hdus[0].data, hdus[0].header
    fits.PrimaryHDU(np.full(counts.shape, 1e6), WCS(header).to_header()).writeto(tmp_path / "model.fits")
    background = f"--background={tmp_path / 'model.fits'}"
    said = call("ingest", *many.paths, tmp_path / "survey.zarr", *onto, background)
    assert said.status == 0, said.err
    assert f"{counts.sum()} counts of" in said.out
    assert "warning: " in said.out
    assert call("ingest", tmp_path / "counts.fits", tmp_path / "of-image.zarr", background).status == 0
    survey, of_image = (Survey.open(tmp_path / name) for name in ("survey.zarr", "of-image.zarr"))
    assert survey.statistics.digest == of_image.statistics.digest
    np.testing.assert_array_equal(survey.counts.compute(), counts)
    (origin,) = [each for each in survey.statistics.origins if each["plane"] == "counts"]
    assert origin["file"] == f"{counts.sum()} of 6200 events of HDU EVENTS of {many.paths[0]} and 2 lists more"
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_an_event_that_is_lost_on_the_way_is_noticed(tmp_path, many, monkeypatch):
    add = spools.Spool.add
    monkeypatch.setattr(spools.Spool, "add", lambda self, row, column: add(self, row[1:], column[1:]))
    with pytest.raises(MachineError, match=r"of \d+ events \d+ were to be on the map, and \d+ are"):
        ingest_events(many.paths, tmp_path / "counts.fits", **WHOLE_SKY)
    assert not (tmp_path / "counts.fits").exists()


def test_a_list_that_changes_while_it_is_read_is_refused(tmp_path, many, monkeypatch):
    original = tables.FitsTable.blocks

    def truncated(self, *arguments):
        # After its header was read.
        with self.file.path.open("r+b") as file:
            file.truncate(self.offset + 100)
        return original(self, *arguments)

    monkeypatch.setattr(tables.FitsTable, "blocks", truncated)
    with pytest.raises(SurveyError, match="is truncated or damaged .it ends before its last row"):
        ingest_events(many.paths, tmp_path / "counts.fits", **WHOLE_SKY)
