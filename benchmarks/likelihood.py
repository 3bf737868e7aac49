"""Measure the joint likelihood of a window, without a detector: bias, pulls, neighbours, limits, ghosts, time.

Prints the tables of docs/design/0021-likelihood.md; ``--quick`` measures little.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable

import numpy as np

from cwt_dask.cwt.arrays import Floats
from cwt_dask.measure.likelihood import Fit, Sources
from cwt_dask.measure.shapes import Shapes, add, gaussian_shapes, patch_for

SIGMA, SHAPES = 1.3, gaussian_shapes(1.3)
LEVELS = (0.01, 0.05, 0.3, 3.0)
# Candidates lie so far from sources, standard deviation along an axis in pixels.
OFF = 0.25


def expect(truth: Floats, level: float, size: int, shapes: Shapes = SHAPES, shape: int = 0) -> Floats:
    """What is expected of sources (amplitude, y, x) on a flat background."""
    image, patch = np.full((size, size), level), patch_for(shapes)
    for f, y, x in truth:
        add(image, shapes, shape, y, x, f, patch)
    return image


def fit(counts: Floats, level: float, places: Floats, shapes: Shapes = SHAPES, *, extended: bool = False) -> Fit:
    """Fit candidates (y, x)."""
    window = Fit(counts, np.full(counts.shape, level), np.ones(counts.shape, bool), shapes, extended=extended)
    window.select(*places.T, np.zeros(len(places), int))
    window.solve()
    return window


def field(rng: np.random.Generator, group: Iterable[tuple[float, float, float]], n: int, step: int) -> Floats:
    """Sources (amplitude, y, x): a group of them, turned at random, in each of n x n cells."""
    truth = []
    for i, j in np.ndindex(n, n):
        angle, (dy, dx) = rng.uniform(0, 2 * np.pi), rng.uniform(-0.5, 0.5, 2)
        for f, y, x in group:
            along, across = y * np.cos(angle) - x * np.sin(angle), y * np.sin(angle) + x * np.cos(angle)
            truth.append((f, step * (i + 0.5) + dy + along, step * (j + 0.5) + dx + across))
    return np.array(truth)


def describe(found: Sources, truth: Floats, amplitude: float) -> str:
    """One line of a table: how sources of one amplitude came out."""
    true = truth[found.candidate]
    these = true[:, 0] == amplitude
    off = found.amplitude[these] - amplitude
    error = np.where(
        off < 0, (found.amplitude_high - found.amplitude)[these], (found.amplitude - found.amplitude_low)[these]
    )
    pull, n = off / error, np.count_nonzero(these)
    position = np.concatenate(
        [(found.y - true[:, 1])[these] / found.y_err[these], (found.x - true[:, 2])[these] / found.x_err[these]]
    )
    position = position[np.isfinite(position)]
    part = n / np.count_nonzero(truth[:, 0] == amplitude)
    ratio, scatter = 1 + off.mean() / amplitude, off.std() / amplitude / np.sqrt(n)
    return (
        f"{part:.3f} | {np.sqrt(found.ts[these]).mean():.1f} | {ratio:.3f} ± {scatter:.3f} | {pull.mean():+.2f} | "
        f"{pull.std():.2f} | {position.std():.2f} | {np.mean(found.upper_limit[these] > amplitude):.3f}"
    )


HEAD = (
    "| found | sqrt TS | amplitude over truth | pull | its width | width of positions' | below limit |\n" + "| --- " * 7
)


def bias(n: int) -> None:
    """Isolated sources, pairs, a ring, a grid."""
    print(HEAD, "\n", "| --- " * 10, "|", sep="")
    ring = [(100.0, 5 * np.sin(t), 5 * np.cos(t)) for t in np.arange(8) * np.pi / 4]
    scenes = [(f"isolated {f:g}", [(f, 0.0, 0.0)], 32) for f in (20.0, 100.0, 1000.0)]
    scenes += [(f"{apart} pixels apart", [(500.0, 0.0, 0.0), (100.0, 0.0, apart)], 48) for apart in (3, 4, 5, 6, 8)]
    scenes += [("ring of 8, radius 5", ring, 56)]
    for level in (0.05, 3.0):
        for number, (name, group, step) in enumerate(scenes):
            rng = np.random.default_rng([number, int(100 * level)])
            truth = field(rng, group, n, step)
            counts = rng.poisson(expect(truth, level, n * step)).astype(float)
            found = fit(counts, level, truth[:, 1:] + rng.normal(0, OFF, (len(truth), 2))).sources
            for f in np.unique(truth[:, 0]):
                print(f"| {level} | {name} | {f:g} | {describe(found, truth, f)} |")


def limits(n: int) -> None:
    """Share of upper limits at known positions that are above the truth."""
    print("\n| background |", *(f"{f} |" for f in (3, 5, 10, 20, 50, 200)), "\n", "| --- " * 7, "|", sep="")
    for level in LEVELS:
        row = []
        for f in (3, 5, 10, 20, 50, 200):
            rng = np.random.default_rng([f, int(1000 * level)])
            truth = field(rng, [(f, 0.0, 0.0)], n, 24)
            counts = rng.poisson(expect(truth, level, n * 24)).astype(float)
            window = Fit(counts, np.full(counts.shape, level), np.ones(counts.shape, bool), SHAPES)
            row.append(np.mean(window.single(truth[:, 1], truth[:, 2], np.zeros(len(truth), int)).upper_limit > f))
        print(f"| {level} |", *(f"{share:.3f} |" for share in row))


def ghosts() -> None:
    """Sources of TS above 25 beside a single one, with a candidate in every second pixel around it."""
    places = np.stack(np.meshgrid(*[np.arange(40, 121, 2.0)] * 2), axis=-1).reshape(-1, 2)
    made = {
        (level, f): np.count_nonzero(
            fit(
                np.random.default_rng([int(f), int(100 * level)])
                .poisson(expect(np.array([(f, 80.3, 79.6)]), level, 160))
                .astype(float),
                level,
                places,
            ).sources.ts
            > 25
        )
        - 1
        for level in (0.05, 0.3, 3.0)
        for f in (1e3, 1e4, 1e5, 1e6)
    }
    print("\nsources beside a single one, by (background, counts), of TS above 25:", made)


def cost(sizes: tuple[int, ...]) -> None:
    """CPU seconds of fits of 1 source in 100 pixels, all of them true, two thirds within 6 pixels of another."""
    for size in sizes:
        rng, n = np.random.default_rng(size), size**2 // 100
        truth = np.column_stack([10 ** rng.uniform(1, 3, n), *rng.uniform(0, size - 1, (2, n))])
        counts = rng.poisson(expect(truth, 0.5, size)).astype(float)
        places = truth[:, 1:] + rng.normal(0, OFF, (n, 2))
        fit(counts[:60, :60].copy(), 0.5, places[np.all(places < 60, axis=1)])
        start = time.process_time()
        found = fit(counts, 0.5, places).sources
        print(f"{n} candidates in {size}² pixels: {len(found.ts)} sources, {time.process_time() - start:.2f} s")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few sources")
    quick = parser.parse_args().quick
    bias(3 if quick else 20)
    limits(3 if quick else 60)
    ghosts()
    cost((100,) if quick else (500, 1000))


if __name__ == "__main__":
    main()
