"""Judge estimated backgrounds against the truth: simulated skies with structure and sources, new seeds for each line.

Writes the table of docs/howto/background.md; ``--quick`` prints it for a small map.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.special import ndtr

from cwt_dask.background import estimate_background

PAGE = Path(__file__).parents[1] / "docs" / "howto" / "background.md"
BEGIN, END = "<!-- background: begin -->\n", "<!-- background: end -->\n"
# Scale of the estimate in pixels, that of the sky's structure over it, and seeds.
LINES = (
    (20.0, 4.0, (202, 204, 206, 208)),
    (30.0, 4.0, (210, 212, 214)),
    (40.0, 4.0, (218, 220, 222)),
    (20.0, 2.0, (225,)),
    (20.0, 1.0, (226,)),
)
PSF, SOURCES_PER_PIXEL, BRIGHT = 1.3, 4e-4, 1000.0
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sky:
    """A simulated sky."""

    counts: NDArray[np.int64]  # (y, x)
    truth: Floats  # (y, x), expected counts a pixel without sources.
    y: NDArray[np.int64]  # Pixels of the sources.
    x: NDArray[np.int64]
    source_counts: Floats  # Expected.


def random_field(rng: np.random.Generator, shape: tuple[int, int], cut: float) -> Floats:
    """A Gaussian random field of power k**-3, without what is smaller than `cut` pixels; of variance 1."""
    k = np.hypot(np.fft.fftfreq(shape[0])[:, np.newaxis], np.fft.rfftfreq(shape[1]))
    k[0, 0] = np.inf
    weights = k**-1.5 * np.exp(-0.5 * (2 * np.pi * np.where(np.isinf(k), 0, k) * cut) ** 2)
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal(shape)) * weights, shape)
    return np.asarray(field / field.std(), np.float64)


def draw(shape: tuple[int, int], structure: float, seed: int) -> Sky:
    """A plane and clouds of a size of `structure` pixels, 0.05 counts a pixel off the plane, 4 in it; and sources."""
    rng = np.random.default_rng(seed)
    y = np.arange(shape[0]) - shape[0] / 2
    plane = 0.05 + 4 * np.exp(-0.5 * (y / structure) ** 2) + 0.4 * np.exp(-0.5 * (y / (3 * structure)) ** 2)
    truth = plane[:, np.newaxis] * np.exp(0.6 * random_field(rng, shape, structure) - 0.18)
    n = round(SOURCES_PER_PIXEL * shape[0] * shape[1])
    counts = 1 / rng.uniform(1 / 2000, 1 / 5, n)  # dN/dS ~ S**-2 from 5 to 2000
    at = rng.uniform(0, shape[0] - 1, n), rng.uniform(0, shape[1] - 1, n)
    # Half of them near the plane.
    near = np.clip(shape[0] / 2 + rng.laplace(0, structure / 4, n), 0, shape[0] - 1)
    at = np.where(rng.random(n) < 0.5, near, at[0]), at[1]
    expected = truth.copy()
    for y0, x0, flux in zip(*at, counts, strict=True):
        y_part, x_part = (
            slice(max(int(c) - 8, 0), min(int(c) + 9, length)) for c, length in zip((y0, x0), shape, strict=True)
        )
        profiles = [
            np.diff(ndtr((np.arange(part.start, part.stop + 1) - 0.5 - centre) / PSF))
            for part, centre in ((y_part, y0), (x_part, x0))
        ]
        expected[y_part, x_part] += flux * np.outer(*profiles)
    pixels = [np.rint(each).astype(np.int64) for each in at]
    return Sky(rng.poisson(expected), truth, *pixels, counts)


def judge(sky: Sky, scale: float) -> list[float]:
    """What came out, in percent; and the rounds that it took.

    Root mean square of the relative difference at the scale, and of single pixels, mean at the scale, stated error,
    share excluded, and the mean relative difference at sources below 1000 counts. At the scale: estimate and truth are
    smoothed with a Gaussian of the scale.
    """
    found = estimate_background(sky.counts, scale=scale)

    def smooth(pixels: Floats) -> Floats:
        return np.asarray(gaussian_filter(pixels, scale, mode="constant"))

    of_pixels = found.background / sky.truth - 1
    difference = smooth(found.background.astype(np.float64)) / smooth(sky.truth) - 1
    faint = sky.source_counts < BRIGHT
    y, x = sky.y[faint], sky.x[faint]
    at_sources = found.background[y, x] / sky.truth[y, x] - 1
    rms = [np.sqrt(np.square(each).mean()) for each in (difference, of_pixels)]
    return [
        *(100 * value for value in (*rms, difference.mean(), found.estimate.error, found.excluded.mean())),
        100 * float(at_sources.mean()),
        float(found.estimate.rounds),
    ]


def table(shape: tuple[int, int], lines: tuple[tuple[float, float, tuple[int, ...]], ...]) -> str:
    """What came out, a line for each kind of sky."""
    titles = (
        *("scale, pixels", "structure over scale", "rms at the scale", "rms of single pixels", "bias"),
        *("stated error (noise, a pixel)", "excluded", "bias at sources below 1000 counts", "rounds"),
    )
    rows = [f"| {' | '.join(titles)} |", f"|{' --- |' * len(titles)}"]
    for scale, ratio, seeds in lines:
        *shares, rounds = np.mean([judge(draw(shape, ratio * scale, seed), scale) for seed in seeds], axis=0)
        cells = [f"{scale:g}", f"{ratio:g}", *(f"{share:.1f} %" for share in shares), f"{rounds:.1f}"]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small map; prints the table, leaves the page alone")
    if parser.parse_args().quick:
        print(table((120, 160), ((5.0, 4.0, (1,)),)))
        return
    measured = table((1000, 2000), LINES)
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{measured}\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
