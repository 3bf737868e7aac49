"""Object stores: who holds a run where there are no locks, and what happens where a store misbehaves."""

import socket
import time
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
from aiohttp import ClientPayloadError
from botocore.exceptions import EndpointConnectionError, NoCredentialsError, PartialCredentialsError, ProfileNotFound
from buckets import make_bucket
from skies import poisson_sky, write_survey

from cwt_dask import run_survey
from cwt_dask.cli.commands import main
from cwt_dask.config.options import Options
from cwt_dask.errors import AccessError, InputError, InterruptedRun, MachineError, SurveyError
from cwt_dask.pipeline import create, planned
from cwt_dask.runtime.progress import Reporter
from cwt_dask.runtime.signals import Stop
from cwt_dask.runtime.workers import Workers
from cwt_dask.storage import object_store
from cwt_dask.storage.driver import Driver, read_driver, this_machine
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.object_store import hold, refuse_no_link, remove_tree
from cwt_dask.survey import SurveySource, ingest

OPTIONS = {"workers": 0, "n_scale": 1, "min_scale": 1.2, "max_iter": 2, "fits": "no"}
ELSEWHERE = Driver(4711, "elsewhere", "somebody", "2026-11-25T12:00:00+00:00", lease="theirs")


@pytest.fixture
def files(bucket):
    return RunDir(bucket / "run")


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    return write_survey(tmp_path_factory.mktemp("sky") / "survey.fits", *poisson_sky((45, 45), seed=3))


@pytest.fixture(scope="module")
def run(server, survey):
    """A finished run in a bucket; tests leave it whole."""
    server.fault = lambda *_: None
    return run_survey(survey, make_bucket(__name__) / "run", **OPTIONS)


def throttled(called, name=""):
    return lambda method, path: "throttled" if method == called and path.endswith(name) else None


@pytest.fixture(scope="module")
def command(survey, run):
    options = [f"--{name.replace('_', '-')}={value}" for name, value in OPTIONS.items()]
    return ["run", str(survey), str(run.files.path), *options]


def never():
    pytest.fail("the lease was lost")


def leave(files, driver=ELSEWHERE):
    files.driver.write_bytes(driver.content)


def refused(files, expected):
    with pytest.raises(InputError, match=expected), hold(files, never):
        pass


def wait_for(condition):
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("it has not come")


def test_a_lease_of_another_driver_is_left_alone(files):
    files.driver.write_text("nonsense")
    refused(files, "in use by another process")
    leave(files)
    refused(files, "in use by process 4711 of somebody on elsewhere.*one that has died holds it for 10 minutes")
    assert read_driver(files) == ELSEWHERE


@pytest.mark.parametrize(
    ("driver", "stale"), [(replace(ELSEWHERE, machine=this_machine(), pid=2**22 + 1), 600.0), (ELSEWHERE, 0.0)]
)
def test_one_that_is_known_to_be_gone_or_was_not_heard_of_for_long_holds_nothing(files, monkeypatch, driver, stale):
    leave(files, driver)
    monkeypatch.setattr(object_store, "STALE_SECONDS", stale)
    with hold(files, never) as before:
        assert before == driver


@pytest.fixture
def taken_meanwhile(files, monkeypatch):
    """Have another driver take the lease between the look at it and what is done then."""
    version_of = object_store.version_of

    def late(path):
        seen = version_of(path)
        leave(files)
        return seen

    return lambda: monkeypatch.setattr(object_store, "version_of", late)


def test_of_two_that_take_it_at_once_one_gets_it(files, monkeypatch, taken_meanwhile):
    taken_meanwhile()
    monkeypatch.setattr(object_store, "_age", lambda _: object_store.STALE_SECONDS)
    refused(files, "was taken or left by process 4711 of somebody on elsewhere.* just now: give the same command again")


def test_a_lease_is_renewed(files, server, monkeypatch):
    monkeypatch.setattr(object_store, "RENEWAL_SECONDS", 0.01)

    def wait_for_two_more(method):
        before = server.requests[method]
        wait_for(lambda: server.requests[method] > before + 2)

    seen = []
    with hold(files, never) as before:
        # While it is written it may not be read.
        wait_for(lambda: seen.append(read_driver(files)) or seen[-1])
        holder = seen[-1]
        assert (before, holder.host) == (None, socket.gethostname())
        wait_for(lambda: seen.append(read_driver(files)) or seen[-1] not in (None, holder))
        assert seen[-1].lease == holder.lease
        # A store that does not answer for a while is no reason to give up.
        server.fault = throttled("GET")
        wait_for_two_more("GET")
        server.fault = lambda *_: None
        wait_for_two_more("PUT")
    assert not files.driver.exists()


@pytest.fixture
def raised(monkeypatch):
    """Have looks at the lease raise errors, one after the other."""
    errors, version_of = [], object_store.version_of

    def failing(path):
        if errors:
            raise errors.pop(0)
        return version_of(path)

    monkeypatch.setattr(object_store, "RENEWAL_SECONDS", 0.01)
    monkeypatch.setattr(object_store, "version_of", failing)
    return errors


def test_what_the_stores_client_raises_does_not_end_the_renewal_of_a_lease(files, raised):
    with hold(files, never):
        of_client = (
            EndpointConnectionError(endpoint_url="x"),
            NoCredentialsError(),
            ClientPayloadError(),
            TimeoutError(),
        )
        raised += [*of_client, OSError("busy"), PermissionError("no")]
        wait_for(lambda: not raised)
        seen = [None]
        # While it is written it may not be read.
        wait_for(lambda: seen.append(read_driver(files)) or len({driver and driver.renewal for driver in seen}) > 3)
    assert not files.driver.exists()


def test_any_other_error_of_a_renewal_stops_the_run_and_is_seen(files, raised):
    stop = Stop()

    def hold_until_lost():
        with hold(files, stop.ask):
            raised.append(KeyError("ETag"))
            wait_for(lambda: stop.asked)
            # That a run then stops does not hide it.
            raise InterruptedRun("stopped")

    with pytest.raises(KeyError, match="ETag"):
        hold_until_lost()
    assert not files.driver.exists()


@pytest.mark.parametrize("loss", ["taken", "gone", "taken while it is renewed"])
def test_one_that_loses_its_lease_stops(files, monkeypatch, taken_meanwhile, loss):
    monkeypatch.setattr(object_store, "RENEWAL_SECONDS", 0.01)
    stop, lose = Stop(), {"taken": lambda: leave(files), "gone": files.driver.unlink}.get(loss, taken_meanwhile)
    with hold(files, stop.ask):
        lose()
        wait_for(lambda: stop.asked)
    # It is the other's.
    assert read_driver(files) == (None if loss == "gone" else ELSEWHERE)


def test_one_that_loses_its_lease_while_making_a_run_leaves_it_to_the_other(files, survey, monkeypatch):
    stop, options = Stop(), Options.parse(OPTIONS)

    def taken(*_):
        leave(files)
        stop.ask()

    monkeypatch.setattr(create, "_check_disk", taken)
    workers = Workers(None, options.execution)
    with pytest.raises(InterruptedRun), ExitStack() as stack:
        create.create(create.Call(files, survey, options, Reporter(), stack, stop, workers))
    assert read_driver(files) == ELSEWHERE
    assert not files.run_id.exists()
    assert files.survey.exists()


def test_a_run_that_appeared_before_the_lease_was_had_is_left_alone(files, survey, monkeypatch):
    look = planned.statistics_of

    def meanwhile(*arguments):
        files.settings.write_text("of another")
        return look(*arguments)

    monkeypatch.setattr(planned, "statistics_of", meanwhile)
    with pytest.raises(InputError, match="holds another run by now: give the same command again"):
        run_survey(survey, files.path, **OPTIONS)
    assert files.settings.read_text() == "of another"


def test_a_run_is_held_and_let_go(run, survey):
    assert not run.files.driver.exists()
    leave(run.files)
    for more in ({}, {"max_iter": 3, "overwrite": True}):
        with pytest.raises(InputError, match="in use by process 4711"):
            run_survey(survey, run.files.path, **OPTIONS | more)
    run.files.driver.unlink()


def test_a_store_that_is_gone_or_throttled_is_a_fault_of_the_machine(bucket, server, command, capsys, monkeypatch):
    # The client gives up at once.
    monkeypatch.setattr("s3fs.core.S3FileSystem.retries", 1)
    server.fault = lambda *_: "half"
    assert main(["status", f"{bucket}/run"]) == 1
    assert "the object store did not answer as it should" in capsys.readouterr().err
    # Nor is the directory a wrong one.
    for name in ("run.toml", "run-id"):
        server.fault = throttled("GET", name)
        assert main(command) == 1
        message = capsys.readouterr().err
        assert "reduce your request rate" in message
        assert "overwrite" not in message
    # Other answers than conflicts stay what they are.
    server.fault = throttled("PUT")
    with pytest.raises(OSError, match="reduce your request rate"):
        object_store.replace(bucket / "object", b"", None)


@pytest.mark.parametrize(
    "error", [NoCredentialsError(), PartialCredentialsError(provider="env", cred_var="x"), ProfileNotFound(profile="x")]
)
def test_without_keys_the_call_is_wrong_and_a_task_is_tried_elsewhere(error):
    with (
        pytest.raises(InputError, match=r"cannot be used \(.*\): give keys, such as") as one,
        object_store.store_errors(),
    ):
        raise error
    assert isinstance(one.value, MachineError)
    assert one.value.exit_status == 2


def test_keys_that_are_refused_are_named_with_the_object(bucket, server, survey, call):
    (bucket / "there").write_text("there")
    server.fault = lambda *_: "forbidden"
    for command, name in {
        ("status", bucket / "run"): "run/run.toml",
        ("plan", bucket / "survey.fits", "--min-scale=1.2"): "survey.fits/zarr.json",
        ("ingest", survey, bucket / "s.zarr"): "s.zarr",
    }.items():
        said = call(*command)
        assert said.status == 2
        assert said.err.startswith(f"cwt-dask: {bucket / name} cannot be used, the object store refuses your keys (")
    with pytest.raises(AccessError, match=f"^{bucket / 'there'} cannot be used, the object store refuses your keys"):
        object_store._put(bucket / "there", b"")
    with pytest.raises(AccessError, match=f"^{bucket / 'there'} cannot be used, the object store refuses your keys"):
        object_store.version_of(bucket / "there")


def test_what_cannot_be_removed_is_not_taken_for_removed(bucket, server):
    (bucket / "run" / "object").write_text("there")
    server.fault = lambda method, _: "denied" if method == "POST" else None
    with pytest.raises(PermissionError, match="1 objects below .* could not be removed: see to your keys"):
        remove_tree(bucket / "run")


def test_nothing_is_left_of_a_survey_that_is_refused(bucket, server, tmp_path, monkeypatch):
    bad = write_survey(tmp_path / "bad.fits", -np.ones((30, 40)), np.ones((30, 40)))
    with pytest.raises(SurveyError, match="negative"):
        ingest(SurveySource.of(bad), f"{bucket}/survey.zarr")
    with pytest.raises(SurveyError, match="negative"):
        run_survey(bad, f"{bucket}/run", **OPTIONS)
    assert not bucket.exists()
    # What it was refused for is not hidden where nothing can be removed.
    monkeypatch.setattr("s3fs.core.S3FileSystem.retries", 1)
    server.fault = lambda method, _: "half" if method == "POST" else None
    with pytest.raises(SurveyError, match="negative"):
        ingest(SurveySource.of(bad), f"{bucket}/survey.zarr")


def test_of_two_that_ingest_to_one_name_the_first_stays(bucket, survey):
    (bucket / "survey.zarr" / "unfinished").write_text("of another")
    with pytest.raises(SurveyError, match="survey.zarr exists"):
        ingest(SurveySource.of(survey), f"{bucket}/survey.zarr")
    with pytest.raises(InputError, match="there is no bucket"):
        ingest(SurveySource.of(survey), "s3://not-at-all/survey.zarr")


def test_a_pointer_in_a_bucket_holds_a_url_and_nothing_else_is_replaced(bucket):
    link = bucket / "current"
    object_store.point_to(link, bucket / "run")
    refuse_no_link(link)
    assert link.read_text() == f"{bucket}/run"
    link.write_text("notes of mine")
    with pytest.raises(InputError, match="current holds something else than a URL: it is not replaced, choose another"):
        refuse_no_link(link)
