"""Options of a call: what decides the result, what does not, and their checks.

It knows the kernels, and nothing of surveys, storage or clusters. `Settings` is the public name.
"""

from cwt_dask.config.settings import Settings

__all__ = ["Settings"]
