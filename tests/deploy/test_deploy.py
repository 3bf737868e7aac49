"""What a site gets, checked against the schemas of the programs that read it. SLURM's part is run in tests/cluster."""

import json
import re
import runpy
import subprocess
import sys
import tomllib
from importlib.resources import files
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml
from astropy import units as u
from astropy.table import Table
from dask.utils import parse_bytes
from distributed.cli import dask_scheduler, dask_worker

from cwt_dask.cli.commands import cli
from cwt_dask.config.settings import Settings

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
# The oldest that is still looked after, about, and the newest that the package knows.
VERSIONS = ("1.31", kubernetes_validate.latest_version())


def pods(document):
    """Specs of all pods that a manifest leads to."""
    if document["kind"] == "CronJob":
        return [document["spec"]["jobTemplate"]["spec"]["template"]["spec"]]
    if document["kind"] == "DaskJob":
        cluster = document["spec"]["cluster"]["spec"]
        return [document["spec"]["job"]["spec"], cluster["scheduler"]["spec"], cluster["worker"]["spec"]]
    return []


TEXTS = [path.read_text(encoding="utf-8") for path in sorted(KUBERNETES.glob("*.yaml"))]
MANIFESTS = [document for text in TEXTS for document in yaml.safe_load_all(text)]
CORE = [document for document in MANIFESTS if "dask.org" not in document["apiVersion"]]
PODS = [pod for document in MANIFESTS for pod in pods(document)]
# On a volume, and in buckets.
IN_BUCKETS, ON_VOLUME = JOBS = [document for document in MANIFESTS if document["kind"] == "DaskJob"]


@pytest.mark.parametrize("version", VERSIONS)
def test_manifests_and_their_pods_are_what_kubernetes_publishes(version):
    pods = [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "any"}, "spec": pod} for pod in PODS]
    assert {document["kind"] for document in CORE} == {"CronJob", "NetworkPolicy", "PersistentVolumeClaim"}
    for document in CORE + pods:
        kubernetes_validate.validate(document, version, strict=True)


def test_runs_are_what_the_operator_defines():
    path = "operator/deployment/helm/dask-kubernetes-operator/crds/daskjob.yaml"
    # The loader in Python takes seconds.
    loaded = yaml.load(files("dask_kubernetes").joinpath(path).read_text(), yaml.CSafeLoader)
    definition = loaded["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for job in JOBS:
        jsonschema.Draft7Validator(definition).validate(job)


@pytest.mark.parametrize("pod", PODS, ids=lambda pod: pod["containers"][0]["name"])
def test_pods_have_no_rights_that_they_do_not_need(pod):
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in (*pod["initContainers"], *pod["containers"]):
        confined = container["securityContext"]
        assert confined["readOnlyRootFilesystem"]
        assert not confined["allowPrivilegeEscalation"]
        assert confined["capabilities"] == {"drop": ["ALL"]}
        assert {"memory", "cpu"} <= container["resources"]["requests"].keys()
        assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("pod", PODS, ids=lambda pod: pod["containers"][0]["name"])
def test_scratch_of_a_pod_is_a_directory_of_its_user_alone(pod):
    """What the processes do with it as that user: tests/cluster/test_kubernetes.py."""
    assert pod["securityContext"]["runAsUser"] == 1000
    assert not {"hostPID", "hostIPC", "hostNetwork", "shareProcessNamespace"} & pod.keys()
    volumes = {volume.pop("name"): volume for volume in json.loads(json.dumps(pod["volumes"]))}
    assert volumes["tmp"] == {"emptyDir": {}}
    assert not [kind for volume in volumes.values() for kind in volume if kind == "hostPath"]
    (first,) = pod["initContainers"]
    assert first["args"] == ["install", "--directory", "--mode=0700", "/scratch/own"]
    assert first["volumeMounts"] == [{"name": "tmp", "mountPath": "/scratch"}]
    (container,) = pod["containers"]
    # What is written at all, but for what all pods see.
    of_volume = [mount for mount in container["volumeMounts"] if mount["name"] == "tmp"]
    assert of_volume == [{"name": "tmp", "mountPath": "/tmp", "subPath": "own"}]  # noqa: S108
    for each in (first, container):
        assert not {"runAsUser", "runAsGroup", "privileged"} & each["securityContext"].keys()


def containers(job):
    return [pod["containers"][0] for pod in pods(job)]


@pytest.mark.parametrize("job", JOBS)
def test_everything_speaks_tls_by_the_same_secret(job):
    for container in containers(job):
        variables = {variable["name"]: variable["value"] for variable in container["env"]}
        assert variables["DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION"] == "true"
        named = {name.rpartition("TLS__")[2] for name in variables if "__TLS__" in name}
        roles = ("CLIENT", "SCHEDULER", "WORKER")
        assert named == {"CA_FILE"} | {f"{role}__{part}" for role in roles for part in ("CERT", "KEY")}
        assert any(mount["mountPath"] == "/tls" for mount in container["volumeMounts"])
    driver, scheduler, worker = (container["args"] for container in containers(job))
    assert "--scheduler=tls://cwt-dask-scheduler:8786" in driver
    assert "--protocol=tls" in scheduler
    assert "tls://cwt-dask-scheduler:8786" in worker


def test_keys_of_buckets_come_by_a_secret_to_those_who_read_and_write_there():
    driver, scheduler, worker = containers(IN_BUCKETS)
    assert driver["envFrom"] == worker["envFrom"] == [{"secretRef": {"name": "cwt-dask-s3"}}]
    assert "envFrom" not in scheduler
    assert [word.partition("/")[0] for word in driver["args"][2:4]] == ["s3:", "s3:"]
    assert not [volume for pod in pods(IN_BUCKETS) for volume in pod["volumes"] if "persistentVolumeClaim" in volume]


def test_but_for_where_its_files_are_a_run_in_buckets_is_the_same():
    for one, other in zip(containers(IN_BUCKETS), containers(ON_VOLUME), strict=True):
        differing = {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}
        assert differing <= {"args", "envFrom", "volumeMounts"}
        assert [word for word in one["args"] if "/" not in word] == [word for word in other["args"] if "/" not in word]


@pytest.mark.parametrize("job", JOBS)
def test_commands_have_the_options_that_they_are_given(job):
    for container, command in zip(
        containers(job), (cli.commands["run"], dask_scheduler.main, dask_worker.main), strict=True
    ):
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word.partition("=")[0] for word in container["args"][2:] if word.startswith("--")} <= known


@pytest.mark.parametrize("job", JOBS)
def test_workers_have_the_memory_that_the_planner_aims_at(job):
    worker = containers(job)[2]
    (limit,) = [word.partition("=")[2] for word in worker["args"] if word.startswith("--memory-limit")]
    of_pod = [parse_bytes(f"{worker['resources'][kind]['memory']}B") for kind in ("requests", "limits")]
    assert parse_bytes(limit) == Settings().memory_target <= min(of_pod) / 1.2


@pytest.mark.parametrize("path", sorted(ROOT.glob("deploy/**/*.sh")) + sorted(ROOT.glob("workflows/**/*.sh")), ids=str)
def test_scripts_are_bash_and_end_at_the_first_error(path):
    subprocess.run(["/bin/bash", "-n", str(path)], check=True)
    assert "set -euo pipefail" in path.read_text(encoding="utf-8")
    assert path.stat().st_mode & 0o100


@pytest.mark.parametrize("name", ["Containerfile", "cwt_dask.def"])
def test_images_are_made_of_what_is_there(name):
    text = (ROOT / "deploy" / "container" / name).read_text(encoding="utf-8")
    copied = re.findall(r"^(?:COPY (.*) \./|    (\S+) /opt/cwt_dask/)", text, re.MULTILINE)
    names = {word for pair in copied for line in pair for word in line.split()}
    assert {"pyproject.toml", "README.md", "LICENSE", "constraints.txt", "cwt_dask", "workflows"} <= names
    assert all((ROOT / word).exists() for word in names)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    (wanted,) = re.findall(r"'\.\[([\w,]+)\]'", text)
    assert set(wanted.split(",")) <= extras.keys()
    assert "Not built by this project's tests" in text


def test_an_image_that_has_tmp_of_its_node_compiles_to_no_place_of_others():
    """Numba runs what lies there. Without a name of it, Numba takes the user's own directory for caches."""
    text = (ROOT / "deploy" / "container" / "cwt_dask.def").read_text(encoding="utf-8")
    assert "NUMBA_CACHE_DIR" not in text


EXACT = ("tiling_exact", "sources_exact")


def test_catalogues_of_fields_are_joined_those_without_a_source_too(tmp_path, monkeypatch, capsys):
    rows = Table({"name": ["CWT J1", "CWT J2"], "ra": [1.0, 2.0] * u.deg})
    for field, table in {"empty": rows[:0], "full": rows}.items():
        (tmp_path / field).mkdir()
        table.write(tmp_path / field / "catalogue.ecsv")
        (tmp_path / field / "certificate.json").write_text(json.dumps(dict.fromkeys(EXACT, field == "full")))
    script = ROOT / "workflows" / "hpc" / "join_catalogues.py"
    for fields, n in ((("empty", "full"), 2), (("full", "empty"), 2), (("empty",), 0)):
        certificates = [str(tmp_path / field / "certificate.json") for field in fields]
        monkeypatch.setattr(sys, "argv", [str(script), str(tmp_path / "all.ecsv"), *certificates])
        runpy.run_path(str(script), run_name="__main__")
        empty = tmp_path / "empty"
        found = "its tiles may have done harm", "its tiles do not agree on all sources"
        harm = "".join(f"{empty}: {what}, see {empty / 'certificate.json'}\n" for what in found)
        assert capsys.readouterr().err == (harm if "empty" in fields else "")
        joined = Table.read(tmp_path / "all.ecsv")
        assert joined.colnames == ["field", "name", "ra"]
        assert joined["field"].tolist() == ["full"] * n
        assert joined["ra"].unit == u.deg
