"""Measure what the catalogue is worth, by whole runs, and write the tables into docs/catalogue.md.

    python benchmarks/catalogue.py SCIENCE                       # all parts but fermi
    python benchmarks/catalogue.py SCIENCE roc nulls
    python benchmarks/catalogue.py SCIENCE fermi --fermi fermi_survey.fits.gz gll_psch_v13.fit.gz
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
from astropy.coordinates import SkyCoord
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
from scipy.stats import chi2

from cwt_dask import run_survey
from cwt_dask.cwt.workspace import Workspace
from cwt_dask.pipeline.merging import Merging
from cwt_dask.results import SurveyRun
from cwt_dask.simulate import simulate

PAGE = Path(__file__).parents[1] / "docs" / "catalogue.md"
# Skies of SCIENCE by their seeds; `sim` is `cwt-dask simulate`, with another point spread function.
SKIES = {"flat0.05": 2001, "flat0.3": 2002, "flat3": 2003, "struct": 2004, "wrongbkg": 2005, "sim": 4242}
SIM_PSF, SIM_SOURCES = 1.5, 400
# Numbers of false rows at which true ones are counted.
AT = 0, 2, 5, 10, 20
NULLS = (0.01, 0.05, 0.3, 3.0, 10.0, "structured")
ASKED = 1.0, 10.0, 100.0
GHOST_COUNTS, GHOST_LEVELS = (1e3, 1e4, 1e5, 1e6), (0.05, 0.3, 3.0)
# Pixels between single sources, and around one within which other rows are counted.
APART, AROUND, AT_SOURCE = 250, 100, 2.0
FLUXES = (50.0, 0.05), (300.0, 0.05), (100.0, 0.3), (1000.0, 0.3), (200.0, 3.0), (3000.0, 3.0)
FERMI_AT, FERMI_RADII = (2, 5, 10, 20), (0.2, 0.35, 0.5)


@dataclass(frozen=True)
class Given:
    """What parts are given."""

    science: Path
    scratch: Path
    quick: bool
    fermi: tuple[Path, Path] | None

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
        curves = {}
        # Extended sources are in this one alone.
        for extended in (False, True) if name == "sim" else (False,):
            say(f"{name}, extended {extended}")
            rows = all_rows(given.run(path, psf=psf, extended=extended))
            places = [np.asarray(rows[f"{axis}_centroid"]) for axis in "yx"]
            for column in ("sqrt_ts", "score"):
                ranked = f"`{column}`, `--extended`" if extended else f"`{column}`"
                curves[ranked] = judge.curve(*places, rows[column], truth)
        for ranked, curve in (curves | {"TSMap": tsmap}).items():
            share = curve[10] / max(tsmap[10], 1)
            lines.append([name, len(truth), ranked, *(curve[n] for n in AT), f"{share:.3f}"])
    return markdown(["sky", "sources", "ranked by", *(f"{n} false" for n in AT), "of TSMap's at 10"], lines)


def interval(n: int) -> str:
    """The central 68 % interval of the mean of a Poisson number."""
    low, high = chi2.ppf(0.16, 2 * n) / 2 if n else 0.0, chi2.ppf(0.84, 2 * n + 2) / 2
    return f"{low:.1f} to {high:.1f}"


def nulls(given: Given) -> str:
    """Rows of skies without sources, over those asked for."""
    lines, pixels = [], (150, 200) if given.quick else (1000, 2000)
    for kind, seed in zip(NULLS, itertools.count(7101), strict=False):
        say(f"null {kind}")
        rng = np.random.default_rng(seed)
        background = background_of(kind, pixels, rng)
        run = given.run(given.sky(rng.poisson(background), background), false_sources=max(ASKED))
        expected = np.asarray(run.catalogue["expected_false"])
        found = [int((expected <= asked).sum()) for asked in ASKED]
        lines.append([kind, *(f"{n} ({interval(n)})" for n in found)])
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


def timed(function: Callable[..., Any], seconds: dict[str, float], name: str) -> Callable[..., Any]:
    """The function; processor seconds of its calls are added up."""

    def call(*args: Any, **options: Any) -> Any:
        started = time.process_time()
        try:
            return function(*args, **options)
        finally:
            seconds[name] = seconds.get(name, 0.0) + time.process_time() - started

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
        stages = (Merging, "find_candidates"), (Merging, "fit"), (Workspace, "_calibrate"), (Merging, "write_catalogue")
        patches = [mock.patch.object(of, name, timed(getattr(of, name), seconds, name)) for of, name in stages]
        for each in patches:
            each.start()
        run = timed(given.run, seconds, "all")(path, psf=SIM_PSF, threads=1)
        for each in patches:
            each.stop()
        added = seconds["find_candidates"] + seconds["fit"]
        n_rows = len(run.catalogue) + len(run.candidates)
        shown = [f"{seconds[name]:.1f}" for name in ("all", "find_candidates", "fit", "_calibrate", "write_catalogue")]
        lines.append([f"{shape[0]} x {shape[1]}", n_rows, *shown, f"{added / (seconds['all'] - added):.1%}"])
    head = "pixels", "rows", "whole run (s)", "candidates", "fit", "S, without its convolutions", "catalogue"
    return f"{machine()}.\n\n" + markdown([*head, "candidates and fit over the rest"], lines)


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
    survey, catalogue = given.fermi
    lines = []
    known, wide = (Table.read(catalogue, hdu=hdu) for hdu in ("LAT_Point_Source_Catalog", "ExtendedSources"))
    sizes = dict(zip(wide["Source_Name"], wide["Model_SemiMajor"], strict=True))
    size = np.array([sizes.get(str(name), 0.0) for name in known["Extended_Source_Name"]])
    sky = SkyCoord(known["GLON"], known["GLAT"], unit="deg", frame="galactic")
    for widths in False, True:
        rows = all_rows(given.run(survey, psf="0.12deg", extended=widths))
        best = rows[np.argsort(-np.asarray(rows["score"]), kind="stable")]
        places = SkyCoord(best["glon"], best["glat"], unit="deg", frame="galactic")
        nearest, apart, _ = places.match_to_catalog_sky(sky)
        for (kind, least), radius in itertools.product((("no", 0.0), ("yes", size[nearest])), FERMI_RADII):
            near = apart.deg <= np.maximum(radius, least)
            found = [len(set(nearest[near & (np.cumsum(~near) <= n)])) for n in FERMI_AT]
            lines.append(["yes" if widths else "no", f"{radius:g}", kind, *found])
    return markdown(["`--extended`", "within (deg)", "or its own size", *(f"{n} unmatched" for n in FERMI_AT)], lines)


PARTS = {part.__name__: part for part in (roc, nulls, ghosts, fluxes, cost, extended, fermi)}


def main() -> None:
    """Measure, and write each part as soon as it is there."""
    options = parser(__doc__)
    options.add_argument("science", type=Path, help="folder of skies, their judge, and the peaks of TSMap")
    options.add_argument("parts", nargs="*", metavar="part", help=f"any of {', '.join(PARTS)}")
    options.add_argument("--fermi", nargs=2, type=Path, metavar=("SURVEY", "CATALOGUE"), help="files of the part fermi")
    arguments = options.parse_args()
    parts = arguments.parts or [part for part in PARTS if part != "fermi" or arguments.fermi]
    if unknown := set(parts) - PARTS.keys():
        options.error(f"there is no part {', '.join(sorted(unknown))}: there are {', '.join(PARTS)}")
    if "fermi" in parts and not arguments.fermi:
        options.error("the part fermi needs --fermi SURVEY CATALOGUE")
    arguments.scratch.mkdir(parents=True, exist_ok=True)
    for part in parts:
        say(f"-- {part}")
        with TemporaryDirectory(dir=arguments.scratch) as folder:
            given = Given(arguments.science, Path(folder), arguments.quick, arguments.fermi)
            tables = PARTS[part](given)
        sys.stdout.write(f"{tables}\n")
        if not arguments.quick:
            PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), part, tables), encoding="utf-8")


if __name__ == "__main__":
    main()
