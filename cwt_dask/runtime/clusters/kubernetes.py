"""Pods of Kubernetes, through the operator of dask-kubernetes.

Never run on a cluster by this project, which has none: `docs/clusters.md` names what was tried.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import distributed

from cwt_dask.config.execution import Execution
from cwt_dask.errors import CwtDaskError, InputError, SettingsError
from cwt_dask.runtime.clusters.address import OWN_SECONDS, await_workers
from cwt_dask.runtime.clusters.environment import MEMORY_OF_A_JOB, WORKER_ENVIRONMENT, setting_of_dask
from cwt_dask.runtime.clusters.extras import Connect, load
from cwt_dask.runtime.progress import Reporter


def prepare_pods(execution: Execution, progress: Reporter) -> Connect:
    """Check what can be checked before a pod is started; raises InputError and SettingsError."""
    operator = load("dask_kubernetes.operator", "kubernetes")
    if not execution.cluster.plaintext:
        raise SettingsError(
            "cluster is kubernetes, where dask-kubernetes can only start schedulers without TLS: these execute what "
            "anyone sends them. Use a DaskJob with certificates (deploy/kubernetes), or, where a network policy keeps "
            "all others away, set cluster.plaintext to true"
        )
    if not execution.workers or "image" not in execution.cluster.options:
        raise SettingsError(
            "cluster is kubernetes: give workers, as many as there may be, and in cluster.options the image that they "
            "run (deploy/container)"
        )
    return partial(_pods, operator.KubeCluster, execution, progress)


@contextmanager
def _pods(kind: Any, execution: Execution, progress: Reporter) -> Iterator[distributed.Client]:
    options = dict(execution.cluster.options)
    memory = {"memory": str(int(execution.memory_limit * MEMORY_OF_A_JOB))}
    ours = {
        "n_workers": execution.fewest_workers,
        "worker_command": ["dask", "worker", "--nthreads", "1", "--memory-limit", str(execution.memory_limit)],
        "resources": {"requests": memory | {"cpu": "1"}, "limits": memory},
        "env": WORKER_ENVIRONMENT | dict([setting_of_dask()]) | options.pop("env", {}),
        "quiet": True,
    }
    with ExitStack() as stack:
        try:
            cluster = stack.enter_context(kind(**ours | options))
            client = stack.enter_context(distributed.Client(cluster, set_as_default=False))
        except CwtDaskError:
            raise
        except TypeError as error:
            raise SettingsError(f"KubeCluster does not take these cluster.options: {error}") from error
        except Exception as error:
            # Its libraries raise errors of a dozen classes of their own.
            raise InputError(
                f"cannot start pods ({type(error).__name__}: {error}): is there an operator, and access to it?"
            ) from error
        cluster.adapt(minimum=execution.fewest_workers, maximum=execution.workers)
        await_workers(client, "the cluster of pods", OWN_SECONDS, progress.message)
        yield client
