"""Files and folders that may not be read: simulated, as root may read everything."""

import errno
import os
from contextlib import contextmanager
from unittest import mock

from cwt_dask.storage import disk


@contextmanager
def forbidden(path):
    """What may not be read within the block: a file, or a directory with all that is below it."""

    def guarded(function):
        def call(asked):
            if path in (asked, *asked.parents):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(asked))
            return function(asked)

        return call

    calls = {name: guarded(getattr(disk, name)) for name in ("open_file", "scan")}
    with mock.patch.multiple("cwt_dask.storage.disk", **calls):
        yield
