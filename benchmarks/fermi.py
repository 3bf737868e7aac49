"""Match detections in the Fermi-LAT survey of the Galactic plane with 3FHL, for the table of docs/match.md.

    python benchmarks/fermi.py fermi_survey.fits.gz gll_psch_v13.fit.gz

The files are not part of the project.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from cwt_dask import run_survey
from cwt_dask.match import match_run

PAGE = Path(__file__).parents[1] / "docs" / "match.md"
BEGIN, END = "<!-- fermi: begin -->\n", "<!-- fermi: end -->\n"
KERNELS = {"n_scale": 3, "min_scale": 1.2, "step_scale": 1.5}
THRESHOLDS, RADII, LATITUDE = (3.0, 4.0, 5.0), (0.1, 0.35), 5.0


def table(survey: Path, catalogue: Path) -> str:
    """One row a threshold and radius."""
    lines = [
        "| T/E above | radius (deg) | detections | associated | by chance | 3FHL sources found | by chance |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for threshold in THRESHOLDS:
        with TemporaryDirectory() as folder:
            run = run_survey(
                survey, Path(folder, "run"), significance_threshold=threshold, workers=0, fits="no", **KERNELS
            )
            for radius in RADII:
                found = match_run(run, catalogue, radius)
                n, associated = len(found.nearest), int((found.nearest >= 0).sum())
                near = found.inside & (np.abs(found.counterparts.sky.galactic.b.deg) < LATITUDE)
                lines.append(
                    f"| {threshold:g} | {radius:g} | {n} | {associated} ({associated / n:.0%}) "
                    f"| {found.chance_associated:.1%} | {(found.found & near).sum()} of {near.sum()} "
                    f"| {found.chance_found:.1%} |"
                )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Match, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("survey", type=Path)
    parser.add_argument("catalogue", type=Path)
    arguments = parser.parse_args()
    measured = table(arguments.survey, arguments.catalogue)
    sys.stdout.write(measured)
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{measured}\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
