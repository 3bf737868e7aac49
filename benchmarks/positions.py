"""Measure how far centroids lie from the sources that were put there, and how often within the stated error.

Gaussian sources of one kind stand on a wide grid, each somewhere within its pixel, on a flat background; the nearest
peak within three pixels of a source is taken for it. Writes the tables of docs/catalogue.md; ``--quick`` prints them
for a few sources.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import ndtr

from cwt_dask import CWT, CWTData, CWTKernels
from cwt_dask.geometry.tiling import Box
from cwt_dask.measure.centroids import find_centroids, radius_68
from cwt_dask.measure.peaks import find_peaks

PAGE = Path(__file__).parents[1] / "docs" / "catalogue.md"
BEGIN, END = "<!-- positions: begin -->\n", "<!-- positions: end -->\n"
KERNELS, THRESHOLD, ITERATIONS = CWTKernels(3, 1.2, 1.5), 3.0, 5
WIDTHS, LEVELS, COUNTS = (1.0, 1.5, 2.5), (0.3, 3.0), (10, 20, 40, 100, 400, 2000)
PITCH, EXTENT, NEAR = 26, 12, 3.0
EDGES = (3, 4, 5, 6, 8, 10, 20, 50, np.inf)
# Background a pixel and counts of sources that are found by very few.
SPARSE = ((0.02, 5.0), (0.02, 10.0), (0.02, 20.0), (0.1, 10.0), (0.1, 20.0))


def injected(n: int, width: float, level: float, counts: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts and background (y, x), and positions (source, axis) of n x n sources."""
    rng = np.random.default_rng(seed)
    background = np.full((n * PITCH, n * PITCH), level)
    expected = background.copy()
    centres = PITCH * (np.indices((n, n)).reshape(2, -1).T + 0.5) + rng.uniform(-0.5, 0.5, (n * n, 2))
    edges = np.arange(n * PITCH + 1) - 0.5
    for centre in centres:
        near = [slice(int(c) - EXTENT, int(c) + EXTENT + 1) for c in centre]
        shares = [np.diff(ndtr((edges - c) / width))[part] for c, part in zip(centre, near, strict=True)]
        expected[tuple(near)] += counts * np.outer(*shares)
    return rng.poisson(expected).astype(np.float64), background, centres


def offsets(n: int, width: float, level: float, counts: float, seed: int = 1) -> dict[str, np.ndarray]:
    """Of the sources that are found: significance, offsets in pixels, and the stated 68 % radius."""
    observed, background, centres = injected(n, width, level, counts, seed)
    data = CWTData(observed, background, KERNELS.n_scale)
    CWT(KERNELS, significance_threshold=THRESHOLD, max_iter=ITERATIONS).analyze(data)
    scale = KERNELS.scales[data.best_scale.data]
    y, x = find_peaks(np.where(data.support_2d.data > 0, data.significance.data, -np.inf), scale)
    valid = np.ones(observed.shape, bool)
    found = find_centroids(
        observed, background, valid, Box(0, observed.shape[0], 0, observed.shape[1]), y, x, scale[y, x]
    )
    distance, peak = cKDTree(np.column_stack([y, x])).query(centres)
    taken, peak = distance <= NEAR, peak[distance <= NEAR]
    significance = data.significance.data[y, x][peak]
    return {
        "significance": significance,
        "dy": found.y[peak] - centres[taken, 0],
        "dx": found.x[peak] - centres[taken, 1],
        "radius": radius_68(found.y_error[peak], found.x_error[peak], significance),
    }


def table(n: int) -> str:
    """What came out, by significance, all kinds of sources together."""
    cases = [offsets(n, *kind) for kind in itertools.product(WIDTHS, LEVELS, COUNTS)]
    all_ = {name: np.concatenate([case[name] for case in cases]) for name in cases[0]}
    lines = [
        "| T/E | sources | mean offset y, x (pixels) | 68 % lie within (pixels) | median stated | share within it |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for low, high in itertools.pairwise(EDGES):
        of_bin = (low < all_["significance"]) & (all_["significance"] <= high)
        if not of_bin.any():
            continue
        dy, dx, radius = (all_[name][of_bin] for name in ("dy", "dx", "radius"))
        far = np.hypot(dy, dx)
        name = f"{low} to {high}" if np.isfinite(high) else f"above {low}"
        lines.append(
            f"| {name} | {of_bin.sum()} | {dy.mean():+.3f}, {dx.mean():+.3f} | {np.quantile(far, 0.683):.2f} "
            f"| {np.median(radius):.2f} | {np.mean(far <= radius):.2f} |"
        )
    return "\n".join(lines) + "\n"


def sparse_table(n: int) -> str:
    """What came out above T/E = 5 where hardly a count is background."""
    lines = [
        "| counts | on, a pixel | sources | median T/E | 68 % lie within (pixels) | median stated | share within it |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for level, counts in SPARSE:
        found = offsets(n, 1.0, level, counts)
        taken = (found["significance"] > 5) & np.isfinite(found["radius"])
        far, radius = np.hypot(found["dy"], found["dx"])[taken], found["radius"][taken]
        lines.append(
            f"| {counts:g} | {level:g} | {taken.sum()} | {np.median(found['significance'][taken]):.0f} "
            f"| {np.quantile(far, 0.683):.2f} | {np.median(radius):.2f} | {np.mean(far <= radius):.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few sources; prints the table, leaves the page alone")
    quick = parser.parse_args().quick
    n = 5 if quick else 36
    between = "Where hardly a count is background, T/E is large for a few counts, and they tell less:"
    measured = f"{table(n)}\n{between}\n\n{sparse_table(n)}"
    print(measured)
    if not quick:
        before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{measured}\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
