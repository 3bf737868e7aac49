"""Every block of commands and Python in README and docs, as it stands there: each page in a directory of its own."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Blocks that are run elsewhere, by page and what they begin with, and where.
ELSEWHERE = {
    ("README.md", "$ make demo"): "typed by whoever reads it first; its commands are those of tests/test_help.py",
    ("README.md", "$ pip install"): "the rest of the block is run: see INSTALL",
    ("docs/clusters.md", ""): "tests/cluster/test_page.py",
    ("docs/python.md", "# with Gammapy"): "tests/gammapy",
    ("docs/python.md", ""): "tests/test_python_page.py",
    ("docs/performance.md", ""): "tests/test_benchmarks.py runs each part, small",
}
# What pages take to be there, of what make_maps.py makes.
NEEDS = {
    "README.md": ("survey.fits", "survey-v2.fits", "3fhl.fits"),
    "docs/catalogue.md": ("run",),
    "docs/index.md": ("survey.fits",),
    "docs/match.md": ("run", "known.fits"),
    "docs/howto/from-python.md": ("survey.fits",),
    "docs/howto/own-map.md": (
        "survey.fits",
        "maps.fits",
        "counts.fits",
        "model.fits",
        "mask.fits",
        "cube.fits",
        "settings.toml",
    ),
    "docs/howto/reprocess.md": ("run", "survey-v2.fits"),
}
# What is installed already.
INSTALL = re.compile(r"^\$ pip install .*\n", re.MULTILINE)
SECONDS = 240
# Commands are those of this environment; plots have no screen.
ENVIRONMENT = os.environ | {
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "PYTHONPATH": str(ROOT),
    "MPLBACKEND": "Agg",
}


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def blocks_of(page):
    """Language and text of the blocks of a page that are run here."""
    name, found = name_of(page), []
    for language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        rest = INSTALL.sub("", text)
        if rest and not any(name == other and rest.startswith(start) for other, start in ELSEWHERE):
            found.append((language, rest))
    return found


WITH_BLOCKS = [page for page in PAGES if blocks_of(page)]


def run(directory, language, text):
    """Run a block; fail with what it said."""
    if language == "console":
        commands = [line[2:] for line in text.splitlines() if line.startswith("$ ")]
        words = ["bash", "-c", "\n".join(["set -euo pipefail", *commands])]
    else:
        # A file, as a user would make one: worker processes import it.
        (directory / "block.py").write_text(text)
        words = [sys.executable, "block.py"]
    done = subprocess.run(
        words, cwd=directory, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=SECONDS
    )
    assert done.returncode == 0, f"{text}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def shell_with_variables(blocks):
    """Blocks of a page in which variables that one exports are there in the next."""
    exports = []
    for language, text in blocks:
        before = "".join(f"$ {line}\n" for line in exports)
        exports += re.findall(r"^\$ (export .*)$", text, re.MULTILINE)
        yield language, before + text if language == "console" else text


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """What pages take to be there: maps of all kinds, made as they say it is done."""
    directory = tmp_path_factory.mktemp("made")
    run(directory, "python", (Path(__file__).parent / "make_maps.py").read_text())
    return directory


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=name_of)
def test_every_block_runs_after_the_ones_before(page, made, tmp_path):
    for name in NEEDS.get(name_of(page), ()):
        copy = shutil.copytree if (made / name).is_dir() else shutil.copy
        copy(made / name, tmp_path / name)
    for language, text in shell_with_variables(blocks_of(page)):
        run(tmp_path, language, text)


def test_what_is_run_elsewhere_is_there():
    for name, start in ELSEWHERE:
        texts = [text for _, text in BLOCK.findall((ROOT / name).read_text(encoding="utf-8"))]
        assert any(text.startswith(start) for text in texts), (name, start)


def test_blocks_of_other_languages_are_none_that_could_be_run():
    for page in PAGES:
        kinds = set(re.findall(r"^```(\w+)", page.read_text(encoding="utf-8"), re.MULTILINE))
        assert kinds <= {"python", "console", "toml", "yaml", "json", "text"}, name_of(page)
