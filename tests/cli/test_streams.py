"""Standard output is the command's alone; and what cannot be written to it, or to standard error, changes no status."""

import os
import subprocess
import sys
from unittest.mock import Mock

import pytest

from cwt_dask.cli.streams import _stream, lines_of_others
from cwt_dask.runtime.progress import Bar
from cwt_dask.runtime.terminal import drawn_on

MAIN = "import sys; from cwt_dask.cli.main import main; sys.exit(main())"
# A library that prints while it is loaded, in each of the ways, and then ends the command, which saves the time.
NOISY = """
import os, sys

class Finder:
    def find_spec(self, name, *_):
        if name == "dask":
            print("noise of Python")
            os.write(1, b"noise of C\\n")
            os.system("echo noise of a process")
            raise OSError("enough")

sys.meta_path.insert(0, Finder())
"""


def shell(script, line, **options):
    """Run a line of bash, in which the command is called cwt-dask."""
    define = f"set -o pipefail; cwt-dask() {{ {sys.executable} -c '{script}' \"$@\"; }}; "
    return subprocess.run(["/bin/bash", "-c", define + line], capture_output=True, text=True, check=False, **options)


def test_what_libraries_print_goes_to_standard_error(tmp_path):
    done = shell(NOISY + MAIN, "cwt-dask status absent", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    for kind in ("Python", "C", "a process"):
        assert f"noise of {kind}\n" in done.stderr


@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        ("cwt-dask --help | true", 0, ""),
        ("cwt-dask --help | head -1", 0, ""),
        (
            "cwt-dask plan --help > /dev/full",
            1,
            "cwt-dask: standard output could not be written (No space left on device)",
        ),
        ("cwt-dask --help >&-", 0, ""),
        ("cwt-dask run --help <&- >&- 2>&-", 0, ""),
        ("cwt-dask find 2> /dev/full", 2, ""),
        ("cwt-dask find > /dev/full 2>&1", 2, ""),
        ("cwt-dask find 2>&-", 2, ""),
    ],
)
def test_streams_that_cannot_be_written_change_no_status_but_of_what_is_only_printed(line, status, said):
    done = shell(MAIN, line)
    assert done.returncode == status
    assert done.stderr.strip() == said
    assert done.stdout.count("\n") == ("head" in line)


def test_what_a_locale_has_no_letters_for_is_written_as_python_writes_it(tmp_path):
    with (tmp_path / "file").open("wb", 0) as file, _stream(file.fileno(), Mock(encoding="ascii")) as stream:
        stream.write("kärtchen\n")
    assert (tmp_path / "file").read_bytes() == b"k\\xe4rtchen\n"


def test_lines_of_others_are_heard_from_python_c_and_processes_until_the_block_ends():
    heard = []
    with lines_of_others(heard.append):
        os.write(2, b"of C\n\nin ")
        os.write(1, b"two pieces\n")
        subprocess.run(["echo", "of a process"], check=True)  # noqa: S607
        os.write(2, b"not all of \xff")
    assert heard == ["of C", "in two pieces", "of a process", "not all of \N{REPLACEMENT CHARACTER}"]


def test_whoever_prints_steers_no_terminal_but_what_draws_on_it_does(tmp_path):
    with (tmp_path / "file").open("wb", 0) as file, _stream(file.fileno(), None) as stream:
        print("library\x1b[2J", "caf\xe9\t\u0645", file=stream)
        Bar(stream).message("bar\x1b[2J")
        drawn_on(stream).write("\x1b[1m\n")
    written = (tmp_path / "file").read_bytes().decode()
    assert written == "library\\x1b[2J caf\xe9\t\u0645\nbar\\x1b[2J\n\x1b[1m\n"
