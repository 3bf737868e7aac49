"""Under a real mpirun."""

import os
import re
import signal
import subprocess

import psutil
import pytest
from batch import SECONDS, wait_for
from elsewhere import ENDLESS, ENVIRONMENT, LONG, OPTIONS, PRINTED, assert_refuses_strangers, digest_of, tiles_done


def started(place, n, *command):
    mpirun = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-n", str(n)]
    words = [*mpirun, "cwt-dask", *map(str, command), "--cluster=mpi"]
    return subprocess.Popen(words, cwd=place, env=ENVIRONMENT, **PRINTED)


def test_started_tiles_are_finished_at_a_signal_to_mpirun(survey, undisturbed, place):
    command = ("run", survey, "mpi", *LONG)
    with started(place, 4, *command) as mpirun:
        wait_for(lambda: tiles_done(place / "mpi") > 2 or mpirun.poll() is not None, "some tiles")
        os.kill(mpirun.pid, signal.SIGUSR1)
        printed = mpirun.communicate(timeout=SECONDS)[0]
    assert mpirun.returncode == 75
    assert "stopping: " in printed
    assert "Traceback" not in printed
    with started(place, 4, *command) as mpirun:
        printed = mpirun.communicate(timeout=SECONDS)[0]
    assert mpirun.returncode == 0, printed
    assert digest_of(place / "mpi") == undisturbed


@pytest.mark.parametrize(
    ("n", "words", "fragment"),
    [
        (2, [], "the number of processes is 2: start at least 3"),
        (4, ["--tol=small"], "small"),
        (4, ["--background=absent.fits"], "absent.fits cannot be read"),
        (3, ["--config=wrong.toml"], "'there' is not a valid network interface"),
    ],
    ids=["too few processes", "found by all", "found by the driver", "found by the scheduler"],
)
def test_an_error_ends_all_processes_and_is_printed_once(survey, place, n, words, fragment):
    (place / "wrong.toml").write_text('[cluster]\nkind = "mpi"\n[cluster.options]\ninterface = "there"\n')
    with started(place, n, "run", survey, "never", *OPTIONS, *words) as mpirun:
        printed = mpirun.communicate(timeout=SECONDS)[0]
    assert mpirun.returncode == 2
    assert printed.count(fragment) == printed.count("cwt-dask: ") == 1, printed
    assert "Traceback" not in printed
    assert not (place / "never").exists()


def rank(mpirun, number):
    """One of the processes that `mpirun` has started."""
    for process in psutil.Process(mpirun.pid).children(recursive=True):
        if process.environ().get("OMPI_COMM_WORLD_RANK") == str(number) and "run" in process.cmdline():
            return process
    raise AssertionError(f"there is no rank {number}")


def test_strangers_reach_neither_scheduler_nor_dashboard(survey, place):
    with started(place, 3, "run", survey, "seen", *ENDLESS) as mpirun:
        line = next(line for line in mpirun.stdout if "dashboard at" in line)
        port = int(re.search(r"dashboard at http://127\.0\.0\.1:(\d+)/status", line)[1])
        scheduler, driver = (rank(mpirun, number).net_connections("tcp") for number in (0, 1))
        listening = {found.laddr.port: found.laddr.ip for found in scheduler if found.status == psutil.CONN_LISTEN}
        assert listening.pop(port) == "127.0.0.1"
        spoken_to = {found.raddr.port: found.raddr.ip for found in driver if found.raddr}
        addresses = [f"tls://{spoken_to[number]}:{number}" for number in spoken_to.keys() & listening.keys()]
        assert addresses
        for address in addresses:
            assert_refuses_strangers(address)
        mpirun.kill()
