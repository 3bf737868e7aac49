"""What tests of whatever is handed in have in common."""

import warnings
from contextlib import contextmanager

import hypothesis

SHAPE = (45, 50)

settings = hypothesis.settings(
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
)


@contextmanager
def as_for_users():
    """Warnings of astropy are no errors outside of tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
