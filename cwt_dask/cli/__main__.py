"""The command, as `python -m cwt_dask.cli`."""

import sys

from cwt_dask.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
