"""Which energies count for how much: those of photons that a source's power law sends and the instrument records."""

from __future__ import annotations

import numpy as np

from cwt_dask.cwt.arrays import Bools, Floats
from cwt_dask.errors import InputError

# Steps an interval of two energies at which the power law is summed.
_STEPS = 64


def energy_weights(
    energies: Floats,
    edges: tuple[float, float],
    recorded: Floats,
    usable: Bools,
    *,
    band: tuple[float, float] | None,
    index: float,
) -> Floats:
    """Weights of profiles that are known at some energies; between them profiles are linear in the logarithm.

    Parameters
    ----------
    energies : ndarray
        Rising, (energy,), in TeV.
    edges : tuple of float
        From where to where the file has energies, in TeV.
    recorded : ndarray
        Exposure or effective area, (..., energy), in any unit; linear in the logarithm of energy between them.
    usable : ndarray
        (..., energy), False where the file has no profile.
    band : tuple of float or None
        Energies of the survey's counts; None for all of the file.
    index : float
        Of the power law E^-index of photons by energy.

    Returns
    -------
    ndarray
        (..., energy), with a sum of 1, or of 0 where nothing can be recorded.

    Raises
    ------
    InputError
        If none of the energies lies in the band.
    """
    first, last = band or edges
    low, high = max(edges[0], first), min(edges[1], last)
    if low > high or (low == high and edges[0] < edges[1] and first < last):
        raise InputError(
            f"its energies, from {edges[0]:.4g} to {edges[1]:.4g} TeV, and the survey's, from {first:.4g} to "
            f"{last:.4g} TeV, do not overlap: give that of the survey's energies"
        )
    nodes = np.log(energies)
    fine = np.linspace(np.log(low), np.log(high), _STEPS * len(nodes) + 1)
    fine = (fine[:-1] + fine[1:]) / 2
    hats = np.array([np.interp(fine, nodes, row) for row in np.eye(len(nodes))])
    # Photons by the logarithm of energy; scaled, so that no index makes them infinite.
    log_photons = (1 - index) * fine
    photons = np.exp(log_photons - log_photons.max())
    weights = np.where(usable, recorded @ ((hats * photons) @ hats.T), 0.0)
    total = weights.sum(axis=-1, keepdims=True)
    return np.asarray(np.divide(weights, total, out=np.zeros_like(weights), where=total > 0))
