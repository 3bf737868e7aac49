"""Realistic gamma-ray surveys, drawn from a seed and written piece by piece."""

from cwt_dask.simulate.flat import Sky, simulate
from cwt_dask.simulate.sphere import simulate_sphere

__all__ = ["Sky", "simulate", "simulate_sphere"]
