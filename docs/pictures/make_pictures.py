"""Draws the picture of README.md and of the front page: the significance map of a simulated survey, and its sources.

Usage: python docs/pictures/make_pictures.py
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib as mpl
import matplotlib.pyplot as plt
from PIL import Image

from cwt_dask import SurveyRun, run_survey
from cwt_dask.cwt.image import SkyImage
from cwt_dask.simulate import simulate

HERE = Path(__file__).resolve().parent
SHAPE, TILE = (300, 600), 150


def main() -> None:
    """Simulate, run, draw."""
    with TemporaryDirectory() as directory:
        survey = Path(directory) / "survey.fits"
        simulate(survey, SHAPE, seed=4, n_sources=60)
        run = run_survey(
            survey,
            Path(directory) / "run",
            n_scale=3,
            min_scale="0.12deg",
            step_scale=1.5,
            significance_threshold=5.0,
            tile_size=TILE,
            workers=2,
        )
        draw(run, HERE / "significance.png")


def draw(run: SurveyRun, path: Path) -> None:
    """Write the significance map with tiles' edges and sources to a PNG file."""
    mpl.use("Agg")
    figure = plt.figure(figsize=(9, 4.1), layout="constrained")
    image = SkyImage(run.significance.compute(), run.wcs, "significance (T/E)")
    axes = image.plot(fig=figure, vmin=0, vmax=10, cmap="magma")
    for edge in range(TILE, SHAPE[1], TILE):
        axes.axvline(edge - 0.5, color="white", linewidth=0.4, alpha=0.6)
    for edge in range(TILE, SHAPE[0], TILE):
        axes.axhline(edge - 0.5, color="white", linewidth=0.4, alpha=0.6)
    sources = run.catalogue
    axes.scatter(sources["x_peak"], sources["y_peak"], s=120, facecolors="none", edgecolors="cyan", linewidths=1.2)
    axes.set(xlabel="Galactic longitude", ylabel="Galactic latitude")
    axes.set_title(f"{len(sources)} sources in a simulated survey")
    figure.colorbar(axes.images[0], ax=axes, label="largest T/E over scales and iterations", shrink=0.8)
    drawn = BytesIO()
    figure.savefig(drawn, dpi=100)
    # Noise hardly compresses; with fewer colours the file is a third.
    Image.open(drawn).convert("RGB").quantize(48).save(path, optimize=True)


if __name__ == "__main__":
    main()
