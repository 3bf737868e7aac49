"""What notebooks show of kernels and data."""

from xml.etree import ElementTree as ET

import numpy as np
import pytest

from cwt_dask import CWT, CWTData, CWTKernels


def words_of(thing):
    """The words between tags, which balance."""
    html = thing._repr_html_().replace("<br>", "<br/>")
    return list(ET.fromstring(html).itertext())  # noqa: S314 - it is ours


def test_kernels_show_their_figures():
    words = words_of(CWTKernels(n_scale=2, min_scale=6.0, step_scale=1.3))
    assert words[0] == "CWTKernels(n_scale=2, min_scale=6.0, step_scale=1.3, old=False)"
    assert words[1] == "reach 41 pixels, gain 0.0186"
    # Those of the published tutorial.
    assert words[words.index("approximation") :][:5] == ["approximation", "10.14", "83", "0.999915", "0.0015479"]
    assert words[words.index("base, scale 6") :][:5] == ["base, scale 6", "7.8", "63", "3.01663e-05", "8.59947e-05"]


@pytest.mark.parametrize(("tol", "stopped"), [(0.0, "steps not below tol"), (1e9, "steps below tol")])
def test_data_shows_how_far_it_is_and_all_images(tol, stopped):
    counts = np.random.default_rng(1).poisson(1.0, (30, 40))
    data = CWTData(counts=counts, background=np.ones((30, 40)), n_scale=2)
    assert words_of(data)[:2] == ["CWTData(30 x 40 pixels, 2 scales, 0 iterations)", "not analysed yet"]
    CWT(CWTKernels(2, 2.0, 1.3), max_iter=2, tol=tol).analyze(data)
    words = words_of(data)
    assert words[0] == repr(data) == "CWTData(30 x 40 pixels, 2 scales, 2 iterations)"
    assert words[1] == f"after iteration 2, {stopped}"
    assert set(data.images()) | set(data.cubes()) <= set(words)
    assert f"{counts.sum():g}" in words
