"""Under a real mpirun."""

import os
import re
import signal
import socket
import subprocess
from contextlib import suppress

from batch import wait_for
from elsewhere import ENVIRONMENT, LONG, OPTIONS, SAID, digest_of, tiles_done

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
    assert "there are 2 processes: start at least 3" in said
    assert not (place / "few").exists()


def test_what_the_driver_refuses_ends_all_processes(place):
    with started(place, 4, "run", "absent.fits", "none", *OPTIONS) as mpirun:
        said = mpirun.communicate(timeout=SECONDS)[0]
    assert mpirun.returncode == 2
    assert said.count("cannot be read") == 1
    assert "Traceback" not in said


def answers(host, port):
    with suppress(OSError), socket.create_connection((host, port), timeout=5):
        return True
    return False


def test_the_dashboard_is_seen_on_the_machine_itself_only(survey, place):
    others = socket.gethostbyname(socket.gethostname())
    assert not others.startswith("127."), "this machine has no address that others see"
    with started(place, 3, "run", survey, "seen", *LONG) as mpirun:
        told = next(line for line in mpirun.stdout if "dashboard at" in line)
        port = int(re.search(r"dashboard at http://127\.0\.0\.1:(\d+)/status", told)[1])
        assert answers("127.0.0.1", port)
        assert not answers(others, port)
        mpirun.kill()
