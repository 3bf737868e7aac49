"""One driver at a time, whoever it is and however it ended."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import asdict, replace

import pytest

from cwt_dask.errors import InputError
from cwt_dask.storage import directory, driver
from cwt_dask.storage.directory import hold, leftovers, new_directory, remove_leftovers
from cwt_dask.storage.driver import Driver, read_driver, this_machine
from cwt_dask.storage.layout import RunDir

HOLDS = """
import sys, time
from pathlib import Path
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.directory import hold
with hold(RunDir(Path(sys.argv[1]))):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def files(tmp_path):
    return RunDir(tmp_path)


@pytest.fixture
def holder(files):
    """Another process that holds the directory."""
    with subprocess.Popen([sys.executable, "-c", HOLDS, str(files.path)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_while_it_is_held_nobody_else_gets_it_and_is_told_whose_it_is(files, holder):
    expected = f"in use by process {holder.pid} of .* on {socket.gethostname()}, since 20.*: wait until that has ended"
    with pytest.raises(InputError, match=expected), hold(files):
        pass
    assert not read_driver(files).is_gone


def test_the_lock_of_a_process_that_was_killed_is_free_and_says_whose_it_was(files, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert read_driver(files).is_gone
    with hold(files) as before:
        assert before.pid == holder.pid
        assert read_driver(files).pid == os.getpid()


@pytest.mark.parametrize("error", [None, ZeroDivisionError])
def test_whoever_ends_by_itself_leaves_nothing_to_say(files, error):
    try:
        with hold(files) as before:
            assert before is None
            if error:
                raise error
    except ZeroDivisionError:
        pass
    assert read_driver(files) is None
    with hold(files) as before:
        assert before is None


def test_what_happens_on_another_machine_is_not_known():
    there = replace(Driver.this(), host="elsewhere", machine="another", pid=2**22 + 1)
    assert not there.is_gone
    assert replace(there, machine=this_machine()).is_gone
    assert "on elsewhere, job 17, since" in str(replace(there, job="17"))


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"pid": 1, "who": 2}', "[" * 10**5])
def test_a_damaged_note_of_the_holder_is_nobody(files, content):
    files.driver.write_text(content)
    assert read_driver(files) is None


@pytest.mark.parametrize(
    "changes", [{"pid": "x"}, {"pid": -1}, {"pid": 0}, {"pid": 10**30}, {"host": None}, {"job": 3}]
)
def test_a_note_of_a_holder_that_cannot_be_is_nobody(files, changes):
    files.driver.write_text(json.dumps(asdict(Driver.this()) | changes))
    assert read_driver(files) is None


def test_a_holder_that_left_no_note_is_another_process(files, holder):
    files.driver.unlink()
    with pytest.raises(InputError, match="in use by another process: wait"), hold(files):
        pass
    assert holder.poll() is None


def test_a_user_without_a_name_has_a_number(monkeypatch):
    def nameless():
        raise KeyError("uid not found")

    monkeypatch.setattr(driver.getpass, "getuser", nameless)
    assert Driver.this().user == str(os.getuid())


@pytest.mark.parametrize("number", directory.NO_LOCKS)
def test_a_file_system_without_locks_is_refused(files, monkeypatch, number):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(directory.FileLock, "acquire", fail)
    with pytest.raises(InputError, match="on a file system without locks .*: choose another place"), hold(files):
        pass


@pytest.mark.parametrize("module", [directory.FileLock, directory])
@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EIO])
def test_a_directory_that_cannot_be_written_to_is_a_wrong_call(files, monkeypatch, module, number):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    # The lock may be one that is there already.
    monkeypatch.setattr(module, "acquire" if module is directory.FileLock else "replace", fail)
    kind = OSError if number == errno.EIO else InputError
    said = os.strerror(number) if number == errno.EIO else f"cannot write to {files.path} .*: have it made writable"
    with pytest.raises(kind, match=said), hold(files):
        pass


def test_the_lock_goes_with_the_directory_that_it_is_for(tmp_path):
    new, place = RunDir(tmp_path / "new"), RunDir(tmp_path / "run")
    new.path.mkdir()
    with directory._hold(new, place):
        new.path.rename(place.path)
        assert read_driver(place).pid == os.getpid()
        with pytest.raises(InputError, match="in use by process"), hold(place):
            pass
    assert read_driver(place) is None
    # A note of somebody else's is left alone.
    with hold(place):
        place.driver.write_text(json.dumps(asdict(replace(Driver.this(), pid=1))))
    assert read_driver(place).pid == 1


def test_the_batch_job_is_named(files, monkeypatch):
    monkeypatch.setenv("PBS_JOBID", "42.head")
    with hold(files):
        assert json.loads(files.driver.read_text())["job"] == "42.head"


def test_only_what_killed_writers_left_is_removed(tmp_path):
    (tmp_path / "c" / "0").mkdir(parents=True)
    number = "0123456789abcdef" * 2
    kept = [tmp_path / "c" / "0" / "0", tmp_path / ".hidden", tmp_path / f"file.{number}"]
    lost = [tmp_path / f".file.{number}", tmp_path / "c" / "0" / f".0.{number}"]
    for path in (*kept, *lost):
        path.touch()
    remove_leftovers(tmp_path)
    assert all(path.exists() for path in kept)
    assert not any(path.exists() for path in lost)


def test_directories_that_were_being_made_are_found_by_their_name(tmp_path):
    with new_directory(tmp_path / "run") as fresh, new_directory(tmp_path / "run.b"):
        assert leftovers(tmp_path, "run") == [fresh]
