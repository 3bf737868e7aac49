"""Reporters that keep the messages of a run, or let it die where a test wants it."""

from cwt_dask.runtime.progress import Reporter


class Messages(Reporter):
    def __init__(self):
        self.texts = []

    def message(self, text):
        self.texts.append(text)

    @property
    def text(self):
        return "\n".join(self.texts)


class InterruptedRunError(Exception):
    """In place of a machine that dies."""


class DiesAt(Reporter):
    """Dies before a stage's n-th item is counted."""

    def __init__(self, stage, item, error=InterruptedRunError):
        self.at, self.error = (stage, item), error

    def track(self, outcomes, stage, total):  # noqa: ARG002 - as the reporter's
        for number, outcome in enumerate(outcomes):
            if stage.startswith(self.at[0]) and number == self.at[1]:
                raise self.error(stage)
            yield outcome

    def message(self, text):
        pass
