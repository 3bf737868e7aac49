"""Pods of Kubernetes, through the operator of dask-kubernetes.

Never run on a cluster by this project, which has none: `docs/clusters.md` says what was tried.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import distributed

from cwt_dask.clusters.environment import WORKER_ENVIRONMENT, setting_of_dask
from cwt_dask.clusters.extras import load
from cwt_dask.errors import InputError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cwt_dask.clusters import Connect
    from cwt_dask.execution import Execution


def join(execution: Execution) -> Connect:
    """Check what can be checked before a pod is started.

    Raises
    ------
    InputError
        If dask-kubernetes is missing.
    SettingsError
        If the user has not agreed to a scheduler that speaks without TLS, which dask-kubernetes cannot have otherwise.
    """
    operator = load("dask_kubernetes.operator", "kubernetes")
    if not execution.cluster.plaintext:
        raise SettingsError(
            "cluster is kubernetes, where dask-kubernetes can only start schedulers without TLS: who reaches them has "
            "them execute anything. Take a DaskJob with certificates (deploy/kubernetes), or, where a network policy "
            "keeps all others away, set cluster.plaintext to true"
        )
    return partial(_pods, operator.KubeCluster, execution)


@contextmanager
def _pods(kind: Any, execution: Execution) -> Iterator[distributed.Client]:
    ours = {
        "env": WORKER_ENVIRONMENT | dict([setting_of_dask()]),
        "n_workers": execution.fewest_workers,
        "quiet": True,
    }
    try:
        cluster = kind(**{**ours, **execution.cluster.options})
    except TypeError as error:
        raise SettingsError(f"KubeCluster does not take these cluster.options: {error}") from error
    except Exception as error:
        # Its libraries raise errors of a dozen classes of their own.
        raise InputError(
            f"cannot start pods ({type(error).__name__}: {error}): is there an operator, and access to it?"
        ) from error
    with cluster, distributed.Client(cluster) as client:
        cluster.adapt(minimum=execution.fewest_workers, maximum=execution.workers)
        yield client
