"""What Gammapy's TSMapEstimator finds on a survey, and how long it takes: for benchmarks/catalogue.py, --tsmap.

    python benchmarks/tsmap.py SURVEY WIDTH OUT

SURVEY is a FITS file with counts and BACKGROUND in one projection; WIDTH the point spread function's in pixels. Peaks
(y, x, square root of TS) above 3 go to OUT (NumPy), processor seconds to the screen. It needs Gammapy, and nothing of
this package.
"""

from __future__ import annotations

import argparse
import math
import sys
import time

import astropy.units as u
import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from gammapy.datasets import MapDataset
from gammapy.estimators import TSMapEstimator
from gammapy.estimators.utils import find_peaks
from gammapy.irf import EDispKernelMap, PSFMap
from gammapy.maps import Map, MapAxis, WcsGeom
from gammapy.modeling.models import PointSpatialModel, PowerLawSpectralModel, SkyModel

# As this package: no two peaks within two pixels, and none below.
APART, LEAST = 2, 3
# Half of the kernel's side in widths.
REACH = 5


def dataset(path: str, width: float) -> MapDataset:
    """One bin of energy, an exposure of 1, and a Gaussian."""
    with fits.open(path) as hdus:
        counts = hdus[0] if hdus[0].data is not None else hdus["COUNTS"]
        images, wcs = [hdu.data.astype(float)[np.newaxis] for hdu in (counts, hdus["BACKGROUND"])], WCS(counts.header)
    energy, true = (MapAxis.from_energy_edges([1, 10] * u.TeV, name=name) for name in ("energy", "energy_true"))
    geom = WcsGeom(wcs.celestial, images[0].shape[:0:-1], axes=[energy])
    data, background = (Map.from_geom(geom, data=image) for image in images)
    exposure = Map.from_geom(geom.as_energy_true, data=np.ones(images[0].shape), unit="cm2 s")
    pixel = abs(float(wcs.celestial.wcs.cdelt[0]))
    return MapDataset(
        counts=data,
        background=background,
        exposure=exposure,
        psf=PSFMap.from_gauss(true, sigma=width * pixel * u.deg),
        edisp=EDispKernelMap.from_diagonal_response(energy, true),
    )


def main() -> None:
    """Estimate, and write the peaks."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("survey")
    options.add_argument("width", type=float)
    options.add_argument("out")
    arguments = options.parse_args()
    given = dataset(arguments.survey, arguments.width)
    pixel = abs(float(given.counts.geom.wcs.wcs.cdelt[0])) * u.deg
    side = (2 * math.ceil(REACH * arguments.width) + 1) * pixel
    model = SkyModel(PowerLawSpectralModel(), PointSpatialModel())
    estimator = TSMapEstimator(model, kernel_width=side, selection_optional=None, sum_over_energy_groups=True, n_jobs=1)
    started = time.process_time()
    root_ts = estimator.run(given)["sqrt_ts"].sum_over_axes(keepdims=False)
    peaks = find_peaks(root_ts, threshold=LEAST, min_distance=APART * pixel)
    sys.stdout.write(f"{len(peaks)} peaks, {time.process_time() - started:.0f} s of processor time\n")
    np.save(arguments.out, np.column_stack([peaks["y"], peaks["x"], peaks["value"]]))


if __name__ == "__main__":
    main()
