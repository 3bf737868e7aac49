"""Count what noise alone makes: islands above T/E = 5 on flat backgrounds, by the counts expected a pixel.

Writes the table of docs/outputs.md; ``--quick`` prints it for a few pixels.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import scipy.ndimage

from cwt_dask import CWT, CWTData, CWTKernels

PAGE = Path(__file__).parents[1] / "docs" / "outputs.md"
BEGIN, END = "<!-- noise: begin -->\n", "<!-- noise: end -->\n"
KERNELS, THRESHOLD = CWTKernels(3, 1.2, 1.5), 5.0
LEVELS = (0.002, 0.01, 0.05, 0.28, 1.0, 3.0)


def islands(level: float, size: int, seed: int = 1) -> tuple[int, float]:
    """Number of islands on a map of noise, and the largest T/E."""
    counts = np.random.default_rng(seed).poisson(level, (size, size)).astype(np.float64)
    data = CWTData(counts, np.full(counts.shape, level), KERNELS.n_scale)
    CWT(KERNELS, significance_threshold=THRESHOLD).analyze(data)
    support = data.support_2d.data > 0
    return scipy.ndimage.label(support)[1], float(data.significance.data.max())


def table(size: int) -> str:
    """What came out, a line for each background."""
    lines = ["| counts a pixel | islands above 5 per million pixels | largest T/E |", "| --- | --- | --- |"]
    for level in LEVELS:
        n, largest = islands(level, size)
        lines.append(f"| {level:g} | {n * 1e6 / size**2:.0f} | {largest:.1f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few pixels; prints the table, leaves the page alone")
    quick = parser.parse_args().quick
    measured = table(200 if quick else 1500)
    print(measured)
    if not quick:
        before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{measured}\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
