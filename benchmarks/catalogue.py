"""Measure what the catalogue is worth, by whole runs, and write the tables into docs/catalogue.md.

    python benchmarks/catalogue.py SCIENCE                       # all parts but those of Fermi
    python benchmarks/catalogue.py SCIENCE roc nulls
    python benchmarks/catalogue.py SCIENCE fermi --fermi fermi_survey.fits.gz gll_psch_v13.fit.gz gtpsf.fits.gz
    python benchmarks/catalogue.py SCIENCE --quick               # tiny skies: prints, leaves the page alone

SCIENCE is a folder with two modules, skies with true sources (skies) and what judges rows by them (roc), and the peaks
that Gammapy's TSMap finds on these skies (tsmap_peaks.npz). It is not part of the project.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
from asimov import expected_root_ts
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table, vstack
from common import machine, markdown, parser, say
from injected import (
    GAUSSIAN,
    PIXEL_DEG,
    PSF,
    WITH_TAILS,
    Profile,
    add_source,
    background_of,
    image_of,
    regular,
    wider,
    write_survey,
)
from performance import page
from scipy.spatial import cKDTree
from scipy.stats import chi2

from cwt_dask import run_survey
from cwt_dask.cwt.state import State
from cwt_dask.cwt.workspace import Workspace
from cwt_dask.pipeline.merging import Merging
from cwt_dask.results import SurveyRun
from cwt_dask.simulate import simulate
from cwt_dask.trust import SourceFlag

PAGE = Path(__file__).parents[1] / "docs" / "catalogue.md"
# Skies of SCIENCE by their seeds; `sim` is `cwt-dask simulate`, with another point spread function.
SKIES = {"flat0.05": 2001, "flat0.3": 2002, "flat3": 2003, "struct": 2004, "wrongbkg": 2005, "sim": 4242}
SIM_PSF, SIM_SOURCES = 1.5, 400
# Numbers of false rows at which true ones are counted.
AT = 0, 2, 5, 10, 20
# Backgrounds of skies of noise, and options beside `--psf`.
NULLS = (*((kind, {}) for kind in (0.01, 0.05, 0.3, 3.0, 10.0, "structured")), ("structured", {"extended": True}))
NULL_SKIES = 4
ASKED = 1.0, 10.0, 100.0
GHOST_COUNTS, GHOST_LEVELS = (1e3, 1e4, 1e5, 1e6), (0.05, 0.3, 3.0)
# Pixels between single sources, and around one within which other rows are counted.
APART, AROUND, AT_SOURCE = 250, 100, 2.0
FLUXES = (50.0, 0.05), (300.0, 0.05), (100.0, 0.3), (1000.0, 0.3), (200.0, 3.0), (3000.0, 3.0)
# Groups of sources (counts, y, x), so far apart, and backgrounds.
PAIRS = {f"pairs {apart} pixels apart": ((500.0, 0.0, 0.0), (100.0, apart, 0.0)) for apart in (3, 4, 5, 6, 8)}
RINGS = {
    f"rings of 8, radius {r}": tuple((100.0, r * np.sin(k * np.pi / 4), r * np.cos(k * np.pi / 4)) for k in range(8))
    for r in (5, 8)
}
GROUPS = {"one of 500": ((500.0, 0.0, 0.0),), "one of 100": ((100.0, 0.0, 0.0),)} | PAIRS | RINGS
GROUPS_APART, GROUP_LEVELS = 32, (0.05, 3.0)
# Degrees: from the next 3FHL source, from a row; and the least score.
FLUX_ALONE, FLUX_RADIUS, FLUX_SCORE, FLUX_APERTURES = 0.5, 0.15, 4.0, (0.2, 0.4, 0.6)
FERMI_AT, FERMI_RADII = (2, 5, 10, 20), (0.2, 0.35, 0.5)


@dataclass(frozen=True)
class Given:
    """What parts are given."""

    science: Path
    scratch: Path
    quick: bool
    fermi: tuple[Path, Path, Path] | None
    tsmap: Path | None

    def module(self, name: str) -> ModuleType:
        """A module of SCIENCE, under a name that no other has."""
        spec = spec_from_file_location(f"science_{name}", self.science / f"{name}.py")
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def run(self, survey: Path, **options: Any) -> SurveyRun:
        """A run beside the survey, in this process."""
        options = {"psf": PSF, "workers": 0, "fits": "no", "no_report": True, "overwrite": True} | options
        return run_survey(survey, self.scratch / "run", **options)

    def sky(self, counts: np.ndarray, background: np.ndarray) -> Path:
        """A survey of these images."""
        return write_survey(self.scratch / "survey.fits", counts, background)


def all_rows(run: SurveyRun) -> Table:
    """Catalogue and candidates: the best first."""
    return vstack([run.catalogue, run.candidates], metadata_conflicts="silent")


def science_skies(given: Given) -> Iterator[tuple[str, Path, np.ndarray, float]]:
    """Name, survey, true sources and width of the point spread function."""
    skies = given.module("skies")
    shape = (150, 200) if given.quick else skies.SHAPE
    for name, seed in SKIES.items():
        path = given.scratch / "survey.fits"
        if name == "sim":
            n_sources = 10 if given.quick else SIM_SOURCES
            sources = simulate(path, shape, seed=seed, n_sources=n_sources, overwrite=True)
            names = ["y", "x", "counts", "sigma"]
            yield name, path, np.rec.fromarrays([np.asarray(sources[n]) for n in names], names=names), SIM_PSF
        else:
            counts, background, truth = skies.make(name, seed, shape, 12 if given.quick else skies.NSRC)
            skies.write(path, counts, background)
            yield name, path, truth, PSF


def roc(given: Given) -> str:
    """True sources found when so many rows are false, beside Gammapy's TSMap."""
    judge, lines = given.module("roc"), []
    for name, path, truth, psf in science_skies(given):
        np.save(given.scratch / "truth.npy", truth)
        tsmap = judge.tsmap(name, given.scratch / "truth.npy")
        near = truth.copy()
        near["sigma"] = psf
        np.save(given.scratch / "near.npy", near)
        curves, tsmap_near = {}, judge.tsmap(name, given.scratch / "near.npy")
        # Extended sources are in this one alone.
        for extended in (False, True) if name == "sim" else (False,):
            say(f"{name}, extended {extended}")
            rows = all_rows(given.run(path, psf=psf, extended=extended))
            places = [np.asarray(rows[f"{axis}_centroid"]) for axis in "yx"]
            for column in ("sqrt_ts", "score"):
                ranked = f"`{column}`, `--extended`" if extended else f"`{column}`"
                curves[ranked] = judge.curve(*places, rows[column], truth), tsmap
                if name == "sim":
                    curves[f"{ranked}, within 2 pixels"] = judge.curve(*places, rows[column], near), tsmap_near
        curves["TSMap"] = tsmap, tsmap
        if name == "sim":
            curves["TSMap, within 2 pixels"] = tsmap_near, tsmap_near
        for ranked, (curve, of) in curves.items():
            share = curve[10] / max(of[10], 1)
            lines.append([name, len(truth), ranked, *(curve[n] for n in AT), f"{share:.3f}"])
    return markdown(["sky", "sources", "ranked by", *(f"{n} false" for n in AT), "of TSMap's at 10"], lines)


def interval(n: int, parts: int) -> str:
    """The central 68 % interval of the mean of a part of a Poisson number."""
    low, high = chi2.ppf(0.16, 2 * n) / 2 if n else 0.0, chi2.ppf(0.84, 2 * n + 2) / 2
    return f"{low / parts:.1f} to {high / parts:.1f}"


def nulls(given: Given) -> str:
    """Rows of skies without sources, over those asked for."""
    lines, (pixels, skies) = [], ((150, 200), 1) if given.quick else ((1000, 2000), NULL_SKIES)
    for (kind, options), seed in zip(NULLS, itertools.count(7801), strict=False):
        say(f"null {kind}")
        rng, found = np.random.default_rng(seed), np.zeros(len(ASKED), int)
        for _ in range(skies):
            background = background_of(kind, pixels, rng)
            run = given.run(given.sky(rng.poisson(background), background), false_sources=max(ASKED), **options)
            expected = np.asarray(run.catalogue["expected_false"])
            found += [int((expected <= asked).sum()) for asked in ASKED]
        name = f"{kind}, `--extended`" if options else kind
        lines.append([name, *(f"{n / skies:.1f} ({interval(int(n), skies)})" for n in found)])
    return markdown(["counts a pixel", *(f"asked {asked:g}" for asked in ASKED)], lines)


def ghosts(given: Given) -> str:
    """Rows beside single bright sources, in the catalogue that a survey of 10^6 pixels would have."""
    lines, seeds = [], itertools.count(7201)
    shape = (APART, APART) if given.quick else (2 * APART, 2 * APART)
    kinds = {"Gaussian": (GAUSSIAN, PSF), "with tails": (WITH_TAILS, image_of(WITH_TAILS))}
    for (name, (profile, psf)), level in itertools.product(kinds.items(), GHOST_LEVELS):
        beside, missed = [], 0
        for counts in GHOST_COUNTS:
            say(f"{counts:g} on {level:g}, {name}")
            rng = np.random.default_rng(next(seeds))
            y, x = regular(shape, APART, rng)
            run = given.run(
                poisson_sky(given, level, shape, y, x, counts, profile, rng),
                psf=psf,
                false_sources=shape[0] * shape[1] / 1e6,
            )
            apart = distances(run.catalogue, y, x)
            own = [int(np.argmin(column)) for column in apart.T] if len(run.catalogue) else []
            missed += int((apart.min(axis=0, initial=np.inf) > AT_SOURCE).sum())
            others = np.delete(apart, own, axis=0)
            beside.append(int((others.min(axis=1, initial=np.inf) <= AROUND).sum()))
        lines.append([name, f"{level:g}", *beside, missed])
    head = "point spread function", "counts a pixel", *(f"{counts:g} counts" for counts in GHOST_COUNTS), "missed"
    return markdown(head, lines)


def poisson_sky(
    given: Given, level: float, shape: tuple[int, int], y: Any, x: Any, counts: Any, profile: Profile, rng: Any
) -> Path:
    """A survey of sources of one profile on a flat background."""
    expected = np.full(shape, level)
    for source in zip(y, x, np.broadcast_to(counts, np.shape(y)), strict=True):
        add_source(expected, *source, profile)
    return given.sky(rng.poisson(expected), np.full(shape, level))


def distances(rows: Table, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Pixels between (rows, sources)."""
    return np.hypot(*(np.subtract.outer(np.asarray(rows[f"{n}_centroid"]), at) for n, at in (("y", y), ("x", x))))


def fluxes(given: Given) -> str:
    """Counts, errors, upper limits and positions of isolated sources that are found for certain."""
    lines = []
    shape, spacing = ((150, 200), 50) if given.quick else ((1500, 1500), 30)
    for (counts, level), seed in zip(FLUXES, itertools.count(7301), strict=False):
        say(f"{counts:g} on {level:g}")
        rng = np.random.default_rng(seed)
        y, x = regular(shape, spacing, rng)
        rows = all_rows(given.run(poisson_sky(given, level, shape, y, x, counts, GAUSSIAN, rng)))
        apart = distances(rows, y, x)
        nearest = apart.argmin(axis=0)
        found = apart.min(axis=0) < AT_SOURCE
        rows, apart = rows[nearest[found]], apart.min(axis=0)[found]
        error = np.where(rows["npred"] < counts, rows["npred_errp"], rows["npred_errn"])
        pull = np.asarray((rows["npred"] - counts) / error)
        of_counts = f"{np.mean(rows['npred']) / counts:.4f}", f"{pull.mean():+.2f}", f"{pull.std():.2f}"
        of_places = f"{np.mean(apart * PIXEL_DEG <= rows['pos_err']):.2f}", f"{np.quantile(apart, 0.683):.3f}"
        limits = f"{np.mean(rows['npred_ul'] > counts):.1%}"
        lines.append([f"{counts:g}", f"{level:g}", f"{found.sum()} of {len(y)}", *of_counts, limits, *of_places])
    head = "counts", "on, a pixel", "found", "flux over truth", "pull", "its width", "below the upper limit"
    return markdown([*head, "within `pos_err`", "68 % within (pixels)"], lines)


def crowded(given: Given) -> str:
    """Sources with neighbours: whether they are found, counts, sqrt_ts over what is expected, and over that alone."""
    lines, seeds = [], itertools.count(7901)
    shape = (150, 200) if given.quick else (1000, 1000)
    for level in GROUP_LEVELS:
        alone: dict[float, float] = {}
        for name, group in GROUPS.items():
            say(f"{name} on {level:g}")
            rng = np.random.default_rng(next(seeds))
            y, x = regular(shape, GROUPS_APART, rng)
            # Each group turned by an angle of its own.
            angle = rng.uniform(0, 2 * np.pi, len(y))
            fluxes, along, across = np.array(group).T
            y = np.ravel(y[:, np.newaxis] + np.outer(np.cos(angle), along) + np.outer(np.sin(angle), across))
            x = np.ravel(x[:, np.newaxis] - np.outer(np.sin(angle), along) + np.outer(np.cos(angle), across))
            counts = np.tile(fluxes, len(angle))
            rows = given.run(poisson_sky(given, level, shape, y, x, counts, GAUSSIAN, rng)).catalogue
            tree = cKDTree(np.column_stack([rows["y_centroid"], rows["x_centroid"]]))
            apart, row = tree.query(np.column_stack([y, x]), distance_upper_bound=1.5)
            found = np.isfinite(apart)
            n_false = len(rows) - len(set(row[found]))
            for flux in np.unique(counts)[::-1]:
                which = found & (counts == flux)
                of = rows[row[which]]
                npred, root_ts = (np.asarray(of[column]) for column in ("npred", "sqrt_ts"))
                pull = (npred - flux) / np.where(npred < flux, of["npred_errp"], of["npred_errn"])
                alone.setdefault(flux, root_ts.mean())
                over = f"{npred.mean() / flux:.3f} ± {npred.std() / flux / np.sqrt(which.sum()):.3f}"
                pulls = f"{pull.mean():+.2f}", f"{pull.std():.2f}"
                n = f"{which.sum()} of {(counts == flux).sum()}"
                over_expected = "" if flux > fluxes.min() else over_asimov(root_ts, np.array(group), level)
                ratios = over_expected, f"{root_ts.mean() / alone[flux]:.3f}"
                lines.append([f"{level:g}", name, f"{flux:g}", n, over, *pulls, *ratios, n_false])
    head = "on, a pixel", "groups", "counts", "in the catalogue", "flux over truth", "pull", "its width"
    return markdown([*head, "√TS over expected", "over that alone", "other rows"], lines)


def over_asimov(root_ts: np.ndarray, group: np.ndarray, level: float) -> str:
    """sqrt_ts over what the faintest of a group is expected to have, with the error of the mean."""
    expected = expected_root_ts(group, int(np.argmin(group[:, 0])), level, GAUSSIAN)
    return f"{root_ts.mean() / expected:.3f} ± {root_ts.std() / expected / np.sqrt(len(root_ts)):.3f}"


def flagged(given: Given) -> str:
    """Rows of a narrow strip with holes, where sources lie at borders, near each other and are extended, by flags."""
    rng, shape, n = np.random.default_rng(8101), *(((100, 400), 60) if given.quick else ((150, 16000), 3000))
    background, holes = np.full(shape, 0.3), rng.uniform(0, 1, (n // 20, 2)) * shape
    for y, x in holes.astype(int):
        background[y : y + 10, x : x + 10] = np.nan
    y, x = (rng.uniform(-0.5, length - 0.5, n) for length in shape)
    counts, sizes = 1 / rng.uniform(1 / 3000, 1 / 60, n), np.where(rng.random(n) < 0.1, rng.uniform(1.5, 4, n), 0.0)
    expected, lines = np.full(shape, 0.3), []
    for source in zip(y, x, counts, sizes, strict=True):
        add_source(expected, *source[:3], wider(GAUSSIAN, source[3]))
    survey = given.sky(rng.poisson(expected), background)
    for widths in (False, True):
        rows = given.run(survey, extended=widths).catalogue
        rows = rows[rows["expected_false"] < 0.01]
        apart = distances(rows, y, x)
        rows["apart"], nearest = apart.min(axis=1), apart.argmin(axis=1)
        rows["true"], rows["size"] = counts[nearest], sizes[nearest]
        flags = np.asarray(rows["flags"]) & ~SourceFlag.CROSSES_SEAM
        border, others = 1 | 2, 256 | 512 | 1024 | 2048
        alike = {"none": flags == 0, "1, 2 alone": (flags > 0) & (flags & ~border == 0)}
        alike["128, no others but 1, 2"] = (flags & 128 > 0) & (flags & others == 0)
        alike |= {f"{flag}, and any other": flags & flag > 0 for flag in (256, 512, 1024, 2048)}
        for name, which in alike.items():
            there = which & (rows["apart"] < AT_SOURCE)
            point = rows[there & (rows["size"] == 0)]
            row = ["yes" if widths else "no", name, which.sum(), there.sum(), len(point)]
            lines.append([*row, *(of_points(point) if len(point) else [""] * 4)])
    head = "`--extended`", "flags (but 32)", "rows", "within 2 pixels of a source", "and that a point"
    return markdown([*head, "median flux over truth", "pull", "its width", "within `pos_err`"], lines)


def of_points(rows: Table) -> list[str]:
    """Fluxes over true ones, pulls, and the share of places that `pos_err` holds, of rows of point sources."""
    off = np.asarray(rows["npred"] - rows["true"])
    pull = off / np.where(off < 0, rows["npred_errp"], rows["npred_errn"])
    within = np.mean(rows["apart"] * PIXEL_DEG <= rows["pos_err"])
    return [
        f"{np.median(rows['npred'] / rows['true']):.3f}",
        f"{pull.mean():+.2f}",
        f"{pull.std():.2f}",
        f"{within:.2f}",
    ]


def timed(function: Callable[..., Any], seconds: dict[str, float], name: str) -> Callable[..., Any]:
    """The function; processor seconds of its calls are added up."""

    def call(*args: Any, **options: Any) -> Any:
        started = time.process_time()
        try:
            return function(*args, **options)
        finally:
            seconds[name] = seconds.get(name, 0.0) + time.process_time() - started

    return call


def by_iteration(detect: Callable[..., Any], seconds: dict[str, float]) -> Callable[..., Any]:
    """The function; processor seconds of its calls are added up, by iteration."""

    def call(workspace: Workspace, state: State, scale: int) -> Any:
        # What a fit leaves is looked at by the finest scale alone.
        name = f"iteration {state.iteration + 1}" if len(state.joined) > 1 else "of the fit"
        return timed(detect, seconds, name)(workspace, state, scale)

    return call


def cost(given: Given) -> str:
    """Processor seconds of runs, of which what finds candidates and fits them."""
    lines = []
    sizes = ((100, 150),) if given.quick else ((1000, 2000), (4096, 4096))
    # What is compiled, and kernels of no survey, are not counted.
    simulate(small := given.scratch / "small.fits", (100, 150), seed=1)
    given.run(small, psf=SIM_PSF)
    for shape in sizes:
        path = given.scratch / "survey.fits"
        simulate(path, shape, seed=7401, overwrite=True)
        seconds: dict[str, float] = {}
        stages = (Merging, "find_candidates"), (Merging, "fit"), (Merging, "write_catalogue")
        patches = [mock.patch.object(of, name, timed(getattr(of, name), seconds, name)) for of, name in stages]
        patches.append(mock.patch.object(Workspace, "detect", by_iteration(Workspace.detect, seconds)))
        for each in patches:
            each.start()
        run = timed(given.run, seconds, "all")(path, psf=SIM_PSF, threads=1)
        for each in patches:
            each.stop()
        # S is made in the first iteration alone.
        seconds["S"] = seconds["iteration 1"] - seconds["iteration 2"]
        added = seconds["find_candidates"] + seconds["fit"] + seconds["S"]
        n_rows = len(run.catalogue) + len(run.candidates)
        shown = [f"{seconds[name]:.1f}" for name in ("all", "find_candidates", "fit", "S", "write_catalogue")]
        lines.append([f"{shape[0]} x {shape[1]}", n_rows, *shown, f"{added / (seconds['all'] - added):.1%}"])
    head = "pixels", "rows", "whole run (s)", "candidates", "fit", "S", "catalogue"
    return f"{machine()}.\n\n" + markdown([*head, "candidates, fit and S over the rest"], lines)


def extended(given: Given) -> str:
    """Sources with tails of the point spread function, bright ones among them, and extended ones: true ones found."""
    judge, rng, lines = given.module("roc"), np.random.default_rng(7501), []
    shape, n = ((150, 200), 10) if given.quick else ((1000, 2000), 800)
    background = background_of("structured", shape, rng)
    y, x = (rng.uniform(-0.5, length - 0.5, n) for length in shape)
    # As those of SCIENCE, dN/dS ~ S^-2 above 5 counts, but up to 10^5; a fifth is extended.
    counts = 1 / rng.uniform(1e-5, 1 / 5, n)
    sizes = np.where(rng.random(n) < 0.2, rng.uniform(2, 10, n), 0.0)
    expected = background.copy()
    for source in zip(y, x, counts, sizes, strict=True):
        add_source(expected, *source[:3], wider(WITH_TAILS, source[3]))
    sigma = np.hypot(PSF, sizes)
    truth = np.rec.fromarrays([y, x, counts, sigma], names=["y", "x", "counts", "sigma"])
    survey = given.sky(rng.poisson(expected), background)
    for name, psf in (("Gaussian", PSF), ("with tails", image_of(WITH_TAILS))):
        for widths in (False, True):
            say(f"{name}, extended {widths}")
            rows = all_rows(given.run(survey, psf=psf, extended=widths))
            for column in ("sqrt_ts", "score"):
                places = (np.asarray(rows[f"{axis}_centroid"]) for axis in "yx")
                curve = judge.curve(*places, rows[column], truth)
                lines.append([name, "yes" if widths else "no", f"`{column}`", *(curve[k] for k in AT)])
    return markdown(["`--psf`", "`--extended`", "ranked by", *(f"{k} false" for k in AT)], lines)


def fermi(given: Given) -> str:
    """3FHL sources of the Fermi strip that are found, by score, when so many rows match none."""
    survey, catalogue, image = given.fermi
    lines, found_by = [], dict[tuple[str, str], SkyCoord]()
    known, wide = (Table.read(catalogue, hdu=hdu) for hdu in ("LAT_Point_Source_Catalog", "ExtendedSources"))
    sizes = dict(zip(wide["Source_Name"], wide["Model_SemiMajor"], strict=True))
    size = np.array([sizes.get(str(name), 0.0) for name in known["Extended_Source_Name"]])
    sky = SkyCoord(known["GLON"], known["GLAT"], unit="deg", frame="galactic")
    wcs = None
    for (name, psf), widths in itertools.product((("0.12deg", "0.12deg"), ("the file", image)), (False, True)):
        run = given.run(survey, psf=psf, extended=widths)
        rows, wcs = all_rows(run), run.wcs
        best = rows[np.argsort(-np.asarray(rows["score"]), kind="stable")]
        found_by[name, "yes" if widths else "no"] = SkyCoord(best["glon"], best["glat"], unit="deg", frame="galactic")
    if given.tsmap:
        y, x, root_ts = np.load(given.tsmap).T
        order = np.argsort(-root_ts, kind="stable")
        found_by["TSMap, 0.12deg", ""] = wcs.pixel_to_world(x[order], y[order]).galactic
    for (name, widths), places in found_by.items():
        nearest, apart, _ = places.match_to_catalog_sky(sky)
        for (kind, least), radius in itertools.product((("no", 0.0), ("yes", size[nearest])), FERMI_RADII):
            near = apart.deg <= np.maximum(radius, least)
            found = [len(set(nearest[near & (np.cumsum(~near) <= n)])) for n in FERMI_AT]
            lines.append([name, widths, f"{radius:g}", kind, *found])
    return markdown(
        ["`--psf`", "`--extended`", "within (deg)", "or its own size", *(f"{n} unmatched" for n in FERMI_AT)], lines
    )


def fermi_fluxes(given: Given) -> str:
    """Fluxes of isolated 3FHL point sources of the Fermi strip over those of the catalogue."""
    survey, catalogue, image = given.fermi
    known = Table.read(catalogue, hdu="LAT_Point_Source_Catalog")
    sky = SkyCoord(known["GLON"], known["GLAT"], unit="deg", frame="galactic")
    points = np.char.strip(np.asarray(known["Extended_Source_Name"]).astype(str)) == ""
    alone = points & (sky.match_to_catalog_sky(sky, nthneighbor=2)[1].deg > FLUX_ALONE)
    with fits.open(survey) as hdus:
        counts, background, exposure = (hdu.data.astype(float) for hdu in hdus[:3])
    rows_of, columns_of = np.indices(counts.shape)
    lines = []
    for name, psf in (("0.12deg", "0.12deg"), ("the file", image)):
        run = given.run(survey, psf=psf, exposure_unit="cm2 s")
        rows = all_rows(run)
        places = SkyCoord(rows["glon"], rows["glat"], unit="deg", frame="galactic")
        nearest, apart, _ = places.match_to_catalog_sky(sky)
        chosen = np.flatnonzero((apart.deg < FLUX_RADIUS) & alone[nearest] & (rows["score"] > FLUX_SCORE))
        theirs = np.asarray(known["Flux"][nearest[chosen]])
        fluxes = {"`flux`": np.asarray(rows["flux"][chosen])}
        for radius in FLUX_APERTURES:
            inside = (
                np.hypot(rows_of - y, columns_of - x) <= radius / run.survey.statistics.pixel_scale_deg
                for y, x in rows["y_centroid", "x_centroid"][chosen]
            )
            density = (counts - background) / exposure
            fluxes[f"counts within {radius:g} deg"] = np.array([density[disc].sum() for disc in inside])
        for what, ours in fluxes.items():
            ratio = ours / theirs
            positive = ratio > 0
            logs = np.log10([theirs[positive], ours[positive]])
            # The axis of the cloud: both have errors.
            along = np.linalg.eigh(np.cov(logs))[1][:, 1]
            middle = np.log10(np.median(ratio))
            scatter = 1.4826 * np.median(np.abs(np.log10(ratio[positive]) - middle))
            numbers = f"{10**middle:.2f}", f"{scatter:.2f}", f"{along[1] / along[0]:.2f}"
            lines.append([name, what, len(ratio), *numbers])
    return markdown(
        ["`--psf`", "flux by", "sources", "median over 3FHL", "scatter (dex)", "slope of logarithms"], lines
    )


_ALL = roc, nulls, ghosts, fluxes, crowded, flagged, cost, extended, fermi, fermi_fluxes
PARTS = {part.__name__: part for part in _ALL}


def main() -> None:
    """Measure, and write each part as soon as it is there."""
    options = parser(__doc__)
    options.add_argument("science", type=Path, help="folder of skies, their judge, and the peaks of TSMap")
    options.add_argument("parts", nargs="*", metavar="part", help=f"any of {', '.join(PARTS)}")
    options.add_argument(
        "--fermi", nargs=3, type=Path, metavar=("SURVEY", "CATALOGUE", "PSF"), help="files of the parts of Fermi"
    )
    options.add_argument("--tsmap", type=Path, help="peaks that benchmarks/tsmap.py found on SURVEY")
    arguments = options.parse_args()
    parts = arguments.parts or [part for part in PARTS if not part.startswith("fermi") or arguments.fermi]
    if unknown := set(parts) - PARTS.keys():
        options.error(f"there is no part {', '.join(sorted(unknown))}: there are {', '.join(PARTS)}")
    if any(part.startswith("fermi") for part in parts) and not arguments.fermi:
        options.error("parts of Fermi need --fermi SURVEY CATALOGUE PSF")
    arguments.scratch.mkdir(parents=True, exist_ok=True)
    for part in parts:
        say(f"-- {part}")
        with TemporaryDirectory(dir=arguments.scratch) as folder:
            given = Given(arguments.science, Path(folder), arguments.quick, arguments.fermi, arguments.tsmap)
            tables = PARTS[part](given)
        sys.stdout.write(f"{tables}\n")
        if not arguments.quick:
            PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), part, tables), encoding="utf-8")


if __name__ == "__main__":
    main()
