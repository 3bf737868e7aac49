"""Wheel and sdist as an index gets them, and the wheel where nothing else of the project is (make test-package)."""

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DIST, BIN = ROOT / "dist", ROOT / ".venv-package" / "bin"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
README = (ROOT / "README.md").read_text(encoding="utf-8")
NAME = f"cwt_dask-{PROJECT['version']}"


@pytest.fixture(scope="module")
def sdist():
    """Files of the sdist by name, and their bytes."""
    with tarfile.open(DIST / f"{NAME}.tar.gz") as tar:
        found = {member.name: tar.extractfile(member).read() for member in tar.getmembers() if member.isfile()}
    return {name.removeprefix(f"{NAME}/"): content for name, content in found.items()}


@pytest.fixture(scope="module")
def wheel():
    """Files of the wheel, which was built from the sdist, by name, and their bytes."""
    with zipfile.ZipFile(DIST / f"{NAME}-py3-none-any.whl") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize("distribution", ["sdist", "wheel"])
def test_the_package_is_in_it_as_it_is_here(distribution, request):
    files = [path for path in (ROOT / "cwt_dask").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    here = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in files}
    there = request.getfixturevalue(distribution)
    assert {name: content for name, content in there.items() if name.startswith("cwt_dask/")} == here


def test_nothing_else_is_in_the_wheel(wheel):
    assert {name.split("/")[0] for name in wheel} == {"cwt_dask", f"{NAME}.dist-info"}


def test_readme_licence_and_extras_are_in_the_metadata(wheel):
    metadata = Parser().parsestr(wheel[f"{NAME}.dist-info/METADATA"].decode())
    assert metadata.get_payload().strip() == README.strip()
    assert wheel[f"{NAME}.dist-info/licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()
    named = [path for folder in ("cwt_dask", "docs") for path in (ROOT / folder).rglob("*.[pm][yd]")]
    asked = {name for path in named for name in re.findall(r"cwt_dask\[(\w+)\]", path.read_text(encoding="utf-8"))}
    assert {"export", "gammapy", "plot", "s3"} <= asked <= set(metadata.get_all("Provides-Extra"))


def test_links_that_an_index_shows_lead_to_the_project(tmp_path):
    for name in ("README.md", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, ROOT / "deploy" / "index" / "address.py", tmp_path, "https://example.org/project/"]
    subprocess.run(command, check=True)
    changed = tomllib.loads((tmp_path / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert changed.pop("urls").keys() == {"Source", "Documentation", "Changelog"}
    assert changed == PROJECT
    targets = re.findall(r"\]\(([^)#]+)", (tmp_path / "README.md").read_text(encoding="utf-8"))
    ours = [re.fullmatch(rf"https://example\.org/project/(raw|blob)/v{PROJECT['version']}/(.+)", at) for at in targets]
    assert all(link or at.startswith("https:") for link, at in zip(ours, targets, strict=True))
    assert {link[2] for link in ours if link and link[1] == "raw"} == {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "docs" / "pictures").glob("*.png") if path.name in README
    }
    assert all((ROOT / link[2]).exists() for link in ours if link)


def test_what_is_installed_simulates_runs_and_reports(tmp_path):
    # Of this checkout and its environment nothing is on the path.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    # To compile what was installed anew takes minutes, and is what all other tests do.
    environment["NUMBA_DISABLE_JIT"] = "1"

    def called(*command):
        command = [BIN / command[0], *command[1:]]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout

    place = called("python", "-c", "import cwt_dask; print(cwt_dask.__file__)").strip()
    assert Path(place).is_relative_to(BIN.parent)
    assert called("cwt-dask", "--version").split()[-1] == PROJECT["version"]
    called("cwt-dask", "simulate", "survey.fits", "--shape", "60", "90", "--seed", "1")
    called("cwt-dask", "run", "survey.fits", "run", "--n-scale=2", "--max-iter=2", "--tile-size=60", "--workers=0")
    report = tmp_path / "run" / "report.html"
    report.unlink()
    called("cwt-dask", "report", "run")
    assert "Bokeh" in report.read_text(encoding="utf-8")
