"""One driver at a time where there are no locks: who holds a run in a bucket, and who may take it over."""

import json
import socket
import time
from contextlib import ExitStack
from dataclasses import asdict, replace

import pytest
from skies import poisson_sky, write_survey

from cwt_dask import run_survey
from cwt_dask.config.options import Options
from cwt_dask.errors import InputError, InterruptedRun
from cwt_dask.pipeline import create
from cwt_dask.runtime.progress import Reporter
from cwt_dask.runtime.signals import Stop
from cwt_dask.storage import object_store
from cwt_dask.storage.driver import Driver, read_driver, this_machine
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.object_store import hold

OPTIONS = {"workers": 0, "fits": "no", "n_scale": 1, "min_scale": 1.2, "max_iter": 2, "tile_size": 45}
ELSEWHERE = Driver(4711, "elsewhere", "somebody", "2026-11-25T12:00:00+00:00", lease="theirs")


@pytest.fixture
def files(bucket):
    return RunDir(bucket / "run")


def never():
    pytest.fail("the lease was lost")


def leave(files, driver):
    files.driver.write_text(json.dumps(asdict(driver)))


def test_a_lease_is_held_for_the_length_of_the_block(files):
    with hold(files, never) as before:
        assert before is None
        assert read_driver(files).host == socket.gethostname()
    assert not files.driver.exists()


def test_nobody_else_may_hold_it(files):
    leave(files, ELSEWHERE)
    expected = "in use by process 4711 of somebody on elsewhere.*one that has died holds it for 10 minutes"
    with pytest.raises(InputError, match=expected), hold(files, never):
        pass
    assert read_driver(files) == ELSEWHERE


def test_what_is_no_driver_is_another_process(files):
    files.driver.write_text("nonsense")
    with pytest.raises(InputError, match="in use by another process"), hold(files, never):
        pass


def test_one_who_is_known_to_be_gone_holds_nothing(files):
    gone = replace(ELSEWHERE, machine=this_machine(), pid=2**22 + 1)
    leave(files, gone)
    with hold(files, never) as before:
        assert before == gone


def test_one_who_was_not_heard_of_for_long_holds_nothing(files, monkeypatch):
    leave(files, ELSEWHERE)
    monkeypatch.setattr(object_store, "STALE_SECONDS", 0.0)
    with hold(files, never) as before:
        assert before == ELSEWHERE


@pytest.fixture
def taken_meanwhile(files, monkeypatch):
    """Have another driver take the lease between the look at it and what is done then."""
    version_of = object_store.version_of

    def late(path):
        seen = version_of(path)
        leave(files, ELSEWHERE)
        return seen

    return lambda: monkeypatch.setattr(object_store, "version_of", late)


def test_of_two_who_take_it_at_once_one_gets_it(files, monkeypatch, taken_meanwhile):
    taken_meanwhile()
    monkeypatch.setattr(object_store, "_age", lambda _: object_store.STALE_SECONDS)
    with pytest.raises(
        InputError,
        match="was taken or left by process 4711 of somebody on elsewhere.* just now: give the same command again",
    ):
        object_store._take(files)


def wait_for(condition):
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("it has not come")


def test_a_lease_is_renewed(files, server, monkeypatch):
    monkeypatch.setattr(object_store, "RENEWAL_SECONDS", 0.01)
    with hold(files, never):
        holder = read_driver(files)
        before = server.requests["PUT"]
        wait_for(lambda: server.requests["PUT"] > before + 2)
        assert read_driver(files) != holder
        assert read_driver(files).lease == holder.lease
        # A store that does not answer for a while is no reason to give up.
        server.fault = lambda method, _: "throttled" if method == "GET" else None
        before = server.requests["GET"]
        wait_for(lambda: server.requests["GET"] > before + 2)
        server.fault = lambda *_: None
        before = server.requests["PUT"]
        wait_for(lambda: server.requests["PUT"] > before)


def test_who_loses_a_lease_stops(files, monkeypatch):
    monkeypatch.setattr(object_store, "RENEWAL_SECONDS", 0.01)
    stop = Stop()
    with hold(files, stop.ask):
        leave(files, ELSEWHERE)
        wait_for(lambda: stop.asked)
    # It is the other's.
    assert read_driver(files) == ELSEWHERE


def test_who_finds_his_lease_gone_stops(files, monkeypatch):
    monkeypatch.setattr(object_store, "RENEWAL_SECONDS", 0.01)
    stop = Stop()
    with hold(files, stop.ask):
        files.driver.unlink()
        wait_for(lambda: stop.asked)


def test_two_of_one_process_do_not_hold_it_both(files):
    with (
        hold(files, never),
        pytest.raises(InputError, match="in use by process"),
        hold(files, never),
    ):
        pass


def test_who_loses_a_lease_while_making_a_run_leaves_it_to_the_other(files, tmp_path, monkeypatch):
    survey = write_survey(tmp_path / "survey.fits", *poisson_sky((45, 45), seed=3))
    stop = Stop()

    def taken_over(*_, **__):
        leave(files, ELSEWHERE)
        stop.ask()

    monkeypatch.setattr(create, "_check_disk", taken_over)
    with pytest.raises(InterruptedRun), ExitStack() as stack:
        create.create(files, survey, Options.parse(OPTIONS), Reporter(), stack, stop)
    assert read_driver(files) == ELSEWHERE
    assert not files.run_id.exists()
    assert files.survey.exists()


def test_a_run_that_appeared_before_the_lease_was_had_is_left_alone(files, tmp_path, monkeypatch):
    survey = write_survey(tmp_path / "survey.fits", *poisson_sky((45, 45), seed=3))
    look = create.statistics_of

    def meanwhile(*arguments):
        files.settings.write_text("of another")
        return look(*arguments)

    monkeypatch.setattr(create, "statistics_of", meanwhile)
    with pytest.raises(InputError, match="holds another run by now: give the same command again"):
        run_survey(survey, files.path, **OPTIONS)
    assert files.settings.read_text() == "of another"


def test_who_loses_a_lease_while_renewing_it_stops(files, monkeypatch, taken_meanwhile):
    monkeypatch.setattr(object_store, "RENEWAL_SECONDS", 0.01)
    stop = Stop()
    with hold(files, stop.ask):
        taken_meanwhile()
        wait_for(lambda: stop.asked)


def test_a_run_is_held_and_let_go(bucket, tmp_path):
    survey = write_survey(tmp_path / "survey.fits", *poisson_sky((45, 45), seed=3))
    files = run_survey(survey, f"{bucket}/run", **OPTIONS).files
    assert not files.driver.exists()
    leave(files, ELSEWHERE)
    with pytest.raises(InputError, match="in use by process 4711"):
        run_survey(survey, files.path, **OPTIONS)
    with pytest.raises(InputError, match="in use by process 4711"):
        run_survey(survey, files.path, **OPTIONS | {"max_iter": 3, "overwrite": True})
    assert files.certificate.exists()
