"""A survey of 25 tiles, and new versions of it."""

from skies import poisson_sky, write_survey

HERE = {"workers": 0, "fits": "no"}
# Margins of 48 pixels and more around cores of 100: a pixel near the middle of a core is in one window only.
SETTINGS = {"n_scale": 1, "min_scale": 1.2, "step_scale": 1.5, "tile_size": 100, "max_iter": 2}
N_TILES = 25


def first_version():
    """Its counts and background."""
    return tuple(plane[:500, :500] for plane in poisson_sky((800, 800), seed=7, n_sources=150))


def version(sky, path, *pixels):
    """The survey with two counts more in some pixels."""
    counts = sky[0].copy()
    for pixel in pixels:
        counts[pixel] += 2
    return write_survey(path, counts, sky[1])
