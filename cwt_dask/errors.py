"""Named errors; each says what is wrong, where, and what to do."""


class CwtDaskError(Exception):
    """Base of every error that this package raises on purpose.

    Attributes
    ----------
    exit_status : int
        That of the command line.

    Examples
    --------
    >>> from cwt_dask import CWTKernels
    >>> from cwt_dask.errors import CwtDaskError
    >>> try:
    ...     CWTKernels(n_scale=0, min_scale=6.0, step_scale=1.3)
    ... except CwtDaskError as error:
    ...     print(type(error).__name__, error.exit_status, error, sep="; ")
    SettingsError; 2; n_scale is 0: it must be a whole number of at least 1
    """

    exit_status = 1


class InputError(CwtDaskError, ValueError):
    """The call, the settings or the survey is wrong: nothing was written or changed."""

    exit_status = 2


class SettingsError(InputError):
    """A setting is impossible, unknown, or differs from those of the run it is used on."""


class SurveyError(InputError):
    """A survey file is missing, damaged, or holds what cannot be analysed."""


class InterruptedRun(CwtDaskError):  # noqa: N818 - it is no error: the run is whole and can be resumed
    """A run stopped on request; what was done is kept."""

    exit_status = 75


class AccessError(CwtDaskError):
    """A file or folder may not be read: what is in it may be as it should be, so that nothing is done about it."""

    exit_status = 2


class RunError(CwtDaskError):
    """A run ended with tiles not done, or one of its promises is broken."""


class DamageError(RunError, LookupError):
    """A run has lost some of what it wrote."""


class MachineError(RunError):
    """A machine failed under a tile: a retry there or on another machine may succeed."""
