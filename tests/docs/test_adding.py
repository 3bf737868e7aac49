"""The diffs of docs/design/0015-adding.md: they apply, and a map, a column and a setting are there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "design" / "0015-adding.md"
SHOWS = """
from pathlib import Path

from astropy.io import fits

from cwt_dask import run_survey
from cwt_dask.cli.commands import cli
from cwt_dask.config import Settings
from cwt_dask.errors import SettingsError
from cwt_dask.simulate import simulate

simulate("survey.fits", (60, 80), seed=1)
run = run_survey("survey.fits", "run", min_scale=1.5, max_iter=2, min_excess=2, workers=0)
assert (fits.getdata("run/maps.fits", "N_SCALES") == run.support.sum(axis=0).compute()).all()
run.plot("n_scales")
assert len(run.catalogue) > 0
assert (run.catalogue["count_density"].quantity.to_value("ct / pix2") > 0).all()
assert "Counts a pixel" in Path("run/report.html").read_text()
assert "min_excess = 2" in Path("run/run.toml").read_text()
assert "--min-excess" in [name for parameter in cli.commands["run"].params for name in parameter.opts]
assert "min_excess : float or None" in Settings.__doc__
try:
    Settings(min_excess=-1)
except SettingsError as error:
    assert "min_excess is -1.0: it must be at least 0" in str(error)
else:
    raise AssertionError("not refused")
"""


def test_a_map_a_column_and_a_setting_are_an_entry_each(tmp_path):
    shutil.copytree(ROOT / "cwt_dask", tmp_path / "cwt_dask", ignore=shutil.ignore_patterns("__pycache__"))
    diffs = re.findall(r"^```diff\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(diffs) == 3
    # Outside of a repository git applies to the files that lie there.
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "MPLBACKEND": "Agg", "GIT_CEILING_DIRECTORIES": "/"}
    for command, text in [*((["git", "apply", "-"], diff) for diff in diffs), ([sys.executable, "-"], SHOWS)]:
        done = subprocess.run(
            command, input=text, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
