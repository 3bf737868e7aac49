"""Where facets have their borders makes no difference to which sources there are, nor to where they are."""

from dataclasses import replace

import numpy as np
import pytest
import spheres
from scipy.spatial import cKDTree

from cwt_dask.geometry.facets import pixel_of
from cwt_dask.geometry.healpix import centres_of, order_of, vectors_of
from cwt_dask.planning import making
from cwt_dask.planning.cost import automatic_facets
from cwt_dask.run import run_survey

NSIDE, COUNTS = 64, 200.0
OPTIONS = {
    "n_scale": 2,
    "min_scale": 1.5,
    "step_scale": 1.5,
    "psf": 1.5,
    "max_iter": 3,
    "workers": 0,
    "no_report": True,
    "fits": "no",
}
# Both poles, and the eight corners at which three cells meet.
PLACES = np.array(
    [(0, 0, 1), (0, 0, -1)]
    + [
        (np.cos(k * np.pi / 2) * np.sqrt(5) / 3, np.sin(k * np.pi / 2) * np.sqrt(5) / 3, z)
        for k in range(4)
        for z in (-2 / 3, 2 / 3)
    ]
)


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    pixels = np.unique(np.concatenate([spheres.cap(NSIDE, place, 5) for place in PLACES]))
    maps = zip(("COUNTS", "BACKGROUND"), spheres.sky(NSIDE, PLACES, COUNTS, seed=7), strict=True)
    hdus = [spheres.table(name, values, NSIDE, pixels=pixels) for name, values in maps]
    return spheres.write(tmp_path_factory.mktemp("turned") / "sky.fits", *hdus), pixels


def rows_of(survey, rotation, monkeypatch):
    """The catalogue with facets that are turned by some angles."""
    path, pixels = survey

    def turned(*args, **options):
        grid = replace(automatic_facets(*args, **options), rotation=rotation)
        return replace(grid, cells=tuple(np.unique(grid.cells_at(centres_of(pixels, order_of(NSIDE)))).tolist()))

    monkeypatch.setattr(making, "automatic_facets", turned)
    rows = run_survey(path, path.parent / f"run-{rotation[0]:g}", **OPTIONS).catalogue
    return rows[rows["score"] > 6]


def unit(rows):
    return vectors_of(np.radians(rows["glon"]), np.radians(rows["glat"]))


def test_sources_on_corners_and_poles_come_once_and_again_in_a_turned_frame(survey, monkeypatch):
    plain, turned = (rows_of(survey, rotation, monkeypatch) for rotation in ((0.0, 0.0, 0.0), (20.0, 50.0, 100.0)))
    for rows in (plain, turned):
        apart, which = cKDTree(PLACES).query(unit(rows))
        assert sorted(which) == list(range(len(PLACES)))
        assert (apart < 0.5 * pixel_of(NSIDE)).all()
        assert np.abs(rows["npred"] / COUNTS - 1).max() < 0.3
    apart, which = cKDTree(unit(turned)).query(unit(plain))
    # The same counts, in other pixels.
    assert (np.degrees(apart) < 0.5 * plain["pos_err"]).all()
    assert np.abs(plain["npred"] / turned["npred"][which] - 1).max() < 0.05
