"""Directories: files and runs appear whole or not at all, and one driver at a time holds a run, however it ends."""

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from unittest.mock import Mock

import pytest

from cwt_dask.errors import InputError
from cwt_dask.storage import directory, drafts, driver
from cwt_dask.storage.directory import entries, hold, new_directory, remove_leftovers, remove_tree, restore
from cwt_dask.storage.drafts import draft_of, is_abandoned, remove_abandoned, scratch_directory
from cwt_dask.storage.driver import Driver, read_driver, this_machine
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.paths import write_atomically
from cwt_dask.storage.sealed import sealed

HOLDS = """
import sys, time
from pathlib import Path
from cwt_dask.storage.directory import hold
from cwt_dask.storage.layout import RunDir
with hold(RunDir(Path(sys.argv[1]))):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def files(tmp_path):
    return RunDir(tmp_path)


def names(path):
    return sorted(entry.name for entry in path.iterdir())


def refused(files, expected, kind=InputError):
    with pytest.raises(kind, match=expected), hold(files):
        pass


def test_another_process_that_holds_it_is_named_and_the_lock_is_free_when_it_was_killed(files):
    with subprocess.Popen([sys.executable, "-c", HOLDS, str(files.path)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        since = "since 20.*: wait until that has ended"
        refused(files, f"in use by process {process.pid} of .* on {re.escape(socket.gethostname())}, {since}")
        note = files.driver.read_bytes()
        assert not read_driver(files).is_gone
        files.driver.unlink()
        refused(files, "in use by another process: wait")
        files.driver.write_bytes(note)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert read_driver(files).is_gone
    with hold(files) as before:
        assert before.pid == process.pid
        assert read_driver(files).pid == os.getpid()


def test_one_that_ends_by_itself_leaves_no_note(files):
    with pytest.raises(ZeroDivisionError), hold(files) as before:
        raise ZeroDivisionError
    with hold(files) as before:
        assert before is None
    assert read_driver(files) is None


def test_what_happens_on_another_machine_is_not_known():
    there = replace(Driver.this(), host="elsewhere", machine="another", pid=2**22 + 1)
    assert not there.is_gone
    assert replace(there, machine=this_machine()).is_gone
    assert "on elsewhere, job 17, since" in str(replace(there, job="17"))


def test_a_note_with_another_digit_names_no_process(files):
    files.driver.write_bytes(Driver.this().content.replace(b'"pid": ', b'"pid": 1'))
    assert read_driver(files) is None


CHANGES = ({"pid": "x"}, {"pid": -1}, {"pid": 0}, {"pid": 10**30}, {"host": None}, {"job": 3}, {"who": 2})


@pytest.mark.parametrize("content", ["", "{}", "[" * 10**5, *CHANGES])
def test_a_damaged_note_names_no_process(files, content):
    changed = content if isinstance(content, str) else json.dumps(sealed(asdict(Driver.this()) | content))
    files.driver.write_text(changed)
    assert read_driver(files) is None


def test_a_user_without_a_name_has_a_number_and_the_batch_job_is_named(files, monkeypatch):
    monkeypatch.setattr(driver.getpass, "getuser", Mock(side_effect=KeyError("uid not found")))
    monkeypatch.setenv("PBS_JOBID", "42.head")
    with hold(files):
        note = json.loads(files.driver.read_text())
    assert (note["user"], note["job"]) == (str(os.getuid()), "42.head")


@pytest.mark.parametrize(
    ("number", "expected"),
    [(number, "on a file system without locks .*: choose another place") for number in directory.NO_LOCKS]
    + [(number, "cannot write to .*: have it made writable") for number in (errno.EACCES, errno.EROFS)]
    + [(errno.EIO, "Input/output error")],
)
@pytest.mark.parametrize("fails", ["lock", "note"])
def test_a_directory_that_cannot_be_locked_or_written_to_is_a_wrong_call(files, monkeypatch, number, expected, fails):
    fault = OSError(number, os.strerror(number))
    # The lock may be one that is there already.
    fails_there = (directory.FileLock, "acquire") if fails == "lock" else (directory, "replace")
    monkeypatch.setattr(*fails_there, Mock(side_effect=fault))
    # What else goes wrong is no mistake of the caller.
    if number == errno.EIO or (fails == "note" and number in directory.NO_LOCKS):
        refused(files, os.strerror(number), OSError)
    else:
        refused(files, expected)


def test_the_lock_goes_with_the_directory_that_it_is_for(tmp_path):
    new, run = RunDir(tmp_path / "new"), RunDir(tmp_path / "run")
    new.path.mkdir()
    with directory._hold(new, run):
        new.path.rename(run.path)
        assert read_driver(run).pid == os.getpid()
        refused(run, "in use by process")
    assert read_driver(run) is None
    # A note of another process is left alone.
    with hold(run):
        run.driver.write_bytes(replace(Driver.this(), pid=1).content)
    assert read_driver(run).pid == 1


@pytest.mark.parametrize("elsewhere", [True, False])
def test_only_what_killed_writers_left_is_removed(tmp_path, dead, elsewhere):
    run, outside = tmp_path / "run", tmp_path / "outside"
    for folder in (run / "c" / "0", outside):
        folder.mkdir(parents=True)
    (run / "link").symlink_to(outside)
    number = "0123456789abcdef" * 2
    kept = [
        run / "c" / "0" / "0",
        run / ".hidden",
        run / f".file.{number}",
        dead(outside / "file"),
        draft_of(run / "c"),
    ]
    left = [dead(run / "file"), dead(run / "c" / "0" / "0")]
    of_another = run / re.sub("cwt-......", "cwt-abcdef", kept[-1].name)
    (left if elsewhere else kept).append(of_another)
    for path in (*kept, *left):
        path.touch()
    # A link may have such a name, too: what it points to is another's.
    dead(run / "c" / "far").symlink_to(outside)
    remove_leftovers(run, elsewhere=elsewhere)
    assert [path.exists() for path in (*kept, *left)] == [True] * len(kept) + [False] * len(left)


NO_CONTAINER, CONTAINER = "pid:[4026531836]", "pid:[4026532758]"


@pytest.fixture
def on_machine(monkeypatch):
    """Puts the test on a machine: its start, and its space of process numbers."""

    def put(machine):
        monkeypatch.setattr(drafts, "this_machine", lambda: machine)
        drafts._here.cache_clear()

    yield put
    drafts._here.cache_clear()


def test_an_abandoned_draft_is_one_whose_maker_has_ended_since(tmp_path, dead, on_machine):
    own, killed = draft_of(tmp_path / "file"), dead(tmp_path / "file")
    machine, start = re.search("cwt-([0-9a-f]{18})-[0-9]+-([0-9]+)", own.name).groups()
    another, reused = (own.with_name(own.name.replace(*change)) for change in ((machine, "0" * 18), (start, "1")))
    others = (tmp_path / ".file", tmp_path / f".file.{'0' * 32}")
    found = [is_abandoned(path) for path in (killed, reused, own, another, *others)]
    assert found == [True] * 2 + [False] * 4
    on_machine("")
    assert not is_abandoned(dead(tmp_path / "unknown"))


@pytest.mark.parametrize(
    ("its", "ours", "expected"),
    [
        (f"1 {NO_CONTAINER}", f"2 {NO_CONTAINER}", True),
        # Containers of one image have one host name and one number of the machine, wherever they are.
        (f"1 {CONTAINER}", "1 pid:[7]", False),
        (f"1 {CONTAINER}", f"2 {CONTAINER}", False),
        (f"1 {CONTAINER}", f"2 {NO_CONTAINER}", False),
        (f"1 {NO_CONTAINER}", f"2 {CONTAINER}", False),
    ],
)
def test_so_is_one_of_a_machine_that_has_restarted_but_not_of_another_container(
    tmp_path, dead, on_machine, its, ours, expected
):
    on_machine(its)
    draft = dead(tmp_path / "file")
    on_machine(ours)
    assert is_abandoned(draft) is expected


@pytest.mark.parametrize(
    ("content", "known"), [("4f1c\n", True), ("uninitialized\n", False), ("", False), (None, False)]
)
def test_a_host_s_name_alone_does_not_tell_that_a_machine_has_restarted(
    tmp_path, monkeypatch, on_machine, content, known
):
    number = tmp_path / "machine-id"
    if content is not None:
        number.write_text(content)
    monkeypatch.setattr(drafts, "_MACHINE_ID", number)
    on_machine(f"one-start {NO_CONTAINER}")
    own = draft_of(tmp_path / "file")
    # Another machine of that name, or this one after its next start.
    on_machine(f"another-start {NO_CONTAINER}")
    assert is_abandoned(own) is known


def test_of_what_was_abandoned_another_users_stays(tmp_path, dead, monkeypatch):
    left = dead(tmp_path / "OUT.zarr")
    left.mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(os, "geteuid", lambda: -1)
        remove_abandoned(tmp_path)
        assert left.exists()
    with scratch_directory(tmp_path) as scratch:
        assert not left.exists()
        assert scratch.stat().st_mode & 0o777 == 0o700
    assert not names(tmp_path)


def test_links_are_not_followed_where_a_tree_is_removed(tmp_path):
    for folder in ("kept", "run"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file").touch()
    (tmp_path / "run" / "link").symlink_to(tmp_path / "kept")
    (tmp_path / "to").symlink_to(tmp_path / "run")
    remove_tree(tmp_path / "to")
    assert sorted(entries(tmp_path / "run")) == ["file", "link"]
    remove_tree(tmp_path / "run", sparing=[tmp_path / "run" / "file"])
    assert (names(tmp_path / "run"), names(tmp_path / "kept")) == (["file"], ["file"])
    remove_tree(tmp_path / "run")
    assert names(tmp_path) == ["kept", "to"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")

    monkeypatch.setattr(os, "fsync", Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert (path.read_bytes(), names(tmp_path)) == (b"old", ["file"])


def test_files_are_readable_as_the_users_mask_says(tmp_path):
    write_atomically(tmp_path / "file", b"")
    (tmp_path / "plain").touch()
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


def make(path, name, **options):
    with new_directory(path, **options) as fresh:
        (fresh / name).touch()


def test_a_directory_appears_at_the_end_with_all_its_parents_and_in_place_of_what_was_there(tmp_path):
    path = tmp_path / "a" / "b"
    with new_directory(path) as fresh:
        (fresh / "old").touch()
        assert not path.exists()
    assert names(path) == ["old"]
    make(path, "new", replaces=True)
    assert (names(path), names(path.parent)) == (["new"], ["b"])
    (tmp_path / "empty").mkdir()
    make(tmp_path / "empty", "new")
    # What is to be replaced may be gone.
    make(tmp_path / "gone", "new", replaces=True)
    assert names(tmp_path / "empty") == names(tmp_path / "gone") == ["new"]


@pytest.mark.parametrize("target", ["run", "x/y"])
def test_an_error_leaves_what_was_there_and_no_new_parents(tmp_path, target):
    make(tmp_path / "run", "old")
    with pytest.raises(ZeroDivisionError), new_directory(tmp_path / target, replaces=True) as fresh:
        (fresh / str(1 / 0)).touch()
    assert (names(tmp_path / "run"), names(tmp_path)) == (["old"], ["run"])


def test_an_error_between_the_two_renames_brings_the_old_one_back(tmp_path, monkeypatch):
    path = tmp_path / "run"
    make(path, "old")
    rename = Path.replace

    def fail_for_the_new_one(self, target):
        if target == path and (self / "new").exists():
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", fail_for_the_new_one)
    with pytest.raises(KeyboardInterrupt):
        make(path, "new", replaces=True)
    assert (names(path), names(tmp_path)) == (["old"], ["run"])


def test_one_that_was_killed_between_the_two_renames_is_found_again(tmp_path, monkeypatch):
    path = tmp_path / "run"
    make(path, "old")
    assert not restore(path)
    rename = Path.replace

    def killed(self, target):
        if self.parent == target.parent and target.name != "driver.json" and not target.name.endswith(".old"):
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            make(path, "new", replaces=True)
    assert not path.exists()
    (left,) = tmp_path.iterdir()
    with hold(RunDir(left)):
        # Whoever replaces it may live.
        assert not restore(path)
    # A command for something else leaves it alone.
    monkeypatch.setattr(drafts, "is_abandoned", lambda _: True)
    remove_abandoned(tmp_path)
    assert restore(path)
    assert (sorted({*names(path)} - {"lock"}), names(tmp_path)) == (["old"], ["run"])


def test_what_was_replaced_and_not_removed_goes_with_the_next_command(tmp_path, dead):
    path = tmp_path / "run"
    make(path, "new")
    for draft in (dead(path), dead(path).with_name(f"{dead(path).name}.old")):
        draft.mkdir()
    assert not restore(path)
    assert (names(path), names(tmp_path)) == (["new"], ["run"])


def test_what_has_appeared_meanwhile_is_not_replaced(tmp_path):
    path = tmp_path / "run"
    with pytest.raises(InputError, match="run cannot be made .*: look whether .* choose another"), new_directory(path):
        make(path, "other")
    assert (names(path), names(tmp_path)) == (["other"], ["run"])
