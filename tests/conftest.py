import os
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data():
    """Folder of the reference data; tests that need it are skipped where it is absent, unless CI demands it."""
    if not SHARED.is_dir():
        if os.environ.get("CWT_DASK_REQUIRE_SHARED"):
            pytest.fail(f"the reference data is missing: {SHARED}")
        pytest.skip("the reference data (../shared/data) is not beside this checkout")
    return SHARED
