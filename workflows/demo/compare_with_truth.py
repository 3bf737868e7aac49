"""Compare a run's catalogue with the sources that were simulated.

Usage: python compare_with_truth.py RUN_DIR TRUTH.ecsv
"""

from __future__ import annotations

import sys
from itertools import pairwise

import numpy as np
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.table import Table

from cwt_dask import SurveyRun

RADIUS = 0.35 * units.deg
COUNTS = (20, 50, 100, 200, 1000, np.inf)


def main(run_dir: str, truth_file: str) -> None:
    """Print how many true sources were found, by their counts, and how many detections are none of them."""
    run = SurveyRun.open(run_dir)
    truth = Table.read(truth_file, format="ascii.ecsv")
    true, found = (SkyCoord(table["glon"], table["glat"], frame="galactic") for table in (truth, run.catalogue))
    is_found = nearest(true, found) < RADIUS
    is_true = nearest(found, true) < RADIUS
    print(f"\nTrue sources with a detection within {RADIUS}:")
    for low, high in pairwise(COUNTS):
        among = (truth["counts"] >= low) & (truth["counts"] < high)
        print(f"  {low:>5} to {high:>5} counts: {np.count_nonzero(is_found & among):>4} of {np.count_nonzero(among)}")
    print(f"Detections: {len(found)}, of which {np.count_nonzero(~is_true)} have no true source within {RADIUS}")
    noise = max(run.catalogue["expected_false"], default=0.0)
    print(f"(noise alone is expected to make {noise:.2g} rows as good as the last one; the rest of what was looked at,")
    print(f" {len(run.candidates)} rows, is in {run.files.candidates.name})")
    print(f"\nThe results are in {run.files.path}; look at {run.files.report}")


def nearest(positions: SkyCoord, others: SkyCoord) -> units.Quantity:
    """Distance from each position to the nearest of the others."""
    if len(others) == 0:
        return np.full(len(positions), np.inf) * units.deg
    return positions.match_to_catalog_sky(others)[1]


if __name__ == "__main__":
    main(*sys.argv[1:])
