"""Under a real mpirun."""

import os
import re
import signal
import subprocess

import psutil
from batch import wait_for
from elsewhere import ENDLESS, ENVIRONMENT, LONG, OPTIONS, SAID, assert_refuses_strangers, digest_of, tiles_done

SECONDS = 120


def started(place, n, *command):
    mpirun = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-n", str(n)]
    words = [*mpirun, "cwt-dask", *map(str, command), "--cluster=mpi"]
    return subprocess.Popen(words, cwd=place, env=ENVIRONMENT, **SAID)


def test_tiles_in_hand_are_ended_when_mpirun_is_told(survey, undisturbed, place):
    command = ("run", survey, "mpi", *LONG)
    with started(place, 4, *command) as mpirun:
        wait_for(lambda: tiles_done(place / "mpi") > 2 or mpirun.poll() is not None, "some tiles", 120)
        os.kill(mpirun.pid, signal.SIGUSR1)
        said = mpirun.communicate(timeout=SECONDS)[0]
    assert mpirun.returncode == 75
    assert "stopping: what is begun is ended first" in said
    assert "Traceback" not in said
    with started(place, 4, *command) as mpirun:
        said = mpirun.communicate(timeout=SECONDS)[0]
    assert mpirun.returncode == 0, said
    assert digest_of(place / "mpi") == undisturbed


def test_too_few_processes_are_refused(survey, place):
    with started(place, 2, "run", survey, "few", *OPTIONS) as mpirun:
        said = mpirun.communicate(timeout=SECONDS)[0]
    assert mpirun.returncode == 2
    assert said.count("the number of processes is 2: start at least 3") == 1
    assert not (place / "few").exists()


def test_what_all_processes_refuse_is_said_once(survey, place):
    with started(place, 4, "run", survey, "never", *OPTIONS, "--tol=small") as mpirun:
        said = mpirun.communicate(timeout=SECONDS)[0]
    assert mpirun.returncode == 2
    assert said.count("small") == said.count("cwt-dask: ") == 1


def test_what_the_driver_refuses_ends_all_processes(place):
    with started(place, 4, "run", "absent.fits", "none", *OPTIONS) as mpirun:
        said = mpirun.communicate(timeout=SECONDS)[0]
    assert mpirun.returncode == 2
    assert said.count("cannot be read") == 1
    assert "Traceback" not in said


def rank(mpirun, number):
    """One of the processes that `mpirun` has started."""
    for process in psutil.Process(mpirun.pid).children(recursive=True):
        if process.environ().get("OMPI_COMM_WORLD_RANK") == str(number) and "run" in process.cmdline():
            return process
    raise AssertionError(f"there is no rank {number}")


def test_strangers_reach_neither_scheduler_nor_dashboard(survey, place):
    with started(place, 3, "run", survey, "seen", *ENDLESS) as mpirun:
        told = next(line for line in mpirun.stdout if "dashboard at" in line)
        port = int(re.search(r"dashboard at http://127\.0\.0\.1:(\d+)/status", told)[1])
        scheduler, driver = (rank(mpirun, number).net_connections("tcp") for number in (0, 1))
        listening = {found.laddr.port: found.laddr.ip for found in scheduler if found.status == psutil.CONN_LISTEN}
        assert listening.pop(port) == "127.0.0.1"
        spoken_to = {found.raddr.port: found.raddr.ip for found in driver if found.raddr}
        addresses = [f"tls://{spoken_to[number]}:{number}" for number in spoken_to.keys() & listening.keys()]
        assert addresses
        for address in addresses:
            assert_refuses_strangers(address)
        mpirun.kill()


def test_a_scheduler_that_cannot_start_ends_all_processes(survey, place):
    (place / "wrong.toml").write_text('[cluster]\nkind = "mpi"\n[cluster.options]\ninterface = "nowhere"\n')
    with started(place, 3, "run", survey, "nowhere", "--config=wrong.toml", *OPTIONS) as mpirun:
        said = mpirun.communicate(timeout=SECONDS)[0]
    assert mpirun.returncode == 2
    assert said.count("does not take these cluster.options: 'nowhere' is not a valid network interface") == 1
