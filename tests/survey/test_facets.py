"""Surveys of the sphere read facet by facet: what is made of their images is what the sphere itself has."""

import numpy as np
import pytest
import spheres

from cwt_dask import CWT, CWTData, CWTKernels
from cwt_dask.cwt.spectra import fast_length
from cwt_dask.geometry.facets import FacetGrid
from cwt_dask.geometry.healpix import centres_of, numbers_at
from cwt_dask.survey import SurveySource, ingest
from cwt_dask.survey.facets import FacetSurvey

STEP = 1.3
# Cells of order 2: at both poles, beside corners of three, on the equator.
CELLS = 15, 0, 5, 70, 100, 140, 176


@pytest.fixture(scope="module")
def facets(tmp_path_factory):
    """A survey of a nside and its facets' T and E, by those of the sphere, at pixels of their cells."""

    def made(nside, scale):
        folder, rng = tmp_path_factory.mktemp("facets"), np.random.default_rng(nside)
        places = rng.normal(size=(40, 3))
        # As many counts in a steradian, whatever the pixels.
        per_pixel = (32 / nside) ** 2
        places /= np.linalg.norm(places, axis=1, keepdims=True)
        sky = spheres.sky(nside, places, 50.0, level=8.0 * per_pixel, sigma=nside / 32)
        path = spheres.write(folder / "sky.fits", *map(spheres.table, ("COUNTS", "BACKGROUND"), sky, (nside, nside)))
        store = folder / "sky.zarr"
        ingest(SurveySource.of(path), store)
        kernels = CWTKernels(1, scale, STEP)
        grid = FacetGrid.plan(nside, 2, range(192), 3 * kernels.reach, kernels.reach, fast_length)
        survey = FacetSurvey.of(store, grid)
        return sky, survey, kernels

    return made


def compared(sky, survey, kernels):
    """T and E of facets and of the sphere, (2, pixel) each."""
    ours, places = [], []
    for cell in CELLS:
        data = CWTData(*(survey.read(name, survey.grid.tile(cell).core) for name in ("counts", "background")), 1)
        CWT(kernels, max_iter=1).analyze(data)
        inside = survey.grid.core_of(cell)
        ours.append([data.transform_3d.data[0][inside], data.error.data[0][inside]])
        rows, columns = np.nonzero(inside)
        places.append(survey.grid.frame(cell).vectors(columns.astype(float), rows.astype(float)))
    expected = spheres.whole_sphere(*sky, kernels.widths[0], np.vstack(places))
    return np.hstack(ours), np.array(expected)


def test_the_transform_of_facets_is_that_of_the_sphere_to_the_shift_of_pixels(facets):
    """Whole pixels move by up to half of one: that matters the less, the more of them a kernel has."""
    of_transform, of_error = [], []
    for nside in (32, 64):
        (transform, error), (of_sphere, error_of_sphere) = compared(*facets(nside, 2.0 * nside / 32))
        of_transform.append(np.std(transform - of_sphere) / np.std(of_sphere))
        of_error.append(np.std(error / error_of_sphere))
        assert np.mean(error / error_of_sphere) == pytest.approx(1, abs=0.003)
    assert of_transform[0] < 0.18
    assert of_transform[1] < 0.65 * of_transform[0]
    assert of_error[0] < 0.035
    assert of_error[1] < 0.5 * of_error[0]


@pytest.mark.parametrize("rotation", [(0.0, 0.0, 0.0), (10.0, 70.0, 200.0)])
def test_an_image_holds_the_pixels_with_their_centres_in_it(tmp_path, rotation):
    """Of a part of the sky, pixel by pixel with the library; the mask, where there is none, by its own centre."""
    nside, order, rng = 256, 8, np.random.default_rng(3)
    numbers = np.union1d(spheres.cap(nside, (0, 0, 1), 12), spheres.cap(nside, (np.sqrt(5) / 3, 0, 2 / 3), 20))
    counts, background = rng.poisson(3.0, 12 * nside**2) * 1.0, rng.random(12 * nside**2)
    maps = zip(("COUNTS", "BACKGROUND"), (counts, background), strict=True)
    hdus = [spheres.table(name, values, nside, pixels=numbers) for name, values in maps]
    ingest(SurveySource.of(spheres.write(tmp_path / "sky.fits", *hdus)), tmp_path / "sky.zarr")
    grid = FacetGrid.plan(nside, 2, range(192), 12, 12, fast_length, rotation=rotation)
    survey, centres, total = FacetSurvey.of(tmp_path / "sky.zarr", grid), centres_of(numbers, order), 0.0
    for facet in np.unique(grid.cells_at(centres)):
        image, frame, side = grid.tile(int(facet)).core, grid.frame(int(facet)), grid.side_of(int(facet))
        x, y = frame.pixels(centres)
        row, column = np.rint(y).astype(int), np.rint(x).astype(int)
        inside = (row >= 0) & (row < side) & (column >= 0) & (column < side)
        there = row[inside] * side + column[inside]

        def summed(values, there=there, side=side):
            return np.bincount(there, values, minlength=side**2).reshape((side, side))

        held = summed(np.ones(len(there)))
        at_y, at_x = np.indices((side, side), np.float64)
        at_centre = np.isin(numbers_at(frame.vectors(at_x, at_y).reshape(-1, 3), order), numbers)
        np.testing.assert_array_equal(survey.read("counts", image), summed(counts[numbers[inside]]))
        np.testing.assert_allclose(survey.read("background", image), summed(background[numbers[inside]]), rtol=1e-14)
        for _ in range(2):
            np.testing.assert_array_equal(survey.read("mask", image), (held > 0) | at_centre.reshape((side, side)))
        seen, (dy, dx) = survey.coverage(int(facet))
        np.testing.assert_array_equal(seen, held)
        np.testing.assert_allclose(dy * held, summed((y - row)[inside]), atol=1e-9)
        np.testing.assert_allclose(dx * held, summed((x - column)[inside]), atol=1e-9)
        total += survey.owned_counts(int(facet))
    assert total == counts[numbers].sum()
