"""Every block of commands and Python in README and docs, as it stands there: each page in a directory of its own."""

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Blocks that are not run here, by page, language and what they begin with: which tests run them, or why none can.
ELSEWHERE = {
    ("README.md", "console", "$ make demo"): "makes an environment; its commands: tests/cli/test_help.py, larger",
    ("docs/clusters.md", "console", "$ "): "tests/cluster/test_page.py",
    ("docs/clusters.md", "python", "# PBS"): "tests/docs/test_clusters_page.py, with simulated PBS, gateway and hosts",
    ("docs/howto/export.md", "python", "# with Gammapy"): "tests/gammapy/test_models.py",
    ("docs/python.md", "python", "# with Gammapy"): "tests/gammapy/test_gammapy.py",
    ("docs/python.md", "python", ""): "tests/docs/test_python_page.py",
    ("README.md", "console", "$ cwt-dask simulate allsky.fits"): "minutes, as a whole sky has 192 facets at least: "
    "docs/howto/sphere.md runs on a part of one, tests/test_simulate.py makes one",
    ("docs/performance.md", "console", "$ make bench"): "tests/test_benchmarks.py runs each part, small",
    ("docs/performance.md", "console", "$ cwt-dask simulate sky.fits"): "a sky of 7 GiB; the page says what it took",
}
# What pages take to be there, of what make_maps.py makes.
NEEDS = {
    "README.md": "survey.fits survey-v2.fits 3fhl.fits",
    "docs/catalogue.md": "run",
    "docs/index.md": "survey.fits",
    "docs/match.md": "run known.fits",
    "docs/howto/background.md": "survey.fits",
    "docs/howto/export.md": "run",
    "docs/howto/events.md": "photons.fits model-of-events.fits model-of-sky.fits runs",
    "docs/howto/from-python.md": "survey.fits",
    "docs/howto/own-map.md": "survey.fits maps.fits counts.fits model.fits mask.fits cube.fits settings.toml",
    "docs/howto/cta.md": "dataset.fits hess",
    "docs/howto/fermi.md": "ccube.fits mcube.fits bexpcube.fits parts.fits gtpsf.fits photons.fits 3fhl.fits "
    "model-of-events.fits srcmaps.fits fitted.xml iso.txt",
    "docs/howto/hawc.md": "hawc.fits",
    "docs/howto/hess.md": "hess dataset.fits",
    "docs/howto/observatories.md": "dataset.fits",
    "docs/howto/psf.md": "survey.fits",
    "docs/howto/sphere.md": "allsky.fits allsky-car.fits allsky-ait.fits",
    "docs/howto/measure.md": "run survey-v2.fits known.fits",
    "docs/howto/reprocess.md": "run survey-v2.fits",
}
# What is installed already.
INSTALL = re.compile(r"^\$ pip install .*\n", re.MULTILINE)
SECONDS = 600
# Commands are those of this environment; plots have no screen.
ENVIRONMENT = os.environ | {
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "PYTHONPATH": str(ROOT),
    "MPLBACKEND": "Agg",
}


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def is_one_of(starts, kind, text):
    return any(kind == language and text.startswith(start) for language, start in starts)


def blocks_of(page):
    """Language and text of the blocks of a page that are run here."""
    blocks = ((kind, INSTALL.sub("", text)) for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")))
    not_here = {(kind, start) for name, kind, start in ELSEWHERE if name == name_of(page)}
    return [(kind, text) for kind, text in blocks if text and not is_one_of(not_here, kind, text)]


WITH_BLOCKS = [page for page in PAGES if blocks_of(page)]


def run(directory, language, text, environment=ENVIRONMENT):
    """Run a block; fail with its output."""
    if language == "console":
        commands = [line[2:] for line in text.splitlines() if line.startswith("$ ")]
        words = ["bash", "-c", "\n".join(["set -euo pipefail", *commands])]
    else:
        # A file, as a user would make one: worker processes import it.
        (directory / "block.py").write_text(text)
        words = [sys.executable, "block.py"]
    done = subprocess.run(
        words, cwd=directory, env=environment, capture_output=True, text=True, check=False, timeout=SECONDS
    )
    assert done.returncode == 0, f"{text}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """What pages take to be there: maps of all kinds, made as they say it is done."""
    directory = tmp_path_factory.mktemp("made")
    with_tests = ENVIRONMENT | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    run(directory, "python", (Path(__file__).parent / "make_maps.py").read_text(), with_tests)
    return directory


def run_page(page, made, directory):
    """Run the blocks of a page in a directory that has what the page takes to be there."""
    directory.mkdir()
    for name in NEEDS.get(name_of(page), "").split():
        copy = shutil.copytree if (made / name).is_dir() else shutil.copy
        copy(made / name, directory / name)
    exports = ""
    for language, text in blocks_of(page):
        run(directory, language, exports + text if language == "console" else text)
        # Variables that a block exports are there in the next.
        exports += "".join(re.findall(r"^\$ export .*\n", text, re.MULTILINE))


@pytest.fixture(scope="session")
def pages(made, tmp_path_factory):
    """What becomes of each page: two at a time, since each is a process after the other."""
    base = tmp_path_factory.mktemp("pages")
    with ThreadPoolExecutor(2) as pool:
        yield {page: pool.submit(run_page, page, made, base / str(number)) for number, page in enumerate(WITH_BLOCKS)}


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=name_of)
def test_every_block_runs_after_the_ones_before(page, pages):
    pages[page].result()


@pytest.mark.parametrize(("name", "language", "start"), ELSEWHERE)
def test_what_is_run_elsewhere_is_there_and_so_is_what_runs_it(name, language, start):
    blocks = BLOCK.findall((ROOT / name).read_text(encoding="utf-8"))
    assert any(is_one_of([(language, start)], *block) for block in blocks)
    for path in re.findall(r"tests/[\w/]+\.py", ELSEWHERE[name, language, start]):
        assert (ROOT / path).is_file()


def test_commands_of_all_clusters_are_run_by_their_own_tests():
    tests = (ROOT / "tests" / "cluster" / "test_page.py").read_text(encoding="utf-8")
    for section in (ROOT / "docs" / "clusters.md").read_text(encoding="utf-8").split("\n## ")[1:]:
        heading = section.partition("\n")[0]
        assert "```console" not in section or f'"{heading}"' in tests, heading


def test_blocks_of_other_languages_are_none_that_could_be_run():
    for page in PAGES:
        kinds = set(re.findall(r"^```(\w+)", page.read_text(encoding="utf-8"), re.MULTILINE))
        assert kinds <= {"python", "console", "toml", "yaml", "json", "text", "diff"}, name_of(page)
