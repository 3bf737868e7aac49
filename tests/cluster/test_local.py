"""Workers of this machine: scripts that cannot start any, whole; and workers that end during a run.

Scripts that are gone or come through a pipe: tests/runtime/clusters/test_script.py.
"""

import pytest
from elsewhere import ENVIRONMENT, OPTIONS, bash, digest_of

CALL = """
from cwt_dask import run_survey
run_survey("{}", "run", n_scale=2, min_scale=1.5, tile_size=128, workers=2)
"""
POOL = """
def call(_):
    import runpy
    runpy.run_path("script.py")

if __name__ == "__main__":
    import {0}
    with {1} as others:
        others.{2}
"""
DASK = "distributed.Client(n_workers=1, threads_per_worker=1, dashboard_address=None)"
GUARD = 'make the call below `if __name__ == "__main__":` in a script, or give workers=0'
ENDED = f"workers end as they start: {GUARD}\n"
UNREAD = f": it must be in a file; {GUARD}\n"
ITSELF = "cannot start others: give workers=0, or make the call elsewhere\n"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("python script.py", ENDED),
        ("echo import script > main.py; python main.py", ENDED),
        ("python - < script.py", UNREAD),
        (POOL.format("multiprocessing", "multiprocessing.Pool(1)", "map(call, [1])"), ITSELF),
        (POOL.format("distributed", DASK, "submit(call, 1).result()"), ITSELF),
    ],
)
def test_scripts_that_can_start_no_workers(small_survey, tmp_path, command, message):
    (tmp_path / "script.py").write_text(CALL.format(small_survey))
    if "\n" in command:
        (tmp_path / "main.py").write_text(command)
        command = "python main.py"
    status, printed = bash(tmp_path, command)
    assert status == 1
    assert printed.endswith(message), printed
    # What Python itself says of an error in a script, and in a pool; nothing of what led Dask there.
    assert message == ITSELF or printed.count("Traceback") == 1
    assert not list(tmp_path.glob("*run*"))


def test_a_site_s_settings_end_no_workers_of_this_machine(survey, tmp_path):
    site = {"DASK_DISTRIBUTED__WORKER__LIFETIME__DURATION": "1s", "DASK_DISTRIBUTED__SCHEDULER__IDLE_TIMEOUT": "1s"}
    command = f"cwt-dask run {survey} run --workers 2 {' '.join(OPTIONS)}"
    status, printed = bash(tmp_path, command, environment=ENVIRONMENT | site)
    assert status == 0, printed
    assert digest_of(tmp_path / "run")
