"""What is checked of a cluster before it is there. Runs on real ones: tests/cluster."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import dask
import pytest
from dask_kubernetes.operator import KubeCluster
from reporters import Messages
from skies import poisson_sky, write_survey

from cwt_dask import run_survey
from cwt_dask.config.execution import Cluster
from cwt_dask.config.options import Options
from cwt_dask.errors import InputError, InterruptedRun, RunError, SettingsError
from cwt_dask.runtime.clusters import address, kubernetes, mpi, slurm, srun
from cwt_dask.runtime.clusters.choice import prepare_cluster
from cwt_dask.runtime.clusters.extras import load, options_of, starting
from cwt_dask.runtime.clusters.local import local_client
from cwt_dask.runtime.progress import reporter

PODS = {"kind": "kubernetes", "plaintext": True}


def execution(**options):
    return Options.parse(options).execution


@pytest.mark.parametrize(
    ("given", "fragment"),
    [
        ({"cluster": 3}, "cluster is 3: it must be a kind of cluster, or a table with its kind"),
        ({"cluster": "mpi", "scheduler": "tls://host:1"}, "cluster is mpi, and a scheduler is given, too"),
        ({"cluster": "mpi", "workers": 0}, "cluster is mpi and workers is 0: leave one of them out"),
        ({"cluster": {"minimum": 3}, "workers": 2}, "cluster.minimum is 3: it must be at most workers, 2"),
    ],
)
def test_clusters_that_cannot_be_are_refused(given, fragment):
    with pytest.raises(SettingsError, match="^" + fragment.replace(".", r"\.")):
        Options.parse(given)


def test_a_scheduler_is_a_cluster_by_its_address_and_all_workers_stay_unless_a_minimum_is_given():
    for given in ({"scheduler": "tls://host:8786"}, {"scheduler_file": "file"}):
        assert execution(**given).cluster == Cluster("address")
    assert execution(cluster="slurm", workers=8).fewest_workers == 8
    assert execution(cluster={"kind": "slurm", "minimum": 0}, workers=8).fewest_workers == 0
    assert execution(cluster="slurm").fewest_workers == 0


def test_what_interrupts_a_start_is_no_wrong_call(monkeypatch):
    with pytest.raises(InterruptedRun), options_of("DaskMPI"):
        raise InterruptedRun
    monkeypatch.setattr("distributed.Client", Mock(side_effect=InterruptedRun))
    with pytest.raises(InterruptedRun), address._connected("tls://127.0.0.1:8786", "the scheduler", {"security": None}):
        pass


def test_of_a_library_that_is_missing_the_extra_is_named():
    with pytest.raises(InputError, match=r"cluster is mpi, which needs dask_no_mpi .*: pip install 'cwt_dask\[mpi\]'"):
        load("dask_no_mpi.core", "mpi")


def test_options_that_a_library_refuses_are_a_wrong_call():
    refused = "LocalCluster does not take these cluster.options: .*colour"
    with pytest.raises(SettingsError, match=refused), local_client(1, 2**30, colour="red"):
        pass


def test_what_went_wrong_first_is_said_where_closing_what_could_not_start_goes_wrong_too():
    with (  # noqa: PT012 - what raises is the end
        pytest.raises(InputError, match=r"^workers cannot start here \(OSError: .*Too many open files\): close some$"),
        starting("LocalCluster", "workers", "close some", has_options=False),
    ):
        try:
            raise RuntimeError("Nanny failed to start.") from OSError(24, "Too many open files")
        finally:
            raise AssertionError("Status.init")


def test_workers_that_end_as_they_start_may_lack_a_guard():
    with (
        pytest.raises(InputError, match="^workers end as they start: "),
        starting("LocalCluster", "workers", "close some", has_options=False),
    ):
        raise RuntimeError("the nanny failed to start worker process")


@pytest.mark.parametrize(
    ("error", "late", "kind", "message"),
    [
        (ValueError("early"), False, SettingsError, "^Runner does not take these cluster.options: early"),
        (ValueError("late"), True, RunError, "^Runner has failed .ValueError: late.: give the same command again"),
        (RuntimeError("no nanny"), False, RunError, "^Runner has failed .RuntimeError: no nanny"),
    ],
)
def test_errors_after_the_start_are_not_of_options(error, late, kind, message):
    with pytest.raises(kind, match=message), options_of("Runner") as accepted:  # noqa: PT012 - what raises is the end
        if late:
            accepted.set()
        raise error


# --- SLURM ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("walltime", "seconds"),
    [("90", 5400), ("90:30", 5430), ("02:00:00", 7200), ("1-00", 86400), ("1-02:30", 95400), ("2-00:00:10", 172810)],
)
def test_workers_end_before_their_walltime(walltime, seconds):
    options = dict(zip(*[iter(slurm.lifetime_options(walltime))] * 2, strict=True))
    lifetime, stagger = (float(options[name].removesuffix("s")) for name in ("--lifetime", "--lifetime-stagger"))
    assert lifetime == pytest.approx(0.85 * seconds, abs=1)
    assert 0 < stagger < seconds - lifetime


def test_what_is_no_walltime_is_refused():
    with pytest.raises(SettingsError, match="cluster.options.walltime is soon: it must look like 02:00:00"):
        slurm.lifetime_options("soon")


@pytest.mark.usefixtures("played")
def test_what_jobs_need_is_checked_first(monkeypatch, tmp_path):
    with pytest.raises(InputError, match="job scripts cannot name .*my runs: choose a directory without blanks"):
        prepare_cluster(execution(cluster="slurm", workers=2), tmp_path / "my runs" / "run")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="there is no sbatch here"):
        prepare_cluster(execution(cluster="slurm", workers=2), tmp_path / "run")


@pytest.fixture
def refusing(played):
    """A SLURM that refuses all jobs; the script of the last one. A real one is in tests/cluster/test_slurm.py."""
    # Its defaults are there before a test sets others for a while.
    load("dask_jobqueue.slurm", "slurm")
    return played(sbatch="cat > $0.script; echo 'sbatch: error: invalid partition' >&2; exit 1") / "sbatch.script"


def refused_script(refusing, tmp_path, **options):
    connect = prepare_cluster(execution(**options), tmp_path / "run")
    refused = "SLURM takes no job with these cluster.options: .*invalid partition"
    with pytest.raises(InputError, match=refused), connect():
        pass
    return refusing.read_text()


def test_what_a_job_asks_for(refusing, tmp_path):
    options = {"walltime": "00:10:00", "interface": "lo", "job_extra_directives": ["--constraint=cpu"]}
    cluster = {"kind": "slurm", "options": options}
    script = refused_script(refusing, tmp_path, cluster=cluster, workers=2, memory_limit="1000MiB")
    for line in ("--mem=1200M", "-t 00:10:00", "--constraint=cpu", "--cpus-per-task=1"):
        assert f"#SBATCH {line}\n" in script
    for word in ("--memory-limit 0.98GiB", "--lifetime 510s", "--protocol tls://", "--dashboard-address 127.0.0.1:0"):
        assert word in script
    assert "export DASK_INTERNAL_INHERIT_CONFIG=" in script
    # The script names the file of the run's key, which is removed.
    assert "PRIVATE KEY" not in script
    assert not list(tmp_path.glob(".*"))


def test_what_the_site_has_configured_is_kept(refusing, tmp_path):
    site = {"walltime": "01:00:00", "job-script-prologue": ["module load cwt"], "memory": "2000MiB"}
    with dask.config.set({f"jobqueue.slurm.{name}": value for name, value in site.items()}):
        script = refused_script(refusing, tmp_path, cluster="slurm", workers=2)
    for line in ("module load cwt", "#SBATCH --mem=2400M"):
        assert f"\n{line}\n" in script
    assert "--lifetime 3060s" in script


def test_scratch_of_a_job_is_its_users_alone_and_removed_with_it(refusing, tmp_path):
    near = tmp_path / "near"
    near.mkdir()
    cluster = {"kind": "slurm", "options": {"local_directory": str(near)}}
    script = refused_script(refusing, tmp_path, cluster=cluster, workers=2)
    assert '--local-directory "$CWT_DASK_SCRATCH"' in script
    lines = [line for line in script.splitlines() if "CWT_DASK_SCRATCH" in line and "--local-directory" not in line]
    shown = 'stat --format %a "$CWT_DASK_SCRATCH"; cd "$CWT_DASK_SCRATCH"; touch file; pwd'
    done = subprocess.run(["/bin/bash", "-c", "\n".join([*lines, shown])], capture_output=True, text=True, check=True)
    mode, where = done.stdout.split()
    assert (mode, Path(where).parent) == ("700", near)
    assert not list(near.iterdir())


@pytest.mark.usefixtures("refusing")
def test_a_site_has_no_scheduler_end_that_waits(tmp_path, monkeypatch):
    limits, found = [f"distributed.scheduler.{name}-timeout" for name in ("idle", "no-workers")], []

    def start(**_):
        found.extend(map(dask.config.get, limits))
        raise OSError(98, "Address already in use")

    monkeypatch.setattr(slurm, "careful", lambda _: start)
    connect = prepare_cluster(execution(cluster="slurm", workers=1), tmp_path / "run")
    refused = (
        r"^a scheduler cannot start here \(OSError: .*already in use\): mend that, and give the same command again$"
    )
    with dask.config.set(dict.fromkeys(limits, "1s")), pytest.raises(InputError, match=refused), connect():
        pass
    assert found == [None, None]


# dask-jobqueue leaves a scheduler behind that it does not close.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("refusing")
def test_options_that_slurm_clusters_refuse_are_a_wrong_call(tmp_path):
    cluster = {"kind": "slurm", "options": {"colour": "red"}}
    connect = prepare_cluster(execution(cluster=cluster, workers=2), tmp_path / "run")
    with pytest.raises(SettingsError, match="SLURMCluster does not take these cluster.options: .*colour"), connect():
        pass


@pytest.fixture
def step(monkeypatch, played):  # noqa: ARG001 - without other variables
    """A task of a step of SLURM. Real ones are in tests/cluster."""
    for name, value in {"JOB_ID": "7", "STEP_ID": "0", "STEP_NUM_TASKS": "4", "NTASKS": "4", "PROCID": "1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    return monkeypatch


def test_two_tasks_are_too_few(step, tmp_path):
    step.setenv("SLURM_NTASKS", "2")
    with pytest.raises(InputError, match="srun has started 2 tasks: start at least 3"):
        prepare_cluster(execution(cluster="slurm"), tmp_path / "run")


def test_waiting_for_tasks_that_share_no_files_ends(step, tmp_path):
    step.setattr(srun, "SHARED_SECONDS", 0.1)
    connect = prepare_cluster(execution(cluster="slurm"), tmp_path / "run")
    refused = "certificate.json, which one task writes for all, does not appear: do they share that directory"
    with pytest.raises(InputError, match=refused), connect():
        pass


@pytest.fixture
def rendezvous(step, tmp_path):  # noqa: ARG001 - of that step
    """The directory in which the tasks of this step meet, with the certificate that one has made."""
    found = srun._rendezvous(tmp_path)
    srun._make_certificate(found)
    return found


def test_only_the_user_can_read_the_key_of_a_step(rendezvous, step, tmp_path):
    assert rendezvous == tmp_path / ".cwt-dask-0.7.0.0"
    assert stat.S_IMODE(rendezvous.stat().st_mode) == 0o700
    assert "PRIVATE KEY" in srun._certificate(rendezvous)["distributed.comm.tls.client.key"]
    step.setenv("SLURM_RESTART_COUNT", "1")
    assert srun._rendezvous(tmp_path) != rendezvous


def test_only_certificates_are_taken_from_its_file(rendezvous):
    file = rendezvous / "certificate.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"distributed.worker.preload": ["print('owned')"]}))
    assert all("comm" in name for name in srun._certificate(rendezvous))


@pytest.mark.parametrize("wrong", ["mode", "owner", "link"])
def test_files_that_others_may_have_written_are_not_read(rendezvous, wrong, monkeypatch):
    if wrong == "mode":
        rendezvous.chmod(0o755)
    elif wrong == "owner":
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    else:
        moved = rendezvous.rename(rendezvous.with_name("elsewhere"))
        rendezvous.symlink_to(moved)
    with pytest.raises(InputError, match="belongs to another user, or others can read it: remove it"):
        srun._certificate(rendezvous)


# --- the others -------------------------------------------------------------------------------------------------------


def test_one_process_is_too_few_for_mpi(monkeypatch, tmp_path):
    # A real mpirun is in tests/cluster/test_mpi.py.
    one = SimpleNamespace(COMM_WORLD=SimpleNamespace(Get_size=lambda: 1, Get_rank=lambda: 0))
    monkeypatch.setattr(mpi, "load", lambda *_: one)
    with pytest.raises(InputError, match="cluster is mpi, and the number of processes is 1: start at least 3"):
        prepare_cluster(execution(cluster="mpi"), tmp_path / "run")


def warnings_of(**options):
    """Messages about a cluster that is prepared."""
    progress = Messages()
    prepare_cluster(execution(**options), Path("run"), progress)
    return progress.texts


@pytest.mark.parametrize("variable", ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"])
def test_processes_of_mpi_without_a_cluster_of_mpi_are_warned_of(monkeypatch, variable):
    for n, warned in (("4", True), ("1", False), ("", False)):
        monkeypatch.setenv(variable, n)
        found = warnings_of()
        assert bool(found) == warned == ("MPI has started 4 processes" in "".join(found))
        assert warned == ("--cluster mpi" in "".join(found))


@pytest.mark.parametrize("where", [{"scheduler": "tls://a:1"}, {"cluster": "mpi"}])
def test_a_number_of_workers_that_is_ignored_is_warned_of(monkeypatch, where):
    monkeypatch.setattr(mpi, "prepare_rank", lambda *_: None)
    (warning,) = warnings_of(workers=4, **where)
    assert warning.startswith("warning: workers is 4, which is ignored: workers are all ")
    assert warnings_of(**where) == warnings_of(workers=4) == []


@pytest.mark.parametrize("workers", [None, 2])
def test_what_pods_need_is_checked_first(tmp_path, workers):
    with pytest.raises(SettingsError, match="give workers, as many as there may be, and in cluster.options the image"):
        prepare_cluster(execution(cluster=PODS, workers=workers), tmp_path / "run")


def test_pods_that_cannot_be_started_are_a_wrong_call(tmp_path):
    # In a process of its own: dask-kubernetes leaves threads behind.
    table = '[cluster]\nkind = "kubernetes"\nplaintext = true\noptions.image = "cwt-dask:0.1.0"\n'
    (tmp_path / "pods.toml").write_text(table)
    python = "from cwt_dask.cli.commands import main; raise SystemExit(main())"
    words = [sys.executable, "-c", python, "run", "absent.fits", "run", "--config=pods.toml", "--workers=2"]
    variables = os.environ | {"KUBECONFIG": str(tmp_path / "absent"), "HOME": str(tmp_path)}
    done = subprocess.run(words, cwd=tmp_path, env=variables, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    # Text of dask-kubernetes, when a process ends that could not reach Kubernetes, comes after.
    message = "cannot start pods (ValueError: Unable to find valid credentials): is there an operator"
    assert done.stderr.startswith(f"cwt-dask: {message}")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        (KubeCluster, SettingsError, "KubeCluster does not take these cluster.options: .*colour"),
        (Mock(side_effect=KeyError("no operator")), InputError, "cannot start pods .KeyError: 'no operator'.: is"),
        (Mock(side_effect=InterruptedRun("a signal")), InterruptedRun, "^a signal$"),
    ],
)
def test_errors_of_dask_kubernetes_are_a_wrong_call(kind, error, message):
    cluster = PODS | {"options": {"colour": "red"}}
    with pytest.raises(error, match=message), kubernetes._pods(kind, execution(cluster=cluster, workers=2), Messages()):
        pass


# --- secrets ----------------------------------------------------------------------------------------------------------


def test_nothing_secret_is_written_to_files_or_logs(client, tmp_path, monkeypatch, capsys):
    name, secret = "AWS_SECRET_ACCESS_KEY", "whisper-1"
    monkeypatch.setenv(name, secret)
    survey = write_survey(tmp_path / "survey.fits", *poisson_sky((60, 90), seed=1))
    settings = {"n_scale": 1, "min_scale": 1.2, "tile_size": 45, "max_iter": 2, "scheduler": client.scheduler.address}
    cluster = {"kind": "address", "options": {"name": "whisper-2", "security": client.security}}
    client.run(os.environ.__setitem__, name, secret)
    try:
        progress = reporter(quiet=False, log_format="json")
        run = run_survey(survey, tmp_path / "run", cluster=cluster, progress=progress, **settings)
    finally:
        client.run(os.environ.pop, name)
    files = [path for path in run.files.path.rglob("*") if path.is_file()]
    assert len(files) > 20
    assert not [path for path in files if b"whisper" in path.read_bytes()]
    printed = capsys.readouterr()
    assert '"event": "done"' in printed.out
    assert "whisper" not in printed.out + printed.err
