"""Named errors; each says what is wrong, where, and what to do."""


class CwtDaskError(Exception):
    """Base of every error that this package raises on purpose."""

    exit_status = 1


class InputError(CwtDaskError, ValueError):
    """The call, the settings or the survey is wrong: nothing was written or changed."""

    exit_status = 2


class SettingsError(InputError):
    """A setting is impossible, unknown, or differs from those of the run it is used on."""


class SurveyError(InputError):
    """A survey file is missing, damaged, or holds what cannot be analysed."""


class InterruptedRun(CwtDaskError):  # noqa: N818 - it is no error: the run is whole and can be gone on with
    """A run was asked to stop, and has: what was done is kept."""

    exit_status = 75


class RunError(CwtDaskError):
    """A run ended with tiles not done, or one of its promises is broken."""


class DamageError(RunError, LookupError):
    """A run has lost some of what it wrote."""


class MachineError(RunError):
    """A machine failed under a tile: it may do better at another time, or another machine may."""
