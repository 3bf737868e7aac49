"""A scheduler and workers that run already, with certificates; workers that come and go."""

import json
import os
import subprocess
from contextlib import ExitStack, contextmanager

import distributed
import pytest
from batch import SECONDS, wait_for
from elsewhere import ENVIRONMENT, LONG, OPTIONS, PRINTED, assert_refuses_strangers, digest_of, tiles_done

SILENT = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def certificates(place, name):
    """Make a certificate of that name; the settings of processes that use it."""
    key, certificate = place / f"{name}.key", place / f"{name}.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    subprocess.run([*made, "-keyout", key, "-out", certificate], check=True, **SILENT)
    roles = {
        f"{role}__{part}": path
        for role in ("CLIENT", "SCHEDULER", "WORKER")
        for part, path in (("CERT", certificate), ("KEY", key))
    }
    settings = {"CA_FILE": certificate, **roles}
    return {"DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "true"} | {
        f"DASK_DISTRIBUTED__COMM__TLS__{name}": str(path) for name, path in settings.items()
    }


@contextmanager
def running(*command, **environment):
    process = subprocess.Popen(command, env=ENVIRONMENT | environment, start_new_session=True, **SILENT)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


HERE = ("--protocol", "tls", "--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0")


@pytest.fixture
def site(tmp_path):
    """A scheduler with the site's certificates: the file with its address, and what its clients must know."""
    known = certificates(tmp_path, "site")
    file = tmp_path / "scheduler.json"
    with running("dask", "scheduler", *HERE, "--port", "0", "--scheduler-file", str(file), **known):
        wait_for(lambda: file.exists() and file.read_text().endswith("}"), "the scheduler")
        yield file, known


def worker(file, known, *options, **environment):
    asked = ("--nthreads", "1", "--memory-limit", "2GiB", "--preload", "cwt_dask.worker", *options)
    return running("dask", "worker", *HERE, "--scheduler-file", str(file), *asked, **known, **environment)


def drive(survey, run_dir, file, known, *options):
    command = ["cwt-dask", "run", survey, run_dir, "--scheduler-file", file, *options]
    return subprocess.Popen(list(map(str, command)), env=ENVIRONMENT | known, **PRINTED)


def test_workers_that_come_and_go_change_nothing(site, survey, undisturbed, tmp_path):
    file, known = site
    security = distributed.Security(
        require_encryption=True,
        tls_ca_file=known["DASK_DISTRIBUTED__COMM__TLS__CA_FILE"],
        tls_client_cert=known["DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT"],
        tls_client_key=known["DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY"],
    )
    run_dir = tmp_path / "run"
    with ExitStack() as stack:
        stack.enter_context(worker(file, known, "--name", "retired"))
        killed = stack.enter_context(worker(file, known, "--name", "killed"))
        client = distributed.Client(scheduler_file=str(file), security=security, set_as_default=False)
        stack.enter_context(client)
        client.wait_for_workers(2)
        driver = stack.enter_context(drive(survey, run_dir, file, known, *LONG))
        wait_for(lambda: tiles_done(run_dir) > 2, "some tiles")
        client.retire_workers(names=["retired"])
        stack.enter_context(worker(file, known, "--name", "late"))
        wait_for(lambda: tiles_done(run_dir) > 5, "more tiles")
        os.killpg(killed.pid, 9)
        assert driver.wait(SECONDS) == 0, driver.stdout.read()
    assert digest_of(run_dir) == undisturbed


def test_clients_without_the_certificate_are_refused(site, survey, tmp_path):
    file, known = site
    with worker(file, known):
        for wrong, fragment in (({}, "it uses TLS, and"), (certificates(tmp_path, "other"), "are these its certif")):
            with drive(survey, tmp_path / "run", file, wrong, *OPTIONS) as driver:
                printed = driver.communicate(timeout=SECONDS)[0]
            assert driver.returncode == 2
            assert printed.startswith("cwt-dask: cannot reach the scheduler of file")
            assert fragment in printed
            assert printed.count("\n") == 1
        assert_refuses_strangers(json.loads(file.read_text())["address"])
    assert not (tmp_path / "run").exists()


PRETENDS = """
import importlib.metadata as known
found = known.version
known.version = lambda name: "0.0.1" if name == "{name}" else found(name)
"""


@pytest.mark.parametrize("name", ["zarr", "cwt_dask"])
def test_other_versions_are_refused(site, survey, tmp_path, name):
    file, known = site
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "sitecustomize.py").write_text(PRETENDS.format(name=name))
    run_dir = tmp_path / "run"
    with worker(file, known, PYTHONPATH=str(elsewhere)), drive(survey, run_dir, file, known, *OPTIONS) as driver:
        printed = driver.communicate(timeout=SECONDS)[0]
    assert driver.returncode == 2
    assert f"has {name} 0.0.1, here it is " in printed
    assert not run_dir.exists()
