"""Under a real mpirun."""

import os
import re
import signal
import subprocess

import psutil
from batch import wait_for
from elsewhere import ENDLESS, ENVIRONMENT, LONG, OPTIONS, SAID, digest_of, tiles_done

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


def test_the_dashboard_is_seen_on_the_machine_itself_only(survey, place):
    with started(place, 3, "run", survey, "seen", *ENDLESS) as mpirun:
        told = next(line for line in mpirun.stdout if "dashboard at" in line)
        port = int(re.search(r"dashboard at http://127\.0\.0\.1:(\d+)/status", told)[1])
        listening = [found for found in psutil.net_connections("tcp") if found.status == psutil.CONN_LISTEN]
        assert {found.laddr.ip for found in listening if found.laddr.port == port} == {"127.0.0.1"}
        mpirun.kill()


def test_a_scheduler_that_cannot_start_ends_all_processes(survey, place):
    (place / "wrong.toml").write_text('[cluster]\nkind = "mpi"\n[cluster.options]\ninterface = "nowhere"\n')
    with started(place, 3, "run", survey, "nowhere", "--config=wrong.toml", *OPTIONS) as mpirun:
        said = mpirun.communicate(timeout=SECONDS)[0]
    assert mpirun.returncode == 2
    assert said.count("does not take these cluster.options: 'nowhere' is not a valid network interface") == 1
