"""Clients of schedulers that run already: their address, certificates and versions. Real ones: tests/cluster."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import dask
import distributed
import pytest
from cryptography import x509

from cwt_dask import run_survey
from cwt_dask.errors import InputError
from cwt_dask.runtime.clusters import address
from cwt_dask.runtime.clusters.address import existing_client
from cwt_dask.runtime.clusters.tls import ROLES, as_configuration, kept_in, security
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


@pytest.mark.parametrize("address", ["tcp://host", "tls://", "host:port", "tcp://[::1", "tcp://host:99999"])
def test_what_is_no_address_is_refused_before_a_client_is_made_that_nothing_can_close(address):
    refuse(address, None, message="cannot reach scheduler .*: it must look like tls://host:8786 or tcp://host:8786")


def test_what_the_configuration_has_a_client_load_may_be_missing():
    with dask.config.set({"distributed.client.preload": ["absent_module"]}):
        refuse("tcp://127.0.0.1:9", None, message="cannot reach scheduler .*No module named 'absent_module'")


HERE = "Dask's configuration here .distributed.comm.tls"
NO_CERTIFICATES = {"ca-file": __file__, "client.cert": __file__}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, rf"it uses TLS, and {HERE}.ca-file\) names no certificate: set it to"),
        ({"ca-file": "pem\npem", "client.cert": "absent.pem"}, rf"no file absent.pem, which {HERE}.client.cert\) nam"),
        ({"ca-file": 5}, "there is no file 5, which"),
        (NO_CERTIFICATES, rf"certificates of the client that {HERE}\) names cannot be used"),
        ({"min-version": 0.9}, "Dask's configuration makes no sense .*min-version=0.9 is not supported"),
    ],
)
def test_certificates_that_cannot_be_used_are_named_before_a_connection_is_tried(given, message):
    settings = dict.fromkeys(("ca-file", "client.cert"), None) | given
    with dask.config.set({f"distributed.comm.tls.{name}": value for name, value in settings.items()}):
        refuse("tls://127.0.0.1:1", None, message=f"^cannot reach scheduler tls://127.0.0.1:1: .*{message}")


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
    with address.own_client(4, "tls://host:1", print):
        clock[0] += seconds
    assert asked == [waited]


@pytest.mark.parametrize(
    ("client", "state"),
    [
        (5, "is 5: it must be a distributed.Client; of a cluster, its get_client"),
        ({"status": "closed"}, "is closed: it must be connected"),
        ({"status": "running", "asynchronous": True}, "is asynchronous: it must be connected, and made without"),
    ],
)
def test_a_client_that_cannot_carry_out_a_run_is_refused(survey, tmp_path, client, state):
    if isinstance(client, dict):
        client = Mock(spec=distributed.Client, **{"asynchronous": False} | client)
    with pytest.raises(InputError, match=f"^client {state}"):
        run_survey(survey, tmp_path / "run", client=client, min_scale=1.2)
    assert not (tmp_path / "run").exists()


# --- certificates -----------------------------------------------------------------------------------------------------


def test_certificates_are_the_runs_or_the_sites(tmp_path):
    first, second = security(), security()
    assert first.tls_client_key != second.tls_client_key
    assert first.require_encryption
    # Clocks are set back, and those of machines differ.
    certificate = x509.load_pem_x509_certificate(first.tls_ca_file.encode())
    assert (certificate.not_valid_before_utc.year, certificate.not_valid_after_utc.year) == (1970, 9999)
    with dask.config.set(as_configuration(kept_in(tmp_path, first))):
        again = security()
    for role in ROLES:
        assert Path(again.get_tls_config_for_role(role)["cert"]).read_text() == getattr(first, f"tls_{role}_cert")
    assert again.require_encryption
    with (
        dask.config.set({"distributed.comm.tls.ca-file": "/site/ca.pem"}),
        pytest.raises(InputError, match="^no cluster can be started here: there is no file /site/ca.pem, which"),
    ):
        security()


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
