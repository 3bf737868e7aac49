"""Match detections in the Fermi-LAT survey of the Galactic plane with 3FHL, for the table of docs/match.md.

    python benchmarks/fermi.py fermi_survey.fits.gz gll_psch_v13.fit.gz

The files are not part of the project.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from astropy.table import Table

from cwt_dask import run_survey
from cwt_dask.inspection.match import match_run

PAGE = Path(__file__).parents[1] / "docs" / "match.md"
BEGIN, END = "<!-- fermi: begin -->\n", "<!-- fermi: end -->\n"
KERNELS = {"n_scale": 3, "min_scale": 1.2, "step_scale": 1.5}
FALSE_SOURCES, RADII, LATITUDE = (1.0, 10.0, 100.0), (0.1, 0.35), 5.0


def near_the_plane(catalogue: Path, cut: Path) -> Path:
    """Cut the catalogue before it is matched, so that what is found and what would be by chance are of the same."""
    rows = Table.read(catalogue, hdu=1)
    near = abs(rows["GLAT"]) < LATITUDE
    rows["Source_Name", "RAJ2000", "DEJ2000"][near].write(cut)
    return cut


def table(survey: Path, catalogue: Path) -> str:
    """One row a number of false sources that is asked for, and radius."""
    lines = [
        "| false asked for | radius (deg) | detections | associated | by chance | 3FHL sources found | by chance |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for false_sources in FALSE_SOURCES:
        with TemporaryDirectory() as folder:
            cut = near_the_plane(catalogue, Path(folder, "cut.fits"))
            run = run_survey(survey, Path(folder, "run"), false_sources=false_sources, workers=0, fits="no", **KERNELS)
            for radius in RADII:
                found = match_run(run, cut, radius)
                n, associated = len(found.nearest), int((found.nearest >= 0).sum())
                lines.append(
                    f"| {false_sources:g} | {radius:g} | {n} | {associated} ({associated / n:.0%}) "
                    f"| {found.chance_associated:.1%} | {(found.found & found.inside).sum()} of {found.inside.sum()} "
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
