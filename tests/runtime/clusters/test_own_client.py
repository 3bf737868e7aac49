"""How long the end of a run waits for workers of its own scheduler that have yet to come."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from cwt_dask.runtime.clusters import address


@pytest.mark.parametrize(("seconds", "waited"), [(0, 60), (45, 15), (3600, 5)])
def test_a_worker_that_was_lost_for_good_is_not_waited_for(monkeypatch, seconds, waited):
    clock, asked = [1000.0], []
    client = SimpleNamespace(
        wait_for_workers=lambda _, timeout: asked.append(timeout), status="closed", shutdown=lambda: None
    )

    @contextmanager
    def connected(*_):
        yield client

    monkeypatch.setattr(address, "_connected", connected)
    monkeypatch.setattr(address, "await_workers", lambda *_: None)
    monkeypatch.setattr(address, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    with address.own_client(4, address="tls://host:1"):
        clock[0] += seconds
    assert asked == [waited]
