from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from event_lists import all_over, write_lists


@pytest.fixture
def many(tmp_path):
    """Lists of some thousand events over the sky, and all of them."""
    sky = all_over(5000, 1)
    energies = 10 ** np.random.default_rng(2).uniform(3, 6, len(sky))
    paths = write_lists(tmp_path, sky, energies)
    rows = [fits.getdata(path, "EVENTS") for path in paths]
    whole = {name: np.concatenate([each[name] for each in rows]).astype(float) for name in ("RA", "DEC", "ENERGY")}
    return SimpleNamespace(paths=paths, sky=sky, energies=energies, **whole)
