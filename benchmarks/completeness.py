"""Draw the second picture of README.md: completeness by counts, beside that of Gammapy's TS map.

On the sky of SCIENCE with a plane and clouds, of which peaks of Gammapy's TSMapEstimator are there: of both the best
rows are taken, as many as have ten false ones.

python benchmarks/completeness.py --science SCIENCE
"""

from __future__ import annotations

import importlib.util
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from common import parser
from injected import PSF
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial import cKDTree

from cwt_dask import run_survey
from cwt_dask.assess.summary import share_interval

PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "completeness.png"
SKY, SEED, FALSE, BINS = "struct", 2004, 10, 9


def found(places: NDArray[np.float64], score: NDArray[np.float64], truth: Any) -> NDArray[np.bool_]:
    """Which true sources the best rows have found when `FALSE` of these are none."""
    tree, radius = cKDTree(np.column_stack([truth["y"], truth["x"]])), 2.0
    used, n_false = np.zeros(len(truth), bool), 0
    for k in np.argsort(-score, kind="stable"):
        near = [j for j in tree.query_ball_point(places[k], radius) if not used[j]]
        if near:
            used[min(near, key=lambda j: float(np.hypot(*(tree.data[j] - places[k]))))] = True
        else:
            n_false += 1
            if n_false > FALSE:
                break
    return used


def draw(curves: dict[str, NDArray[np.bool_]], counts: NDArray[np.float64], path: Path) -> None:
    """Write the picture."""
    mpl.use("Agg")
    figure = plt.figure(figsize=(9, 4.1), layout="constrained")
    axes = figure.subplots()
    edges = np.quantile(counts, np.linspace(0, 1, BINS + 1))
    place = np.clip(np.searchsorted(edges, counts, side="right"), 1, BINS)
    middle = np.array([np.exp(np.log(counts[place == k]).mean()) for k in range(1, BINS + 1)])
    for shift, colour, (name, of) in zip((0.98, 1.02), ("#0b63b0", "#d0342c"), curves.items(), strict=True):
        shares = np.array([of[place == k].mean() for k in range(1, BINS + 1)])
        ends = np.array(
            [share_interval(int(of[place == k].sum()), int((place == k).sum())) for k in range(1, BINS + 1)]
        )
        axes.errorbar(middle * shift, shares, np.abs(ends.T - shares), color=colour, marker="o", capsize=2, label=name)
    axes.set(xscale="log", xlabel="counts of the source", ylabel="share found", ylim=(-0.02, 1.05))
    axes.set_title(f"Sources found at {FALSE} false rows: a simulated plane with clouds, {len(counts)} sources")
    axes.grid(alpha=0.25)
    axes.legend(loc="lower right")
    figure.savefig(drawn := BytesIO(), dpi=100)
    colours = Image.open(drawn).convert("RGB")
    colours.quantize(64, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    """Run, judge, draw."""
    options = parser(__doc__)
    options.add_argument("--science", type=Path, required=True, help="skies.py and tsmap_peaks.npz")
    arguments = options.parse_args()
    spec = importlib.util.spec_from_file_location("science_skies", arguments.science / "skies.py")
    skies = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(skies)
    shape = (150, 200) if arguments.quick else skies.SHAPE
    counts, background, truth = skies.make(SKY, SEED, shape, 12 if arguments.quick else skies.NSRC)
    with TemporaryDirectory() as folder:
        survey = Path(folder) / "survey.fits"
        skies.write(survey, counts, background)
        run = run_survey(survey, Path(folder) / "run", psf=PSF, workers=0, fits="no", no_report=True)
        rows = {"score": [], "y_centroid": [], "x_centroid": []}
        for table in (run.catalogue, run.candidates):
            for name, values in rows.items():
                values.append(np.asarray(table[name]))
    ours = {name: np.concatenate(values) for name, values in rows.items()}
    y, x, root_ts = np.load(arguments.science / "tsmap_peaks.npz")[SKY].T
    curves = {
        "cwt_dask, by score": found(np.column_stack([ours["y_centroid"], ours["x_centroid"]]), ours["score"], truth),
        "Gammapy's TSMapEstimator": found(np.column_stack([y, x]), root_ts, truth),
    }
    print({name: int(of.sum()) for name, of in curves.items()})
    draw(
        curves,
        np.asarray(truth["counts"]),
        Path(arguments.scratch) / "completeness.png" if arguments.quick else PICTURE,
    )


if __name__ == "__main__":
    main()
