"""Both ways in which an executor can notice that its scheduler is gone: which comes first is chance with a real one."""

from contextlib import nullcontext
from unittest.mock import Mock

import pytest

from cwt_dask.errors import RunError
from cwt_dask.runtime import executors
from cwt_dask.runtime.executors import OnDask


class LostClient:
    """A client whose scheduler was lost: before the first task is sent, or while one is waited for."""

    status = "closed"

    def __init__(self, *, answers):
        self.answers = answers

    def nthreads(self):
        if not self.answers:
            raise OSError("Timed out trying to connect")
        return {"worker": 1}

    def submit(self, *_, **__):
        return Mock(status="pending")

    def processing(self):
        return {}

    def cancel(self, _):
        pass

    def as_current(self):
        return nullcontext()


@pytest.mark.parametrize("answers", [False, True])
def test_a_lost_scheduler_is_noticed(monkeypatch, answers):
    def wait(*_, **__):
        raise TimeoutError

    monkeypatch.setattr(executors.distributed, "wait", wait)
    with pytest.raises(RunError, match="the Dask scheduler was lost: start the same command again"):
        list(OnDask(LostClient(answers=answers)).map(abs, [1]))
