"""How a run is carried out, and where; nothing here changes its result."""

from __future__ import annotations

from dataclasses import dataclass, field
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, get_args

from cwt_dask.config.settings import AutoYesNo, option_names
from cwt_dask.config.validation import LARGEST_SIZE, as_whole, check_choice, check_flag, shown
from cwt_dask.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

ClusterKind = Literal["local", "address", "slurm", "mpi", "kubernetes"]
LogFormat = Literal["text", "json"]


@dataclass(frozen=True)
class Cluster:
    """Which cluster carries out a run.

    Parameters
    ----------
    kind : {"local", "address", "slurm", "mpi", "kubernetes"}
        Worker processes of this machine; a scheduler that runs already; jobs of SLURM, or what its `srun` has started;
        what `mpirun` has started; pods.
    minimum : int or None
        Where workers come and go with the work (slurm, kubernetes): so many stay. None: all that there may be.
    plaintext : bool
        Agree to a scheduler without TLS where there is no other (kubernetes).
    options : dict
        Handed on as they are to what makes the cluster: `distributed.LocalCluster`, `distributed.Client`,
        `dask_jobqueue.SLURMCluster` or `SLURMRunner`, `dask_mpi.initialize`, `dask_kubernetes.operator.KubeCluster`.

    Raises
    ------
    SettingsError
        If a value is impossible.
    """

    kind: ClusterKind = "local"
    minimum: int | None = None
    plaintext: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_choice("cluster.kind", self.kind, get_args(ClusterKind))
        if self.minimum is not None:
            as_whole("cluster.minimum", self.minimum, 0)
        check_flag("cluster.plaintext", self.plaintext)
        if not isinstance(self.options, dict):
            raise SettingsError(f"cluster.options is {shown(self.options)}: it must be a table")

    @classmethod
    def parse(cls, given: Any) -> Cluster:
        """What a user says of the cluster: its kind, or a table of the fields above.

        Raises
        ------
        SettingsError
            If a field is unknown or impossible.
        """
        table = {"kind": given} if isinstance(given, str) else given
        if not isinstance(table, dict):
            raise SettingsError(f"cluster is {shown(given)}: it must be a kind of cluster, or a table with its kind")
        names = option_names(cls)
        if unknown := [name for name in table if name not in names]:
            raise SettingsError(
                f"unknown key {shown(unknown[0])} in cluster: it takes {', '.join(names)}; what the cluster takes "
                "itself stands in cluster.options"
            )
        return cls(**table)


@dataclass(frozen=True)
class Execution:
    """How a run is carried out; nothing here changes its result.

    Parameters
    ----------
    workers : int or None
        Worker processes of a local cluster; None takes one a core, 0 does everything in this process.
    threads : int
        Threads an FFT may use in each worker.
    memory_limit : int
        Bytes a worker may use.
    cluster : Cluster
        Where the workers are.
    scheduler : str or None
        Address of a Dask scheduler to use in place of a local cluster, such as "tls://host:8786".
    scheduler_file : str or None
        Name of a file with that address.
    keep_history : bool
        Keep the model of every iteration.
    fits : {"auto", "yes", "no"}
        Whether `maps.fits` is written; auto writes it for maps small enough to be handy.
    no_report : bool
        Leave `report.html` out.
    overwrite : bool
        Replace an existing run.
    quiet : bool
        Print errors only.
    log_format : {"text", "json"}
        What the command line prints while it runs: words for people, or a line of JSON an event.

    Raises
    ------
    SettingsError
        If a value is impossible.
    """

    workers: int | None = None
    threads: int = 1
    memory_limit: int = 4 * 2**30
    cluster: Cluster = field(default_factory=Cluster)
    scheduler: str | None = None
    scheduler_file: str | None = None
    keep_history: bool = False
    fits: AutoYesNo = "auto"
    no_report: bool = False
    overwrite: bool = False
    quiet: bool = False
    log_format: LogFormat = "text"

    def __post_init__(self) -> None:
        if self.workers is not None:
            as_whole("workers", self.workers, 0)
        as_whole("threads", self.threads, 1)
        as_whole("memory_limit", self.memory_limit, 1, LARGEST_SIZE)
        if not isinstance(self.scheduler, str | None):
            raise SettingsError(f"scheduler is {shown(self.scheduler)}: it must be an address such as tls://host:8786")
        if not isinstance(self.scheduler_file, str | PathLike | None):
            raise SettingsError(f"scheduler_file is {shown(self.scheduler_file)}: it must be the name of a file")
        check_choice("fits", self.fits, get_args(AutoYesNo))
        check_flag("keep_history", self.keep_history)
        check_flag("no_report", self.no_report)
        check_flag("overwrite", self.overwrite)
        check_flag("quiet", self.quiet)
        check_choice("log_format", self.log_format, get_args(LogFormat))
        if self.scheduler and self.scheduler_file:
            raise SettingsError("scheduler and scheduler_file are both given: give one of them")
        self._check_cluster()

    def _check_cluster(self) -> None:
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
    def fewest_workers(self) -> int:
        """Where workers come and go: so many stay."""
        return (self.workers or 0) if self.cluster.minimum is None else self.cluster.minimum
