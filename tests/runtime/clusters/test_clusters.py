"""What is known of a cluster before there is one. How runs fare on real ones: tests/cluster."""

import json
import os
import stat
import subprocess
import sys
from types import SimpleNamespace

import dask
import distributed
import pytest
from skies import poisson_sky, write_survey

from cwt_dask import run_survey
from cwt_dask.config.execution import Cluster
from cwt_dask.config.options import Options
from cwt_dask.errors import InputError, RunError, SettingsError
from cwt_dask.runtime.clusters import existing_client, join, kubernetes, local_client, mpi, slurm, srun
from cwt_dask.runtime.clusters.extras import load, options_of
from cwt_dask.runtime.clusters.tls import as_configuration, security
from cwt_dask.runtime.clusters.versions import refuse_other_versions
from cwt_dask.runtime.progress import Reporter, reporter


def execution(**options):
    return Options.parse(options).execution


@pytest.mark.parametrize(
    ("given", "fragment"),
    [
        ({"cluster": 3}, "cluster is 3: it must be a kind of cluster, or a table with its kind"),
        ({"cluster": "mpi", "scheduler": "tls://host:1"}, "cluster is mpi, and a scheduler is given, too"),
        ({"cluster": "mpi", "workers": 0}, "cluster is mpi and workers is 0: leave one of them out"),
        (
            {"cluster": {"minimum": 3}, "workers": 2},
            "cluster.minimum is 3: it must be at most workers, 2",
        ),
    ],
)
def test_clusters_that_cannot_be_are_refused(given, fragment):
    with pytest.raises(SettingsError, match="^" + fragment.replace(".", r"\.")):
        Options.parse(given)


def test_a_scheduler_is_a_cluster_by_its_address():
    assert execution(scheduler="tls://host:8786").cluster == Cluster("address")
    assert execution(scheduler_file="file").cluster == Cluster("address")
    assert execution().cluster == Cluster("local")


def test_workers_that_stay_are_all_unless_said_otherwise():
    assert execution(cluster="slurm", workers=8).fewest_workers == 8
    assert execution(cluster={"kind": "slurm", "minimum": 0}, workers=8).fewest_workers == 0
    assert execution(cluster="slurm").fewest_workers == 0


def test_of_a_library_that_is_missing_the_extra_is_named():
    with pytest.raises(InputError, match=r"cluster is mpi, which needs dask_no_mpi .*: pip install 'cwt_dask\[mpi\]'"):
        load("dask_no_mpi.core", "mpi")


def test_what_the_library_does_not_take_is_said():
    with (
        pytest.raises(SettingsError, match="LocalCluster does not take these cluster.options: .*colour"),
        local_client(1, 2**30, colour="red"),
    ):
        pass


def fail(error, *, late=False):
    with options_of("Runner") as taken:
        if late:
            taken.set()
        raise error


def test_what_fails_later_is_no_matter_of_options():
    with pytest.raises(SettingsError, match="^Runner does not take these cluster.options: early"):
        fail(ValueError("early"))
    with pytest.raises(RunError, match="^Runner has failed .ValueError: late.: give the same command again"):
        fail(ValueError("late"), late=True)
    with pytest.raises(RunError, match="^Runner has failed .RuntimeError: Nanny failed to start"):
        fail(RuntimeError("Nanny failed to start."))


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


def test_a_walltime_that_is_none_is_refused():
    with pytest.raises(SettingsError, match="cluster.options.walltime is soon: it must look like 02:00:00"):
        slurm.lifetime_options("soon")


@pytest.fixture
def outside(monkeypatch):
    """No task of a step of SLURM."""
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    return monkeypatch


def test_without_slurm_no_jobs_are_submitted(outside, tmp_path):
    outside.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="there is no sbatch here"):
        join(execution(cluster="slurm", workers=2), tmp_path / "run")


@pytest.fixture
def refusing(outside, tmp_path):
    """A SLURM that takes no jobs. A real one is in tests/cluster/test_slurm.py."""
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text("#!/bin/sh\ncat > $0.script\necho 'sbatch: error: invalid partition' >&2\nexit 1\n")
    sbatch.chmod(0o755)
    outside.setenv("PATH", str(sbatch.parent), prepend=os.pathsep)
    return sbatch.with_name("sbatch.script")


def test_what_a_job_asks_for(refusing, tmp_path):
    options = {"walltime": "00:10:00", "interface": "lo", "job_extra_directives": ["--constraint=cpu"]}
    connect = join(
        execution(cluster={"kind": "slurm", "options": options}, workers=2, memory_limit="1000MiB"), tmp_path / "run"
    )
    with (
        pytest.raises(InputError, match="SLURM takes no job with these cluster.options: .*invalid partition"),
        connect(),
    ):
        pass
    script = refusing.read_text()
    for line in ("--mem=1200M", "-t 00:10:00", "--constraint=cpu", "--cpus-per-task=1"):
        assert f"#SBATCH {line}\n" in script
    for word in ("--memory-limit 0.98GiB", "--lifetime 510s", "--protocol tls://", "--dashboard-address 127.0.0.1:0"):
        assert word in script
    assert "export DASK_INTERNAL_INHERIT_CONFIG=" in script
    # Of the run's key the name of its file is there, and that has gone.
    assert "PRIVATE KEY" not in script
    assert not list(tmp_path.glob(".*"))


# dask-jobqueue leaves a scheduler behind that it does not close.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("refusing")
def test_what_slurm_clusters_do_not_take_is_said(tmp_path):
    connect = join(execution(cluster={"kind": "slurm", "options": {"colour": "red"}}, workers=2), tmp_path / "run")
    with pytest.raises(SettingsError, match="SLURMCluster does not take these cluster.options: .*colour"), connect():
        pass


@pytest.fixture
def step(outside):
    """A task of a step of SLURM. Real ones are in tests/cluster."""
    for name, value in {"JOB_ID": "7", "STEP_ID": "0", "STEP_NUM_TASKS": "4", "NTASKS": "4", "PROCID": "1"}.items():
        outside.setenv(f"SLURM_{name}", value)
    return outside


def test_two_tasks_are_too_few(step, tmp_path):
    step.setenv("SLURM_NTASKS", "2")
    with pytest.raises(InputError, match="srun has started 2 tasks: start at least 3"):
        join(execution(cluster="slurm"), tmp_path / "run")


def test_tasks_that_share_no_files_are_not_waited_for_for_ever(step, tmp_path):
    step.setattr(srun, "SHARED_SECONDS", 0.3)
    connect = join(execution(cluster="slurm"), tmp_path / "run")
    refused = "certificate.json does not appear, which one task makes for all"
    with pytest.raises(InputError, match=refused), connect():
        pass


@pytest.fixture
def rendezvous(step, tmp_path):  # noqa: ARG001 - of that step
    """Where the tasks of this step meet, with the certificate that one has made."""
    found = srun._rendezvous(tmp_path)
    srun._make_certificate(found)
    return found


def test_the_key_of_a_step_is_its_users_alone(rendezvous, step, tmp_path):
    assert rendezvous == tmp_path / ".cwt-dask-0.7.0.0"
    assert stat.S_IMODE(rendezvous.stat().st_mode) == 0o700
    assert "PRIVATE KEY" in srun._certificate(rendezvous)["distributed.comm.tls.client.key"]
    step.setenv("SLURM_RESTART_COUNT", "1")
    assert srun._rendezvous(tmp_path) != rendezvous


def test_of_what_is_found_there_only_certificates_are_taken(rendezvous):
    file = rendezvous / "certificate.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"distributed.worker.preload": ["print('owned')"]}))
    assert all("comm" in name for name in srun._certificate(rendezvous))


@pytest.mark.parametrize("wrong", ["mode", "owner", "link"])
def test_what_somebody_else_may_have_put_there_is_not_read(rendezvous, wrong, monkeypatch):
    if wrong == "mode":
        rendezvous.chmod(0o755)
    elif wrong == "owner":
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    else:
        moved = rendezvous.rename(rendezvous.with_name("elsewhere"))
        rendezvous.symlink_to(moved)
    with pytest.raises(InputError, match="is not this user's alone: somebody else has made it, remove it"):
        srun._certificate(rendezvous)


def test_blanks_in_names_are_refused_where_job_scripts_hold_them(refusing, tmp_path):
    assert refusing.parent.exists()
    with pytest.raises(InputError, match="job scripts cannot name .*my runs: choose one without blanks and quotes"):
        join(execution(cluster="slurm", workers=2), tmp_path / "my runs" / "run")


# --- the others -------------------------------------------------------------------------------------------------------


def test_one_process_is_too_few_for_mpi(monkeypatch, tmp_path):
    # A real mpirun is in tests/cluster/test_mpi.py.
    one = SimpleNamespace(COMM_WORLD=SimpleNamespace(Get_size=lambda: 1, Get_rank=lambda: 0))
    monkeypatch.setattr(mpi, "load", lambda *_: one)
    with pytest.raises(InputError, match="cluster is mpi, and the number of processes is 1: start at least 3"):
        join(execution(cluster="mpi"), tmp_path / "run")


class Told(Reporter):
    def __init__(self):
        self.said = []

    def message(self, text):
        self.said.append(text)


@pytest.mark.parametrize("variable", ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"])
@pytest.mark.parametrize(("size", "n_said"), [("4", 1), ("1", 0), ("", 0)])
def test_who_forgets_that_mpi_has_started_many_is_told(monkeypatch, tmp_path, variable, size, n_said):
    monkeypatch.setenv(variable, size)
    told = Told()
    assert join(execution(), tmp_path / "run", told) is None
    assert len(told.said) == n_said
    assert all("MPI has started 4 processes" in line and "--cluster mpi" in line for line in told.said)


@pytest.mark.parametrize(("workers", "n_said"), [(4, 1), (None, 0)])
def test_workers_that_are_not_the_users_to_count_are_warned_about(monkeypatch, tmp_path, workers, n_said):
    monkeypatch.setattr(mpi, "join", lambda _: None)
    for where in ({"scheduler": "tls://a:1"}, {"cluster": "mpi"}, {}):
        told = Told()
        join(execution(workers=workers, **where), tmp_path / "run", told)
        assert len(told.said) == (n_said if where else 0)
        assert all(line.startswith("warning: workers is 4, which has no part in it: ") for line in told.said)


def test_pods_run_an_image_and_there_are_so_many(tmp_path):
    for given in ({"workers": 2}, {"workers": None}):
        cluster = {"kind": "kubernetes", "plaintext": True}
        with pytest.raises(
            SettingsError, match="give workers, as many as there may be, and in cluster.options the image"
        ):
            join(execution(cluster=cluster, **given), tmp_path / "run")


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        (
            "",
            "cannot start pods (ValueError: Unable to find valid credentials): is there an operator",
        ),
        ("colour = 'red'", "KubeCluster does not take these cluster.options: "),
    ],
)
def test_pods_that_cannot_be_started_are_a_wrong_call(tmp_path, options, fragment):
    # In a process of its own: dask-kubernetes leaves threads behind.
    options = f"image = 'cwt-dask:0.1.0'\n{options}\n"
    (tmp_path / "pods.toml").write_text(
        f"[cluster]\nkind = 'kubernetes'\nplaintext = true\n[cluster.options]\n{options}"
    )
    command = [
        sys.executable,
        "-c",
        "from cwt_dask.cli.commands import main; raise SystemExit(main())",
        "run",
        "absent.fits",
        "run",
    ]
    here = os.environ | {"KUBECONFIG": str(tmp_path / "absent"), "HOME": str(tmp_path)}
    done = subprocess.run(
        [*command, "--config=pods.toml", "--workers=2"],
        cwd=tmp_path,
        env=here,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert fragment in done.stderr
    # What dask-kubernetes says when a process ends that could not reach Kubernetes comes after.
    assert done.stderr.startswith("cwt-dask: ")
    assert not (tmp_path / "run").exists()


# --- who may talk to a scheduler, and which versions ------------------------------------------------------------------


def test_certificates_are_the_runs_or_the_sites():
    first, second = security(), security()
    assert first.tls_client_key != second.tls_client_key
    assert first.require_encryption
    with dask.config.set({"distributed.comm.tls.ca-file": "/site/ca.pem"}):
        assert security().tls_ca_file == "/site/ca.pem"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"\(distributed.comm.tls.ca-file\) names no certificate"),
        ({"ca-file": "pem\npem"}, r"\(distributed.comm.tls.client.cert\) names no certificate"),
        ({"ca-file": "absent.pem"}, r"there is no file absent.pem, which .*\(distributed.comm.tls.ca-file\) names"),
        ({"ca-file": "pem\npem", "client.cert": "absent.pem"}, "there is no file absent.pem"),
    ],
)
def test_a_certificate_that_is_missing_is_named_before_anybody_is_asked(given, message):
    settings = dict.fromkeys(("ca-file", "client.cert"), None) | given
    configuration = {f"distributed.comm.tls.{name}": value for name, value in settings.items()}
    with (
        dask.config.set(configuration),
        pytest.raises(InputError, match=message),
        existing_client("tls://127.0.0.1:1", None),
    ):
        pass


def test_configuration_holds_the_whole_certificate():
    made = security()
    with dask.config.set(as_configuration(made)):
        again = distributed.Security()
    for role in ("client", "scheduler", "worker"):
        assert again.get_tls_config_for_role(role) == made.get_tls_config_for_role(role)
    assert again.require_encryption


def test_a_cluster_of_the_same_versions_is_taken(client):
    refuse_other_versions(client, "it")


@pytest.mark.parametrize(
    ("who", "name", "version", "fragment"),
    [
        ("scheduler", "dask", "1.0", "the scheduler has dask 1.0, here it is "),
        ("scheduler", "zarr", None, ""),
        ("worker", "zarr", None, "worker a has no zarr"),
        ("worker", "numpy", "1.0", "worker a has numpy 1.0, here it is "),
    ],
)
def test_versions_that_matter_are_compared(client, who, name, version, fragment):
    # Workers that do run other versions are in tests/cluster/test_address.py.
    found = client.get_versions(packages=["cwt_dask", "zarr", "numcodecs", "numpy", "scipy", "numba", "astropy"])
    mine = found["client"]
    other = {**mine, "packages": {**mine["packages"], name: version}}
    said = {"client": mine, "scheduler": other if who == "scheduler" else mine, "workers": {}}
    said["workers"] = dict.fromkeys("abcd", other) if who == "worker" else {}
    if not fragment:
        refuse_other_versions(SimpleNamespace(get_versions=lambda **_: said), "it")
        return
    with pytest.raises(InputError, match=f"^it runs other versions than this process: {fragment}"):
        refuse_other_versions(SimpleNamespace(get_versions=lambda **_: said), "it")


@pytest.mark.parametrize(("python", "taken"), [("3.11.99.final.0", True), ("2.7.18.final.0", False)])
def test_python_may_differ_in_its_last_number_only(client, python, taken):
    mine = client.get_versions()["client"]
    mine["host"]["python"] = "3.11.7.final.0"
    other = {**mine, "host": {**mine["host"], "python": python}}
    said = {"client": mine, "scheduler": other, "workers": {}}
    cluster = SimpleNamespace(get_versions=lambda **_: said)
    if taken:
        refuse_other_versions(cluster, "it")
        return
    with pytest.raises(InputError, match="the scheduler has python 2.7, here it is 3.11"):
        refuse_other_versions(cluster, "it")


def test_without_a_certificate_a_scheduler_that_speaks_tls_is_not_asked():
    with (
        pytest.raises(
            InputError, match="cannot reach scheduler tls://127.0.0.1:9: it speaks TLS, and Dask's configuration"
        ),
        existing_client("tls://127.0.0.1:9", None),
    ):
        pass


def test_a_file_without_an_address_is_a_wrong_call(tmp_path):
    (tmp_path / "scheduler.json").write_text('{"id": "x"}')
    with (
        pytest.raises(InputError, match="cannot reach the scheduler of file .*'address'.*: it holds no address"),
        existing_client(None, str(tmp_path / "scheduler.json")),
    ):
        pass


def test_nothing_secret_is_written_down(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "whisper-1")
    survey = write_survey(tmp_path / "survey.fits", *poisson_sky((60, 90), seed=1))
    settings = {"n_scale": 1, "min_scale": 1.2, "tile_size": 45, "max_iter": 2, "workers": 1}
    cluster = {"kind": "local", "options": {"name": "whisper-2"}}
    run = run_survey(
        survey, tmp_path / "run", cluster=cluster, progress=reporter(quiet=False, log_format="json"), **settings
    )
    files = [path for path in run.files.path.rglob("*") if path.is_file()]
    assert len(files) > 20
    assert not [path for path in files if b"whisper" in path.read_bytes()]
    said = capsys.readouterr()
    assert "whisper" not in said.out + said.err


def test_where_encryption_is_required_plain_tcp_is_refused():
    with (
        dask.config.set({"distributed.comm.require-encryption": True}),
        pytest.raises(InputError, match="requires encryption, and tcp:// has none"),
        existing_client("tcp://127.0.0.1:9", None),
    ):
        pass


def test_what_the_site_has_configured_is_kept(refusing, tmp_path):
    site = {"walltime": "01:00:00", "job-script-prologue": ["module load cwt"], "memory": "2000MiB"}
    connect = join(execution(cluster="slurm", workers=2), tmp_path / "run")
    with (
        dask.config.set({f"jobqueue.slurm.{name}": value for name, value in site.items()}),
        pytest.raises(InputError, match="SLURM takes no job"),
        connect(),
    ):
        pass
    script = refusing.read_text()
    assert "\nmodule load cwt\n" in script
    assert "--lifetime 3060s" in script
    assert "#SBATCH --mem=2400M" in script


@pytest.mark.parametrize(
    ("error", "kind", "fragment"),
    [
        (TypeError("colour"), SettingsError, "KubeCluster does not take these cluster.options: colour"),
        (KeyError("no operator"), InputError, r"cannot start pods \(KeyError: 'no operator'\): is there an operator"),
    ],
)
def test_what_dask_kubernetes_raises_is_a_wrong_call(error, kind, fragment):
    # What it does raise: the test above, in a process of its own.
    def refuse(**_):
        raise error

    with pytest.raises(kind, match=fragment), kubernetes._pods(refuse, execution(cluster="kubernetes", workers=2)):
        pass
