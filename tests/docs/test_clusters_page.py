"""Other clusters of docs/clusters.md: its lines as they stand, where qsub, hosts and a gateway are simulated."""

import gc
import os
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import dask.distributed
import pytest
from pages import python_blocks


@contextmanager
def simulated_cluster(*_, **__):
    yield SimpleNamespace(scale=lambda _: None, get_client=lambda: "client")


# dask-jobqueue leaves files open that hold its certificate.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_clusters_of_all_kinds_give_a_client(tmp_path, monkeypatch):
    (block,) = python_blocks("clusters.md")
    asked = tmp_path / "asked"
    for name, does in (("qsub", f"echo >> {asked}; cat $1 > {asked}.sh; echo 1.here"), ("qdel", "")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(dask.distributed, "SSHCluster", simulated_cluster)
    gateway = SimpleNamespace(Gateway=lambda: SimpleNamespace(new_cluster=simulated_cluster))
    monkeypatch.setitem(sys.modules, "dask_gateway", gateway)
    assert block.count("client = cluster.get_client()") == 3
    pbs, rest = block.replace("/home/me", str(tmp_path)).split("\n# SSH")
    names = {}
    exec(compile(pbs + "    status = client.status\n    client.close()\n", "PBS", "exec"), names)  # noqa: S102 - that is the test
    del names["cluster"], names["client"]
    gc.collect()
    assert names["status"] == "running"
    assert "--protocol" not in pbs
    assert "tls://" in (tmp_path / "asked.sh").read_text()
    exec(compile(f"# SSH{rest}", "others", "exec"), names)  # noqa: S102 - as above
    assert names["client"] == "client"
