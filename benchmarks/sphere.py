"""Measure what the catalogue of a whole sky is worth, by whole runs, and write the tables into docs/sphere-figures.md.

python benchmarks/sphere.py                      # all parts
python benchmarks/sphere.py bands --skies 2 --seed 5001
python benchmarks/sphere.py --quick              # tiny skies: prints, leaves the page alone
"""

from __future__ import annotations

import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
from astropy.io import fits
from common import MIB, machine, markdown, parser, say
from injected import write_survey
from numpy.typing import NDArray
from performance import page
from scipy.spatial import cKDTree

from cwt_dask import run_survey
from cwt_dask.cwt.spectra import fast_length
from cwt_dask.geometry.facets import FacetGrid, pixel_of
from cwt_dask.geometry.healpix import centres_of, edges_of, lon_lat_of, numbers_at, order_of, vectors_of
from cwt_dask.measure.centroids import radius_68
from cwt_dask.measure.likelihood import Fit
from cwt_dask.measure.shapes import gaussian_shapes
from cwt_dask.planning import cost, making
from cwt_dask.results import SurveyRun
from cwt_dask.survey import SurveySource, ingest
from cwt_dask.survey.facets import FacetSurvey

if TYPE_CHECKING:
    from astropy.table import Table

PAGE = Path(__file__).parents[1] / "docs" / "sphere-figures.md"
Vectors = NDArray[np.float64]

# Of the point spread function, and between any two sources, in pixels: neighbours are the plane's matter.
PSF, APART = 1.5, 10.0
# Counts a pixel beyond the plane; how many times that in its middle, and degrees in which it falls by e. Beyond 20 deg
# it is the same everywhere to 1 %, so that bands can be compared.
LEVEL, PLANE, WIDTH = 0.3, 20.0, 3.0
# dN/dS ~ S^-2 between these counts.
FAINTEST, BRIGHTEST = 20.0, 5000.0
NSIDE, SOURCES, SKIES, SEED = 512, 8000, 6, 8101
BANDS = (0.0, 20.0), (20.0, 45.0), (45.0, 75.0), (75.0, 90.0)
# Pixels within which a row is a source's; signal over noise of those of which counts are compared.
AT_SOURCE, CERTAIN = 3.0, 8.0
FALSE_SOURCES = 100.0
# Scales for point sources: margins of more of them are most of a sky of so coarse pixels.
OPTIONS = {"psf": PSF, "n_scale": 3, "min_scale": PSF, "step_scale": 1.5, "max_iter": 5}
OPTIONS |= {"workers": 2, "threads": 1, "fits": "no", "no_report": True, "overwrite": True}
# Score of rows that are to be found again in turned frames.
SURE = 6.0
TURNS, TURNED_SOURCES, BORDERS_OF, AT_BORDERS = 3, 2000, 3, 100.0
# Of the part speed: a source in so many pixels.
FINE_NSIDE, PIXELS_A_SOURCE = 2048, 1000


@dataclass(frozen=True)
class Sky:
    """A simulated whole sky."""

    counts: NDArray[np.float64]  # By NESTED number.
    background: NDArray[np.float64]
    places: Vectors  # Unit vectors of the true sources, (source, 3).
    fluxes: NDArray[np.float64]  # Their expected counts.
    # Over the noise of the background within 4 pi sigma^2, and their own.
    certainty: NDArray[np.float64]


def background_at(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Counts a pixel that are expected without sources, by sine of latitude."""
    return np.asarray(LEVEL * (1 + PLANE * np.exp(-np.abs(np.degrees(np.arcsin(z))) / WIDTH)))


def spread_out(n: int, apart: float, rng: np.random.Generator, kept: Vectors) -> Vectors:
    """Unit vectors: those kept, and n more at random, none of which is nearer to another than so many radians."""
    given, n = len(kept), len(kept) + n
    while len(kept) < n:
        more = rng.normal(size=(2 * n, 3))
        both = np.vstack([kept, more / np.linalg.norm(more, axis=1, keepdims=True)])
        free = np.ones(len(both), bool)
        # The first of two that are too near is kept, unless it goes itself.
        for first, second in sorted(map(sorted, cKDTree(both).query_pairs(2 * np.sin(apart / 2)))):
            free[second] &= not free[first] or second < given
        kept = both[free][:n]
    return kept


def events_of(places: Vectors, numbers: NDArray[np.int64], sigma: float, rng: np.random.Generator) -> Vectors:
    """Unit vectors of so many events of each source, Gaussian on the sphere."""
    centre = np.repeat(places, numbers, axis=0)
    axis = np.where(np.abs(centre[:, 2:]) < 0.9, [[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]])
    east = np.cross(axis, centre)
    east /= np.linalg.norm(east, axis=1, keepdims=True)
    a, b = rng.normal(size=(2, len(centre), 1)) * sigma
    far = np.hypot(a, b)
    return np.asarray(np.cos(far) * centre + np.sinc(far / np.pi) * (a * east + b * np.cross(centre, east)))


def draw(nside: int, n: int, seed: int, *, at: Vectors | None = None, counts_at: float = 0.0) -> Sky:
    """Simulate a whole sky: each event of a source has a position of its own.

    Parameters
    ----------
    nside, n, seed : int
        Of the map; sources; seed.
    at : ndarray, optional
        Unit vectors of more sources, of `counts_at` counts each, that others are not near to.
    """
    rng, order = np.random.default_rng(seed), order_of(nside)
    background = background_at(centres_of(np.arange(12 * nside**2), order)[:, 2])
    more = np.empty((0, 3)) if at is None else at
    places = spread_out(n, APART * pixel_of(nside), rng, more)
    fluxes = np.append(np.full(len(more), counts_at), 1 / rng.uniform(1 / BRIGHTEST, 1 / FAINTEST, n))
    events = events_of(places, rng.poisson(fluxes), PSF * pixel_of(nside), rng)
    counts = rng.poisson(background).astype(np.float64)
    counts += np.bincount(numbers_at(events, order), minlength=len(counts))
    noise = np.sqrt(fluxes + 4 * np.pi * PSF**2 * background_at(places[:, 2]))
    return Sky(counts, background, places, fluxes, fluxes / noise)


def write(path: Path, sky: Sky, cells: int = 192) -> Path:
    """A file of HEALPix maps, NESTED, of the first cells of order 2."""
    nside, hdus = round(np.sqrt(len(sky.counts) / 12)), [fits.PrimaryHDU()]
    pixels = np.arange(cells * nside**2 // 16)
    for name, values in (("COUNTS", sky.counts), ("BACKGROUND", sky.background)):
        columns = [fits.Column("PIX", "K", array=pixels), fits.Column("CHANNEL1", "D", array=values[pixels])]
        hdus.append(fits.BinTableHDU.from_columns(columns, name=name))
        hdus[-1].header.update(PIXTYPE="HEALPIX", ORDERING="NESTED", NSIDE=nside, COORDSYS="GAL", INDXSCHM="EXPLICIT")
    fits.HDUList(hdus).writeto(path, overwrite=True)
    return path


@dataclass(frozen=True)
class Judged:
    """Sources and rows of skies, by latitude."""

    latitude: NDArray[np.float64]  # Of each true source, as the next three.
    found: NDArray[np.bool_]
    within: NDArray[np.bool_]  # Within `pos_err`.
    certain: NDArray[np.bool_]
    ratio: NDArray[np.float64]  # Counts over true ones, and their difference over its error; NaN of what is not found.
    pull: NDArray[np.float64]
    latitude_of_false: NDArray[np.float64]  # Of each row that is no source.
    twice: int  # Rows that are a source's which has another.


def judge(sky: Sky, rows: Table) -> Judged:
    """Compare a catalogue with the truth."""
    pixel = pixel_of(round(np.sqrt(len(sky.counts) / 12)))
    at = vectors_of(np.radians(rows["glon"]), np.radians(rows["glat"]))
    apart, row = cKDTree(at).query(sky.places)
    found = apart < AT_SOURCE * pixel
    to_source, _ = cKDTree(sky.places).query(at)
    false = to_source >= AT_SOURCE * pixel
    of = rows[row]
    npred = np.asarray(of["npred"])
    error = np.where(npred < sky.fluxes, of["npred_errp"], of["npred_errn"])
    latitude = np.abs(lon_lat_of(sky.places)[1])
    return Judged(
        latitude,
        found,
        found & (np.degrees(apart) <= np.asarray(of["pos_err"])),
        found & (sky.certainty > CERTAIN),
        np.where(found, npred / sky.fluxes, np.nan),
        np.where(found, (npred - sky.fluxes) / error, np.nan),
        np.abs(np.asarray(rows["glat"])[false]),
        int((~false).sum() - found.sum()),
    )


def about(values: NDArray[Any], digits: int) -> str:
    """A mean with its error; nothing of none."""
    if not len(values):
        return ""
    return f"{values.mean():.{digits}f} ± {values.std() / np.sqrt(len(values)):.{digits}f}"


def by_bands(judged: list[Judged]) -> str:
    """The table of some skies."""

    def every(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(each, name) for each in judged])

    lines, latitude, false = [], every("latitude"), every("latitude_of_false")
    found, within, certain, ratio, pull = (every(name) for name in ("found", "within", "certain", "ratio", "pull"))
    for low, high in BANDS:
        here = (low <= latitude) & (latitude < high)
        area = len(judged) * 4 * np.pi * (np.sin(np.radians(high)) - np.sin(np.radians(low)))
        n_false = int(((low <= false) & (false < high)).sum())
        sure = here & certain
        lines.append(
            [
                f"{low:g} to {high:g}",
                here.sum(),
                about(found[here], 3),
                f"{n_false / area:.2f} ± {np.sqrt(max(n_false, 1)) / area:.2f}",
                about(within[here & found], 3),
                sure.sum(),
                about(ratio[sure], 4),
                about(pull[sure], 2),
                f"{pull[sure].std():.2f} ± {pull[sure].std() / np.sqrt(2 * sure.sum()):.2f}" if sure.any() else "",
            ]
        )
    head = "latitude (deg)", "sources", "in the catalogue", "false rows / sr", "within `pos_err`"
    return markdown([*head, "certain", "flux over truth", "pull", "its width"], lines)


@dataclass(frozen=True)
class Given:
    """What parts are given."""

    scratch: Path
    quick: bool
    seed: int
    skies: int
    # Of the part speed: of the map, and cells of order 2 that it has.
    nside: int
    cells: int

    def run(self, sky: Sky, **options: Any) -> SurveyRun:
        """A run on two processes."""
        survey = write(self.scratch / "sky.fits", sky)
        return run_survey(survey, self.scratch / "run", **OPTIONS | options)


def bands(given: Given) -> str:
    """Completeness, false rows, positions and fluxes by bands of latitude."""
    nside, n = (64, 100) if given.quick else (NSIDE, SOURCES)
    judged = []
    for seed in range(given.seed, given.seed + given.skies):
        say(f"sky of seed {seed}")
        sky = draw(nside, n, seed)
        judged.append(judge(sky, given.run(sky, false_sources=FALSE_SOURCES).catalogue))
    return by_bands(judged)


def likelihood(given: Given) -> str:
    """Fits alone, from the pixels of true sources on: of all facets at high latitudes, and of some of the others."""
    nside, n = (64, 100) if given.quick else (NSIDE, SOURCES)
    found = []
    for seed in range(given.seed + 100, given.seed + 100 + given.skies):
        sky, store = draw(nside, n, seed), given.scratch / f"survey-{seed}.zarr"
        ingest(SurveySource.of(write(given.scratch / "sky.fits", sky)), store)
        found += fits_of(store, sky, lambda facet, latitude: latitude >= 60 or facet % 8 == 0)
    return by_latitude(found)


def moved(given: Given) -> str:
    """Fits alone, as of the part likelihood, of all facets of images in CAR that are taken to the sphere."""
    nside, n = (64, 100) if given.quick else (NSIDE // 2, SOURCES // 8)
    found = []
    for seed in range(given.seed + 200, given.seed + 200 + given.skies):
        sky, store = draw(nside, n, seed), given.scratch / f"survey-{seed}.zarr"
        ingest(SurveySource.of(write_image(given.scratch / "sky.fits", sky, seed), sphere=True, nside=nside), store)
        found += fits_of(store, sky)
    return by_latitude(found)


def write_image(path: Path, sky: Sky, seed: int) -> Path:
    """A file of images in CAR, with pixels of the size of the sky's at the equator: counts of the same sources."""
    pixel, rng = pixel_of(round(np.sqrt(len(sky.counts) / 12))), np.random.default_rng(seed)
    height = round(np.pi / pixel)
    step, shape = 180 / height, (height, 2 * height)
    header = fits.Header()
    for axis, name, length, sign in ((1, "GLON-CAR", 2 * height, -1), (2, "GLAT-CAR", height, 1)):
        cards = {"CTYPE": name, "CUNIT": "deg", "CRPIX": (length + 1) / 2, "CRVAL": 0.0, "CDELT": sign * step}
        header.update({f"{card}{axis}": value for card, value in cards.items()})
    edges = np.sin(np.radians(np.arange(height + 1) * step - 90))
    areas = np.radians(step) * np.diff(edges) / pixel**2
    background = np.broadcast_to((areas * background_at((edges[1:] + edges[:-1]) / 2))[:, np.newaxis], shape)
    counts = rng.poisson(background)
    lon, lat = lon_lat_of(events_of(sky.places, rng.poisson(sky.fluxes), PSF * pixel, rng))
    columns = np.floor((180 - lon) % 360 / step).astype(int)
    np.add.at(counts, (np.clip(np.floor((lat + 90) / step).astype(int), 0, height - 1), columns % (2 * height)), 1)
    images = {"COUNTS": counts.astype(np.int32), "BACKGROUND": background}
    hdus = [fits.ImageHDU(values, header, name) for name, values in images.items()]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path, overwrite=True)
    return path


def fits_of(store: Path, sky: Sky, wanted: Callable[[int, float], bool] = lambda *_: True) -> list[NDArray[np.float64]]:
    """What fits say of the sources of a sky, a line a source; of the facets that are wanted, by number and latitude."""
    nside = round(np.sqrt(len(sky.counts) / 12))
    grid, found = FacetGrid.plan(nside, 2, range(192), 20, 12, fast_length), []
    survey = FacetSurvey.of(store, grid)
    for facet in range(grid.n_tiles):
        frame = grid.frame(facet)
        if not wanted(facet, float(np.degrees(np.arcsin(abs(frame.centre[2]))))):
            continue
        x, y = frame.pixels(sky.places)
        side = grid.side_of(facet)
        from_middle = np.abs(np.array([x, y]) - (side - 1) / 2).max(axis=0)
        near = np.flatnonzero((sky.places @ frame.centre > 0) & (from_middle < side / 2 - 3))
        counts, background = (survey.read(name, grid.tile(facet).core) for name in ("counts", "background"))
        seen, centres = survey.coverage(facet)
        shapes = gaussian_shapes(PSF)._replace(centres=centres)
        fit = Fit(counts, background / np.where(seen > 0, seen, 1), seen, shapes)
        fit.select(np.rint(y[near]), np.rint(x[near]), np.zeros(len(near), int))
        fit.solve()
        of = fit.sources
        which = near[of.candidate]
        own = (grid.cells_at(sky.places[which]) == grid.cells[facet]) & np.isfinite(of.y_err + of.x_err)
        off_y, off_x, truth = of.y - y[which], of.x - x[which], sky.fluxes[which]
        within = np.hypot(off_y, off_x) <= radius_68(of.y_err, of.x_err, np.full(len(which), np.inf))
        error = np.where(of.amplitude < truth, of.amplitude_high - of.amplitude, of.amplitude - of.amplitude_low)
        columns = lon_lat_of(sky.places[which])[1], within, off_y / of.y_err, off_x / of.x_err
        columns += of.amplitude / truth, (of.amplitude - truth) / error, sky.certainty[which] > CERTAIN
        found.append(np.column_stack(columns)[own])
    return found


def by_latitude(found: list[NDArray[np.float64]]) -> str:
    """The table of what fits say."""
    latitude, within, off_y, off_x, ratio, pull, certain = np.vstack(found).T
    lines = []
    for low, high in BANDS:
        here = (low <= np.abs(latitude)) & (np.abs(latitude) < high)
        sure = here & (certain > 0)
        scatter = np.hypot(off_y[here].std(), off_x[here].std()) / np.sqrt(2) if here.any() else np.nan
        width = f"{pull[sure].std():.2f} ± {pull[sure].std() / np.sqrt(2 * sure.sum()):.2f}" if sure.any() else ""
        numbers = about(within[here], 3), f"{scatter:.2f}", sure.sum(), about(ratio[sure], 4), width
        lines.append([f"{low:g} to {high:g}", here.sum(), *numbers])
    head = "latitude (deg)", "fits", "within `pos_err`", "scatter over its error", "certain", "flux over truth"
    return markdown([*head, "width of its pull"], lines)


def on_borders(order: int, n: int, rng: np.random.Generator) -> Vectors:
    """Places on borders and corners of cells: all corners of three, both poles, and n others."""
    corners = [(np.cos(k * np.pi / 2), np.sin(k * np.pi / 2), z) for k in range(4) for z in (-2 / 3, 2 / 3)]
    corners = [(c * np.sqrt(1 - z * z), s * np.sqrt(1 - z * z), z) for c, s, z in corners]
    edges = edges_of(np.arange(12 * 4**order), order, 8)
    # The first and every eighth point is a corner.
    some = edges[rng.integers(len(edges), size=n), np.where(np.arange(n) < n // 4, 0, rng.integers(32, size=n))]
    return np.vstack([corners, [(0, 0, 1), (0, 0, -1)], some])


@contextmanager
def frame(rotation: tuple[float, float, float]) -> Iterator[None]:
    """Facets are cut in a frame that is turned by these angles of Euler."""

    def turned(*args: Any, **options: Any) -> FacetGrid:
        return replace(cost.automatic_facets(*args, **options), rotation=rotation)

    with mock.patch.object(making, "automatic_facets", turned):
        yield


def turned(given: Given) -> str:
    """Rows of a sky found again when facets are cut in turned frames, and sources on the borders of all these."""
    nside, n = (64, 100) if given.quick else (NSIDE, TURNED_SOURCES)
    rng, pixel = np.random.default_rng(given.seed), pixel_of(nside)
    n_turns = 1 if given.quick else TURNS
    turns = np.degrees([2 * np.pi, np.pi, 2 * np.pi]) * rng.random((n_turns, 3))
    turns[:, 1] = np.degrees(np.arccos(rng.uniform(-1, 1, n_turns)))
    frames = [(0.0, 0.0, 0.0), *map(tuple, turns.tolist())]
    placed = []
    for rotation in frames:
        grid = FacetGrid.plan(nside, 2, [0], 0, 0, int, rotation=rotation)
        placed.append(on_borders(BORDERS_OF, n // 40, rng) @ grid.turned.T)
    apart = cKDTree(np.vstack(placed)).query_pairs(APART * pixel)
    at = np.delete(np.vstack(placed), sorted({second for _, second in apart}), axis=0)
    sky = draw(nside, n, given.seed, at=at, counts_at=AT_BORDERS)
    found, lines = [], []
    for rotation in frames:
        say(f"frame turned by {rotation}")
        with frame(rotation):
            run = given.run(sky)
        rows = run.catalogue
        where = cKDTree(unit(rows))
        near = np.array([len(each) for each in where.query_ball_point(at, AT_SOURCE * pixel)])
        pairs = where.query_pairs(AT_SOURCE * pixel, output_type="ndarray")
        n_twice = int((np.asarray(rows["facet"])[pairs[:, 0]] != np.asarray(rows["facet"])[pairs[:, 1]]).sum())
        found.append(rows)
        first, there = found[0], run.certificate["facets"]["borders"]
        sure = first[np.asarray(first["score"]) > SURE]
        off = where.query(unit(sure))[0]
        within = np.degrees(off) <= np.asarray(sure["pos_err"])
        new = rows[np.asarray(rows["score"]) > SURE]
        is_new = cKDTree(unit(first)).query(unit(new))[0] > pixel
        lines.append(
            [
                ", ".join(f"{angle:.0f}" for angle in rotation),
                len(rows),
                f"{(off < pixel).sum()} of {len(sure)}",
                f"{within.sum()} ({within.mean():.1%})",
                f"{np.quantile(np.degrees(off) / sure['pos_err'], 0.9):.2f}",
                f"{is_new.sum()} of {len(new)}",
                f"{(near > 0).sum()} of {len(at)}",
                n_twice,
                there["settled"],
            ]
        )
    head = (
        "turned by (deg)",
        "rows",
        f"score > {SURE:g} again within a pixel",
        "within `pos_err`",
        "90 % within (of `pos_err`)",
    )
    more = "not in the first", "sources on borders", "twice, by two facets", "settled"
    return markdown([*head, *more], lines)


def unit(rows: Table) -> Vectors:
    """Unit vectors of rows in the galactic frame."""
    return np.asarray(vectors_of(np.radians(rows["glon"]), np.radians(rows["glat"])))


def flat_sky(side: int, n: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Counts and background of a flat map with as much in a pixel as the whole sky has."""
    rng = np.random.default_rng(seed)
    background = np.repeat(background_at(np.linspace(-1, 1, side))[:, np.newaxis], side, axis=1)
    fluxes = 1 / rng.uniform(1 / BRIGHTEST, 1 / FAINTEST, n)
    of = np.repeat(rng.uniform(0, side - 1, (2, n)), rng.poisson(fluxes), axis=1)
    y, x = np.rint(of + rng.normal(size=of.shape) * PSF).astype(int).clip(0, side - 1)
    counts = rng.poisson(background).astype(np.float64)
    np.add.at(counts, (y, x), 1)
    return counts, background


def processor_seconds() -> float:
    """Of this process and those that it has started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def speed(given: Given) -> str:
    """Times and memory of a whole sky beside a flat map of as many pixels."""
    nside, lines = 64 if given.quick else given.nside, []
    side, n = round(np.sqrt(given.cells / 16) * nside), 12 * nside**2 // PIXELS_A_SOURCE
    for kind in ("sphere", "plane"):
        say(f"drawing the {kind}")
        path, store = given.scratch / "survey.fits", given.scratch / "survey.zarr"
        if kind == "sphere":
            write(path, draw(nside, n, given.seed), given.cells)
        else:
            write_survey(path, *flat_sky(side, n * given.cells // 192, given.seed))
        shutil.rmtree(store, ignore_errors=True)
        started = time.perf_counter()
        ingest(SurveySource.of(path), store)
        ingested = time.perf_counter() - started
        started, before = time.perf_counter(), processor_seconds()
        run = run_survey(store, given.scratch / "run", **OPTIONS)
        seconds, processor = time.perf_counter() - started, processor_seconds() - before
        grid, certificate = run.stored.plan.grid, run.certificate
        pixels, boxes = run.survey.statistics.n_valid, sum(tile.box.area for tile in grid.tiles())
        lines.append(
            [
                kind,
                f"{pixels / 1e6:.1f}",
                f"{grid.n_tiles} of {grid.core_shape[0]} x {grid.core_shape[1]}",
                f"{boxes / 1e6:.1f}",
                certificate["n_iter"],
                len(run.catalogue),
                f"{ingested:.0f}",
                f"{seconds:.0f}",
                f"{processor:.0f}",
                f"{processor / pixels * 1e6:.2f}",
                f"{processor / boxes * 1e6:.2f}",
                f"{certificate['peak_memory']['worker'] / MIB:.0f}",
            ]
        )
    head = "survey", "Mpix", "tiles", "Mpix of boxes", "iterations", "rows", "ingest (s)", "run (s)", "run (CPU s)"
    return f"{machine()}.\n\n" + markdown(
        [*head, "s a Mpix", "s a Mpix of boxes", "peak memory of a worker (MiB)"], lines
    )


PARTS: dict[str, Callable[[Given], str]] = {part.__name__: part for part in (bands, likelihood, moved, turned, speed)}


def main() -> None:
    """Measure, and write each part as soon as it is there."""
    options = parser(__doc__)
    options.add_argument("parts", nargs="*", metavar="part", help=f"any of {', '.join(PARTS)}")
    options.add_argument("--seed", type=int, default=SEED, help="of the first sky (default: %(default)s)")
    options.add_argument("--skies", type=int, default=SKIES, help="of the part bands (default: %(default)s)")
    options.add_argument("--nside", type=int, default=FINE_NSIDE, help="of the part speed (default: %(default)s)")
    options.add_argument("--cells", type=int, default=192, help="of order 2, of the part speed (default: all)")
    arguments = options.parse_args()
    if unknown := set(arguments.parts) - PARTS.keys():
        options.error(f"there is no part {', '.join(sorted(unknown))}: there are {', '.join(PARTS)}")
    arguments.scratch.mkdir(parents=True, exist_ok=True)
    for part in arguments.parts or PARTS:
        say(f"-- {part}")
        with TemporaryDirectory(dir=arguments.scratch) as folder:
            numbers = arguments.seed, arguments.skies, arguments.nside, arguments.cells
            tables = PARTS[part](Given(Path(folder), arguments.quick, *numbers))
        sys.stdout.write(f"{tables}\n")
        if not arguments.quick:
            PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), part, tables), encoding="utf-8")


if __name__ == "__main__":
    main()
