"""How a run is carried out, and where; nothing here changes its result."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any, ClassVar, Literal, get_args

from cwt_dask.config.declaration import Checked, declaration, option, option_names
from cwt_dask.config.settings import AutoYesNo
from cwt_dask.config.validation import Choice, Flag, Seconds, Size, Whole, instance, shown
from cwt_dask.errors import SettingsError

ClusterKind = Literal["local", "address", "slurm", "mpi", "kubernetes"]
LogFormat = Literal["text", "json"]


@declaration
class Cluster(Checked):
    """Which cluster carries out a run.

    Raises
    ------
    SettingsError
        If a value is impossible.

    Examples
    --------
    >>> from cwt_dask.execution import Cluster, Execution
    >>> cluster = Cluster("slurm", options={"queue": "long", "walltime": "02:00:00"})
    >>> Execution(cluster=cluster, workers=16).fewest_workers
    16
    """

    prefix: ClassVar[str] = "cluster."

    kind: ClusterKind = option(
        "local",
        Choice(get_args(ClusterKind)),
        "Worker processes of this machine; a scheduler that runs already; jobs of SLURM, or what its `srun` has "
        "started; what `mpirun` has started; pods.",
    )
    minimum: int | None = option(
        None, Whole(0), "Number of workers kept while there is no work (slurm, kubernetes); default: all."
    )
    plaintext: bool = option(
        False, Flag(), "Agree to a scheduler without TLS where there is no other choice (kubernetes)."
    )
    options: Mapping[str, Any] = option(
        dict,
        instance(dict, "a table"),
        "Passed as they are to what makes the cluster: `distributed.LocalCluster`, `distributed.Client`, "
        "`dask_jobqueue.SLURMCluster` or `SLURMRunner`, `dask_mpi.initialize`, `KubeCluster` of dask_kubernetes.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        # With these Dask would start, and nothing would ever be computed.
        least = dict.fromkeys(("threads_per_worker", "nthreads", "processes", "cores"), 1)
        least["n_workers"] = 1 if self.kind == "local" else 0
        for name in least.keys() & self.options.keys():
            if self.options[name] is not None:
                Whole(least[name]).check(f"cluster.options.{name}", self.options[name])


class _OfCluster(Choice):
    """A kind of cluster, or a table of the fields above."""

    def check(self, _: str, value: Any) -> Cluster:
        if isinstance(value, Cluster):
            return value
        table = {"kind": value} if isinstance(value, str) else value
        if not isinstance(table, dict):
            raise SettingsError(f"cluster is {shown(value)}: it must be a kind of cluster, or a table with its kind")
        names = option_names(Cluster)
        if unknown := [name for name in table if name not in names]:
            raise SettingsError(
                f"unknown key {shown(unknown[0])} in cluster: it takes {', '.join(names)}; what the cluster takes "
                "itself stands in cluster.options"
            )
        return Cluster(**table)

    def text(self, value: Any) -> str:
        return str(value.kind)


@declaration
class Execution(Checked):
    """How a run is carried out; nothing here changes its result.

    Raises
    ------
    SettingsError
        If a value is impossible.

    Examples
    --------
    >>> from cwt_dask.execution import Execution
    >>> Execution(workers=4, memory_limit="2GiB").memory_limit
    2147483648
    """

    workers: int | None = option(
        None,
        Whole(0),
        "Worker processes, or the most that a cluster may start; default: one per core; 0: this process does all.",
        metavar="N",
    )
    threads: int = option(1, Whole(1), "Threads that an FFT may use in each worker.")
    memory_limit: int = option(4 * 2**30, Size(), "Memory that a worker may use: bytes, or text such as 4GiB.")
    cluster: Cluster = option(
        Cluster,
        _OfCluster(get_args(ClusterKind)),
        "Where the workers are; address: at `scheduler`. More of each in [cluster] of the configuration file.",
    )
    scheduler: str | None = option(
        None,
        instance(str, "an address such as tls://host:8786"),
        "Address of a Dask scheduler to use, such as tls://host:8786.",
        metavar="ADDRESS",
    )
    scheduler_file: str | None = option(
        None, instance(str | PathLike, "the name of a file"), "File with the scheduler's address.", metavar="FILE"
    )
    stall_timeout: float | None = option(
        None,
        Seconds(),
        "Time for which nothing may go on (no worker, or none that computes) before the run ends, to be resumed: "
        "seconds, or text such as 10min; default: 5min, and where others start the workers and none is there, 1h "
        "(address) or 1d (jobs, pods).",
        metavar="TIME",
    )
    keep_history: bool = option(False, Flag(), "Keep the model and support of every iteration.")
    fits: AutoYesNo = option(
        "auto", Choice(get_args(AutoYesNo)), "Write `maps.fits`; auto: if the map is small enough for it to be handy."
    )
    no_report: bool = option(False, Flag(), "Leave `report.html` out.")
    allow_versions: bool = option(
        False,
        Flag(),
        "Go on with a run whose tiles were done under other versions of libraries, which may change last bits; the "
        "certificate says so.",
    )
    overwrite: bool = option(False, Flag(), "Replace an existing run.")
    quiet: bool = option(False, Flag(), "Print nothing but errors.")
    log_format: LogFormat = option(
        "text", Choice(get_args(LogFormat)), "Print text for people, or a line of JSON for each event."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scheduler and self.scheduler_file:
            raise SettingsError("scheduler and scheduler_file are both given: give one of them")
        kind, given = self.cluster.kind, self.scheduler or self.scheduler_file
        if kind == "address" and not given:
            raise SettingsError("cluster is address: give the scheduler to use, by scheduler or scheduler_file")
        if kind != "address" and given:
            raise SettingsError(f"cluster is {kind}, and a scheduler is given, too: give one of them")
        if kind not in ("local", "address") and self.workers == 0:
            raise SettingsError(f"cluster is {kind} and workers is 0: leave one of them out")
        if self.workers and (self.cluster.minimum or 0) > self.workers:
            raise SettingsError(
                f"cluster.minimum is {self.cluster.minimum}: it must be at most workers, {self.workers}"
            )

    @property
    def worker_limit(self) -> int:
        """Bytes that each worker may take: what `cluster.options` give it, else `memory_limit`.

        Raises SettingsError if they give it no size.
        """
        options = self.cluster.options
        given = {"cluster.options.memory_limit": options.get("memory_limit")}
        if isinstance(of_workers := options.get("worker_options"), Mapping):
            given["cluster.options.worker_options.memory_limit"] = of_workers.get("memory_limit")
        limits = [
            int(Size().check(name, value))
            for name, value in given.items()
            # For Dask these are no limit, one that it chooses, and a share of the machine's memory.
            if value not in (None, 0, "0", "auto") and not (isinstance(value, float) and 0 < value <= 1)
        ]
        if "memory" in options:
            # Of a job, for its workers together.
            limits.append(int(Size().check("cluster.options.memory", options["memory"])) // options.get("processes", 1))
        return min(limits, default=self.memory_limit)

    @property
    def fewest_workers(self) -> int:
        """Number of workers kept where they come and go with the work."""
        return (self.workers or 0) if self.cluster.minimum is None else self.cluster.minimum
