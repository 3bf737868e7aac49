"""Clients of schedulers that run already: their address, certificates and versions. Real ones: tests/cluster."""

from contextlib import nullcontext
from types import SimpleNamespace

import dask
import distributed
import pytest

from cwt_dask.errors import InputError
from cwt_dask.runtime.clusters import address
from cwt_dask.runtime.clusters.address import existing_client
from cwt_dask.runtime.clusters.tls import as_configuration, security
from cwt_dask.runtime.clusters.versions import refuse_other_versions


def refuse(*where, message):
    with pytest.raises(InputError, match=message), existing_client(*where):
        pass


def test_a_scheduler_that_is_not_there_is_a_wrong_call(tmp_path, monkeypatch):
    monkeypatch.setattr(address, "CONNECT_SECONDS", 0.3)
    refuse("tcp://127.0.0.1:9", None, message="cannot reach scheduler tcp://127.0.0.1:9 ")
    file = tmp_path / "scheduler.json"
    file.write_text('{"id": "x"}')
    refuse(None, str(file), message="cannot reach the scheduler of file .*'address'.*: it holds no address")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"it uses TLS, and Dask's configuration here \(distributed.comm.tls.ca-file\) names no certificate"),
        ({"ca-file": "pem\npem", "client.cert": "absent.pem"}, r"no file absent.pem, which .*\(.*.client.cert\) names"),
    ],
)
def test_a_missing_certificate_is_named_before_a_connection_is_tried(given, message):
    settings = dict.fromkeys(("ca-file", "client.cert"), None) | given
    with dask.config.set({f"distributed.comm.tls.{name}": value for name, value in settings.items()}):
        refuse("tls://127.0.0.1:1", None, message=message)


def test_where_encryption_is_required_plain_tcp_is_refused():
    with dask.config.set({"distributed.comm.require-encryption": True}):
        refuse("tcp://127.0.0.1:9", None, message="requires encryption, and tcp:// has none")


@pytest.mark.parametrize(("seconds", "waited"), [(0, 60), (45, 15), (3600, 5)])
def test_the_end_of_a_run_waits_for_late_workers_only_for_a_while(monkeypatch, seconds, waited):
    clock, asked = [1000.0], []
    client = SimpleNamespace(wait_for_workers=lambda _, timeout: asked.append(timeout), status="closed")
    monkeypatch.setattr(address, "_connected", lambda *_: nullcontext(client))
    monkeypatch.setattr(address, "await_workers", lambda *_: None)
    monkeypatch.setattr(address, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    with address.own_client(4, "tls://host:1"):
        clock[0] += seconds
    assert asked == [waited]


# --- certificates -----------------------------------------------------------------------------------------------------


def test_certificates_are_the_runs_or_the_sites():
    first, second = security(), security()
    assert first.tls_client_key != second.tls_client_key
    assert first.require_encryption
    with dask.config.set({"distributed.comm.tls.ca-file": "/site/ca.pem"}):
        assert security().tls_ca_file == "/site/ca.pem"
    with dask.config.set(as_configuration(first)):
        again = distributed.Security()
    for role in ("client", "scheduler", "worker"):
        assert again.get_tls_config_for_role(role) == first.get_tls_config_for_role(role)
    assert again.require_encryption


# --- versions ---------------------------------------------------------------------------------------------------------


def test_a_cluster_of_the_same_versions_is_accepted(client):
    refuse_other_versions(client, "it")


@pytest.mark.parametrize(
    ("peer", "name", "version", "fragment"),
    [
        ("scheduler", "dask", "1.0", "the scheduler has dask 1.0, here it is "),
        ("scheduler", "zarr", None, ""),
        ("worker", "zarr", None, "worker a has no zarr"),
        ("worker", "numpy", "1.0", "worker a has numpy 1.0, here it is .*; and 1 more. Start all of it from one"),
        ("scheduler", "python", "2.7.18.final.0", "the scheduler has python 2.7, here it is 3.11"),
        ("scheduler", "python", "3.11.99.final.0", ""),
    ],
)
def test_versions_that_matter_are_compared(peer, name, version, fragment):
    # Workers that do run other versions are in tests/cluster/test_address.py.
    libraries = ("zarr", "numcodecs", "numpy", "scipy", "numba", "astropy")
    packages = dict.fromkeys(("dask", "distributed", "cwt_dask", *libraries), "9.9")
    ours = {"packages": packages, "host": {"python": "3.11.7.final.0"}}
    other = ours | ({"host": {"python": version}} if name == "python" else {"packages": packages | {name: version}})
    found = {"client": ours, "scheduler": ours, "workers": {}}
    found |= {"scheduler": other} if peer == "scheduler" else {"workers": dict.fromkeys("abcd", other)}
    message = f"^it runs other versions than this process: {fragment}"
    with pytest.raises(InputError, match=message) if fragment else nullcontext():
        refuse_other_versions(SimpleNamespace(get_versions=lambda **_: found), "it")
