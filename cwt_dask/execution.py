"""How a run is carried out: the public names of `cwt_dask.config.execution`."""

from cwt_dask.config.execution import Cluster, Execution

__all__ = ["Cluster", "Execution"]
