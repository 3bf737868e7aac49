"""What tests of input of any kind have in common."""

import warnings
from contextlib import contextmanager

import hypothesis

SHAPE = (45, 50)

settings = hypothesis.settings(
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
)


def tree(folder):
    """Every path below a folder, with the content of files."""
    return {path.relative_to(folder): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@contextmanager
def as_for_users():
    """Warnings of astropy are no errors outside of tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
