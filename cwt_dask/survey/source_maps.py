"""Maps of `gtsrcmaps` as expected counts: planes at the edges of bands, times a spectrum, integrated over each band.

The integral is that of `gtmodel` and `gtlike`, so that counts are those to which the model was fitted: E dN/dE is taken
to be linear in ln E between the edges of a band (`FitUtils::pixelCounts_loglogQuad` of Fermitools; with
USE_LINEAR_QUADRATURE, and in the first Science Tools, dN/dE is linear in E). Of a power law it is larger than the
exact integral, by ((index - 1) ln(E2 / E1))**2 / 12 of it: 0.9 % at an index of 2.4 and ten bands a decade. Energy
dispersion, as of ``edisp_bins``, is not applied.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cwt_dask.survey.bands import MisfitError, ebounds_of
from cwt_dask.survey.choice import Chosen
from cwt_dask.survey.fits_plane import FitsPlane
from cwt_dask.survey.misfits import Plane
from cwt_dask.survey.spectra import SourceModel

_MEV = 1e6  # Of a TeV.


def as_counts(component: Plane, counts: Plane, chosen: Chosen, model: SourceModel | None) -> Plane:
    """Give a component of the background as expected counts: as it is, or integrated if it is a map of gtsrcmaps.

    Parameters
    ----------
    component, counts : FitsPlane
        Neither is open.
    chosen : Chosen
        The bands that are taken.
    model : SourceModel or None
        With the spectrum of the source that the component's HDU is named after.

    Raises
    ------
    SurveyError
        If it is such a map, and the spectrum or the bands cannot be used, or there is no model.
    """
    if component.n_bands != counts.n_bands + 1:
        return component
    if model is None:
        raise MisfitError(
            f"{component.where} has {component.n_bands} planes, one at each edge of the {counts.n_bands} bands of "
            f"{counts.where}, as gtsrcmaps writes maps that have still to be multiplied by a spectrum",
            "give its model, --source-model MODEL.xml, or the counts that gtmodel makes, outtype=CCUBE",
        )
    return SourceMap(component, counts, chosen, model)


class SourceMap(FitsPlane):
    """Expected counts in bands, of planes at their edges.

    Parameters
    ----------
    plane : FitsPlane
        The map, not yet open.
    counts : FitsPlane
        Whose bands they are.
    chosen : Chosen
        Those that are taken.
    model : SourceModel

    Raises
    ------
    SurveyError
        If the spectrum cannot be used.
    MisfitError
        If no energies are known, or they are others.
    """

    def __init__(self, plane: Plane, counts: Plane, chosen: Chosen, model: SourceModel) -> None:
        vars(self).update(vars(plane))
        self._plane = plane
        bins = chosen.bins
        if bins is None:
            raise MisfitError(
                f"{counts.where} does not say the energies of its bands, over which {plane.where} is integrated",
                "give counts of gtbin, with EBOUNDS",
            )
        if (own := ebounds_of(self._file.hdus)) is not None and own.same_energies(counts.bands) is False:
            raise MisfitError(
                f"{plane.where} has {own.kind}, but {counts.where} has {counts.bands.kind}",
                "give the counts that gtsrcmaps was given",
            )
        self.n_bands, self.bands, self.dtype = counts.n_bands, counts.bands, np.dtype(np.float64)
        edges = np.append(bins[:, 0], bins[-1, 1]) * _MEV
        # Per unit of ln E.
        self._spectrum = model.spectrum(plane.hdu, edges) * edges
        self._widths = np.diff(np.log(edges))
        self.spectrum = f"{model.kind(plane.hdu)} of {model.path}"  # For people.

    def open(self, planes: range, stack: ExitStack, scratch: Path | None = None) -> None:
        """Open the planes at the edges of the bands that are taken.

        Parameters
        ----------
        planes, stack, scratch
            As of `FitsPlane.open`, which says what is raised, too.
        """
        self._plane.open(range(planes.start, planes.stop + 1), stack, scratch)
        self.n_open = len(planes)

    def read(self, n_rows: int) -> list[NDArray[Any]]:
        """Read the next rows (y, x) of each band, in expected counts."""
        edges = [plane * value for plane, value in zip(self._plane.read(n_rows), self._spectrum, strict=True)]
        return [(low + high) * width / 2 for low, high, width in zip(edges[:-1], edges[1:], self._widths, strict=True)]
