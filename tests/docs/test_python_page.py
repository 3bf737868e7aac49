"""What docs/python.md says to type; what needs Gammapy or xarray runs in tests/gammapy."""

import matplotlib as mpl
import matplotlib.pyplot as plt
from pages import GAMMAPY, XARRAY, python_blocks

mpl.use("Agg")


def test_every_block_runs_after_the_one_before(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    blocks = [block for block in python_blocks("python.md") if not block.startswith((GAMMAPY, XARRAY))]
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), names)  # noqa: S102 - that is the test
    plt.close("all")
    assert (tmp_path / "counts.png").stat().st_size > 10_000
