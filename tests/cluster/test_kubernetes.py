"""The containers of deploy/kubernetes/run.yaml as processes of this machine, on volumes that another user gets at.

There is no Kubernetes here. What a kubelet does is done by hand, as it is documented: a volume belongs to root and
the pod's group, and an empty one is open to all. A container sees a directory of a volume by a mount of its own, which
stays when the directory is moved in the volume; here it has the directory itself.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from signal import SIGKILL

import pytest
import yaml
from batch import wait_for
from elsewhere import ENVIRONMENT, ROOT
from strangers import CAUGHT, intrusions, plant

MANIFEST = ROOT / "deploy" / "kubernetes" / "run.yaml"
IMAGE = (ROOT / "deploy" / "container" / "Containerfile").read_text(encoding="utf-8")
(JOB,) = yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8"))
CLUSTER = JOB["spec"]["cluster"]["spec"]
PODS = {"job": JOB["spec"]["job"]["spec"]} | {role: CLUSTER[role]["spec"] for role in ("scheduler", "worker")}
USER = PODS["job"]["securityContext"]
# What another user would have made first: where Dask has scratch space, where Numba has what it compiles.
TRAPS = ("dask-scratch-space", f"dask-scratch-space-{USER['runAsUser']}", "numba")
OWN = "own"


def empty_volume(path):
    """A directory as a kubelet makes it for a pod with a group."""
    path.mkdir()
    os.chown(path, 0, USER["fsGroup"])
    path.chmod(0o2777)
    return path


def user_of_pods():
    """Words before a command, by which the user of the manifest runs it."""
    assert all(pod["securityContext"] == USER for pod in PODS.values())
    ids = (f"--reuid={USER['runAsUser']}", f"--regid={USER['runAsGroup']}", f"--groups={USER['fsGroup']}")
    confined = ["setpriv", *ids, "--no-new-privs"]
    # setpriv itself may still start what this user may not.
    again = f"import subprocess; subprocess.run(['{sys.executable}', '--version'], check=True)"
    if not subprocess.run([*confined, sys.executable, "-c", again], check=False, capture_output=True).returncode:
        return confined
    # Where Python is root's own, as below /root, one right is left that opens nothing for writing.
    return [*confined, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]


@pytest.fixture(scope="module")
def reached():
    """A directory that all users reach, as they do not reach those that pytest makes."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def node(reached, small_survey):
    """Volumes of all pods: keys, data, and for each an empty one, where another user was first."""
    node = reached / "node"
    node.mkdir()
    (node / "tls").mkdir()
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=cwt-dask"]
    keys = ["-keyout", node / "tls" / "key.pem", "-out", node / "tls" / "cert.pem"]
    subprocess.run([*made, *keys], check=True, capture_output=True)
    for file in (node / "tls").iterdir():
        os.chown(file, 0, USER["fsGroup"])
        file.chmod(0o640)
    data = empty_volume(node / "data")
    data.chmod(0o2775)
    subprocess.run(["cwt-dask", "ingest", small_survey, data / "survey.zarr"], env=ENVIRONMENT, check=True)
    for role in PODS:
        (node / role).mkdir()
        plant(empty_volume(node / role / "tmp"), *TRAPS)
    return node


def container(role, spec, node, port):
    """Command and environment of a container, with its places and addresses as they are on this machine."""
    volumes = {"tls": node / "tls", "data": node / "data", "tmp": node / role / "tmp"}
    places = {mount["mountPath"]: volumes[mount["name"]] / mount.get("subPath", "") for mount in spec["volumeMounts"]}
    names = {
        "cwt-dask-scheduler:8786": f"127.0.0.1:{port}",
        "--port=8786": f"--port={port}",
        "$(DASK_WORKER_NAME)": "one",
    }

    def here(word):
        for name, here in names.items():
            word = word.replace(name, here)
        return re.sub(r"(?:^|(?<==))(/\w+)", lambda found: str(places.get(found[1], found[1])), word)

    of_image = dict(pair.split("=") for pair in re.findall(r"^ENV (.*)$", IMAGE, re.MULTILINE)[0].split())
    given = of_image | {each["name"]: each["value"] for each in spec.get("env", [])}
    environment = {name: here(value) for name, value in given.items()}
    if "/tmp" in places:  # noqa: S108 - the container's
        environment["TMPDIR"] = str(places["/tmp"])  # noqa: S108
    return [*user_of_pods(), *map(here, spec["args"])], ENVIRONMENT | {"HOME": "/"} | environment


def prepare(role, node):
    """Run the containers of a pod that come first, one after the other; the status of the last."""
    for spec in PODS[role]["initContainers"]:
        command, environment = container(role, spec, node, 0)
        status = subprocess.run(command, env=environment, check=False, capture_output=True).returncode
        if status:
            return status
    return 0


@contextmanager
def started(role, node, port):
    assert prepare(role, node) == 0
    (spec,) = PODS[role]["containers"]
    command, environment = container(role, spec, node, port)
    with (node / f"{role}.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=node / role / "tmp" / OWN, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield
    finally:
        os.killpg(process.pid, SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def run(node):
    """The run of the manifest, with one worker, at its first tile."""
    with socket.create_server(("127.0.0.1", 0)) as any_port:
        port = any_port.getsockname()[1]

    def printed(role, what):
        log = node / f"{role}.log"
        wait_for(lambda: what in log.read_text(), f"{what} of {role}")

    with ExitStack() as stack:
        stack.enter_context(started("scheduler", node, port))
        printed("scheduler", "Scheduler at")
        stack.enter_context(started("worker", node, port))
        stack.enter_context(started("job", node, port))
        printed("job", '"stage": "tiles')
        wait_for(lambda: [*(node / "worker" / "tmp" / OWN).glob("numba/*/*.nbi")], "what is compiled")
        yield


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize("role", PODS)
def test_scratch_of_a_pod_is_closed_to_other_users(node, role):
    volume = node / role / "tmp"
    own = volume / OWN
    assert list(own.glob("dask-scratch-space*")) or role == "job"
    assert intrusions(own, mounted=True) == []
    assert {path.name for path in volume.iterdir()} == {OWN, *TRAPS}


@pytest.mark.usefixtures("run")
def test_nothing_that_is_planted_is_run_or_used(node):
    assert not list(node.glob(f"*/tmp/{CAUGHT}"))
    assert not [path for trap in TRAPS for path in node.glob(f"*/tmp/{trap}/**/*") if path.owner() != "nobody"]


def test_a_pod_whose_scratch_another_user_has_made_does_not_start(reached):
    (reached / "job").mkdir()
    plant(empty_volume(reached / "job" / "tmp"), OWN)
    assert prepare("job", reached) != 0
    shutil.rmtree(reached / "job" / "tmp" / OWN)
    assert prepare("job", reached) == 0
