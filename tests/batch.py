"""A real SLURM on this machine, for the tests: munge, one controller, one node, one partition."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
COMMANDS = ("sbatch", "srun", "sinfo", "squeue", "scontrol", "scancel")
# What is waited for comes, or never: how fast a machine is, and what else it does, no test asks.
SECONDS = 900
SILENT = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}

CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
# A job that is requeued waits for as long as its old credential lives: two minutes, if nothing is printed.
AuthInfo=cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=100000
KillWait=20
MinJobAge=300
SlurmctldPort={port}
SlurmdPort={node_port}
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=16000 State=UNKNOWN
PartitionName=tests Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


def missing():
    """What a SLURM on this machine would need and is not there."""
    found = [
        name for name in (*DAEMONS, *COMMANDS) if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None
    ]
    return found + ([] if os.geteuid() == 0 else ["root's rights"])


@contextmanager
def slurm(place: Path):
    """SLURM for the length of a `with` block: its commands find it by the variable SLURM_CONF that this yields."""
    host = socket.gethostname().split(".")[0]
    (place / "state").mkdir()
    (place / "spool").mkdir()
    (place / "cgroup").mkdir()
    configuration = place / "slurm.conf"
    configuration.write_text(CONFIGURATION.format(host=host, place=place, port=free_port(), node_port=free_port()))
    (place / "cgroup.conf").write_text(f"CgroupPlugin=cgroup/v1\nCgroupMountpoint={place / 'cgroup'}\n")
    environment = os.environ | {"SLURM_CONF": str(configuration), "PATH": f"{os.environ['PATH']}:/usr/sbin"}
    daemons = []
    # Snakemake takes all of SLURM's variables from its jobs: they look where SLURM does.
    default = Path("/etc/slurm/slurm.conf")
    if default.is_symlink():
        # Of tests that were killed.
        default.unlink()
    default.symlink_to(configuration)
    try:
        if not munge_answers():
            subprocess.run(["install", "-d", "-o", "munge", "-g", "munge", "/run/munge"], check=True)
            # By force: one that was killed leaves its socket behind.
            as_munge = ["runuser", "-u", "munge", "--", "munged", "--foreground", "--force"]
            daemons.append(subprocess.Popen(as_munge, env=environment, **SILENT))
            wait_for(munge_answers, "munge")
        daemons += [subprocess.Popen([name, "-D"], env=environment, **SILENT) for name in ("slurmctld", "slurmd")]
        wait_for(lambda: "idle" in output_of(environment, "sinfo", "--noheader", "--format=%t"), "SLURM")
        yield {"SLURM_CONF": str(configuration)}
    finally:
        default.unlink()
        try:
            end_jobs(environment)
        finally:
            # One by one: a node that ends says so to its controller, and both ask munge.
            for daemon in reversed(daemons):
                daemon.terminate()
                daemon.wait(SECONDS)


def end_jobs(environment):
    """Cancel what there is and wait until it has gone, killed after KillWait seconds."""
    subprocess.run(["scancel", "--user", getpass.getuser()], env=environment, check=False)
    wait_for(lambda: not output_of(environment, "squeue", "--noheader"), "the end of all jobs")


def munge_answers():
    return subprocess.run(["munge", "--no-input"], check=False, **SILENT).returncode == 0


def output_of(environment, *command):
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout


def wait_for(condition, what, seconds=SECONDS):
    """Wait until a condition holds; the error names what was waited for."""
    patience = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < patience, f"{what} did not come in {seconds} s"
        time.sleep(0.2)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
