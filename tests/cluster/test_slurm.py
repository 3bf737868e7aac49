"""On a real SLURM, with the job scripts of deploy/ as they are."""

import json
import re
import subprocess
from contextlib import suppress

import psutil
import pytest
from batch import SECONDS, end_jobs, output_of, wait_for
from elsewhere import ENDLESS, LONG, OPTIONS, ROOT, assert_refuses_strangers, digest_of, tiles_done

from cwt_dask.config.options import Options
from cwt_dask.runtime.clusters.choice import prepare_cluster
from cwt_dask.runtime.clusters.private import remove_dead

DEPLOY = ROOT / "deploy" / "slurm"
# What this machine has.
FOUR_TASKS = ("--ntasks=4", "--mem-per-cpu=1500M", "--time=10")
ZARRS_EXIT = r"Exception ignored in atexit callback:? <function cleanup_resources[^\n]*\nTraceback"
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")


@pytest.fixture(autouse=True)
def _no_jobs_are_left(slurm):
    """What one test leaves behind when it fails takes cores away from the next."""
    yield
    end_jobs(slurm)


def submit(environment, place, *command):
    """Submit a job; its number."""
    sbatch = ["sbatch", "--parsable", *map(str, command)]
    done = subprocess.run(sbatch, cwd=place, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


def about(environment, job, name):
    """A property of a job."""
    return re.search(rf"\b{name}=(\S+)", output_of(environment, "scontrol", "show", "job", job))[1]


def finish(environment, job, place):
    """Wait for a job's end, which must be a good one; what it printed."""
    wait_for(lambda: about(environment, job, "JobState") in ENDED, f"the end of job {job}")
    log = (place / f"slurm-{job}.out").read_text()
    assert about(environment, job, "JobState") == "COMPLETED", log
    # At its exit Zarr waits a fifth of a second for its own thread, which takes longer where cores are busy: that is no
    # part of a run.
    assert "Traceback" not in re.sub(ZARRS_EXIT, "", log)
    return log


def driver_of(job):
    """The process of a job that drives the run."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            variables, command = process.environ(), " ".join(process.cmdline())
            if (variables.get("SLURM_JOB_ID"), variables.get("SLURM_PROCID")) == (job, "1") and "cwt-dask" in command:
                return process
    raise AssertionError(f"job {job} has no driver")


def workers_of(environment):
    """Jobs of workers that run."""
    running = ("--name=dask-worker", "--states=RUNNING")
    return output_of(environment, "squeue", "--noheader", *running, "--format=%i").split()


def test_a_job_that_meets_walltime_is_requeued_and_goes_on(slurm, survey, undisturbed, place):
    job = submit(slurm, place, *FOUR_TASKS, DEPLOY / "run.sh", survey, "walltime", *LONG)
    wait_for(lambda: tiles_done(place / "walltime") > 2, "some tiles")
    # As --signal=B:TERM@180 does.
    output_of(slurm, "scancel", "--batch", "--signal=TERM", job)
    log = finish(slurm, job, place)
    assert about(slurm, job, "Restarts") == "1"
    assert "stopping: " in log
    assert digest_of(place / "walltime") == undisturbed


def test_strangers_do_not_reach_the_scheduler_of_a_job_which_ends_with_its_driver(slurm, survey, place):
    job = submit(slurm, place, *FOUR_TASKS, DEPLOY / "run.sh", survey, "endless", *ENDLESS)
    wait_for(lambda: list(place.glob(".cwt-dask-*/scheduler.json")), "the scheduler")
    wait_for(lambda: "dashboard" in (place / f"slurm-{job}.out").read_text(), "the driver")
    (file,) = place.glob(".cwt-dask-*/scheduler.json")
    assert_refuses_strangers(json.loads(file.read_text())["address"])
    # Nor does it hold the allocation when its driver is killed.
    driver_of(job).kill()
    wait_for(lambda: about(slurm, job, "JobState") in ENDED, f"the end of job {job}")
    assert about(slurm, job, "JobState") == "FAILED"
    # Its scheduler has gone: the next run knows that.
    remove_dead(place)
    assert not list(place.glob(".cwt-dask-*"))


def test_workers_are_submitted_and_may_be_lost(slurm, survey, undisturbed, place):
    options = ("--workers=2", f"--config={DEPLOY / 'workers.toml'}")
    job = submit(slurm, place, "--mem=1500M", DEPLOY / "driver.sh", survey, "submitted", *options, *LONG)
    wait_for(lambda: tiles_done(place / "submitted") > 2, "some tiles")
    # All of them: without others in their place the run cannot end.
    output_of(slurm, "scancel", "--signal=KILL", *workers_of(slurm))
    finish(slurm, job, place)
    assert digest_of(place / "submitted") == undisturbed
    wait_for(lambda: not workers_of(slurm), "the end of all workers")
    assert not list(place.glob(".cwt-dask-*"))


def test_jobs_of_arrays_and_drivers_go_on_after_a_signal(slurm, survey, undisturbed, place):
    (place / "fields.txt").write_text(f"{survey} array\n")
    command = ("--array=1", "--cpus-per-task=2", "--mem-per-cpu=1500M", DEPLOY / "array.sh", "fields.txt", *LONG)
    jobs = {"array": f"{submit(slurm, place, *command)}_1"}
    command = ("--mem=1500M", DEPLOY / "driver.sh", survey, "driven", "--workers=2", *LONG)
    jobs["driven"] = submit(slurm, place, *command, f"--config={DEPLOY / 'workers.toml'}")
    for run_dir, job in jobs.items():
        wait_for(lambda place=place / run_dir: tiles_done(place) > 2, f"some tiles of {run_dir}")
        output_of(slurm, "scancel", "--batch", "--signal=TERM", job)
    for run_dir, job in jobs.items():
        log = finish(slurm, job, place)
        assert "stopping: " in log
        assert about(slurm, job, "Restarts") == "1"
        assert digest_of(place / run_dir) == undisturbed


def test_jobs_that_are_cancelled_stay_so(slurm, survey, place):
    (place / "fields.txt").write_text(f"{survey} cancelled-array\n")
    one_job = ("--mem-per-cpu=1500M", "--time=10")
    jobs = {}
    for run_dir, command in {
        "cancelled-run": (*FOUR_TASKS, DEPLOY / "run.sh", survey, "cancelled-run"),
        "cancelled-array": (*one_job, "--array=1", "--cpus-per-task=2", DEPLOY / "array.sh", "fields.txt"),
    }.items():
        job = submit(slurm, place, *command, *LONG)
        jobs[run_dir] = f"{job}_1" if "array" in run_dir else job
        wait_for(lambda place=place / run_dir: tiles_done(place) > 2, f"some tiles of {run_dir}")
        output_of(slurm, "scancel", jobs[run_dir])
    for job in jobs.values():
        command = ("squeue", "--noheader", f"--jobs={job}")
        wait_for(lambda command=command: not output_of(slurm, *command), f"the end of {job}")
        assert about(slurm, job, "JobState") == "CANCELLED"
        assert about(slurm, job, "Restarts") == "0"
        log = (place / f"slurm-{job}.out").read_text()
        assert "interrupted" in log
        assert "scancel: error" not in log


def test_jobs_that_have_nothing_to_do_end_and_strangers_are_refused(slurm, place, monkeypatch):
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, slurm[name])
    table = {"kind": "slurm", "minimum": 0, "options": {"interface": "lo", "log_directory": str(place)}}
    execution = Options.parse({"cluster": table, "workers": 2, "memory_limit": "1GiB"}).execution
    before = set(workers_of(slurm))
    with prepare_cluster(execution, place / "idle")() as client:
        assert not set(workers_of(slurm)) - before
        assert client.submit(abs, -1).result(SECONDS) == 1
        assert_refuses_strangers(client.scheduler.address)
        wait_for(lambda: not set(workers_of(slurm)) - before, "the end of jobs without work")


def test_what_a_run_ends_with_is_what_its_job_ends_with(slurm, place):
    job = submit(slurm, place, *FOUR_TASKS, DEPLOY / "run.sh", "absent.fits", "absent", *OPTIONS)
    wait_for(lambda: about(slurm, job, "JobState") in ENDED, f"the end of job {job}")
    assert about(slurm, job, "JobState") == "FAILED"
    assert about(slurm, job, "ExitCode") == "2:0"
    assert about(slurm, job, "Restarts") == "0"
    assert "absent.fits cannot be read" in (place / f"slurm-{job}.out").read_text()


@pytest.mark.parametrize(
    ("option", "status", "message"),
    [
        ('queue = "absent"', 2, "SLURM takes no job with these cluster.options: sbatch: error: invalid partition"),
        ('job_script_prologue = ["exit 3"]', 1, r"is FAILED, exit code 3:0: read its log, /\S+/slurm-\d+\.out"),
    ],
    ids=["SLURM takes no job", "workers never come"],
)
def test_a_cluster_that_never_is_ends_the_run(slurm, small_survey, place, option, status, message):
    config = place / "wrong.toml"
    config.write_text(f'workers = 1\n[cluster]\nkind = "slurm"\n[cluster.options]\n{option}\n')
    words = ["cwt-dask", "run", small_survey, "never", *OPTIONS, f"--config={config}"]
    done = subprocess.run(words, cwd=place, env=slurm, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == status
    assert re.search(message, done.stderr)
    assert "Traceback" not in done.stderr
    # A refusal comes before the run is there.
    assert (place / "never").exists() is (status == 1)
