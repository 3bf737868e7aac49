"""Documents and comments name only what exists: files, modules, functions, links and headings."""

import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("cwt_dask", "tests", "benchmarks", "docs", "deploy", "workflows", ".ci")
KINDS = {".py", ".md", ".toml", ".yaml", ".sh", ".ipynb", ".j2", ".js", ".css", ".def", ".txt", ""}
# Made by tests and builds, or written by users.
BUILT = ("_build", "__pycache__", ".ipynb_checkpoints")
FILES = [path for name in FOLDERS for path in sorted((ROOT / name).rglob("*")) if not set(BUILT) & set(path.parts)]
FILES += [path for path in sorted(ROOT.glob("*")) if path.is_file()]
NAMES = {path.relative_to(ROOT).as_posix() for path in FILES}
# What is history names what is gone.
TEXTS = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in FILES
    if path.is_file()
    and path.suffix in KINDS
    and path.name not in ("CHANGELOG.md", "test_previous_version.py", Path(__file__).name)
}
# Names that Make puts together.
ADDED_PREFIX = re.compile(r"addprefix ([^,$]+),([\w. ]+)")
TEXTS["Makefile"] = ADDED_PREFIX.sub(
    lambda found: " ".join(found[1] + name for name in found[2].split()), TEXTS["Makefile"]
)
PAGES = [name for name in TEXTS if name.endswith(".md")]

IN_FOLDER = re.compile(rf"(?<![\w/.<$)-])(?:{'|'.join(FOLDERS[:-1])})/[\w./-]*\w(?![\w*$(])")
# Diffs put a/ or b/ before a path.
MODULE = re.compile(r"(?<![\w.$*/)-])(?:[ab]/(?=cwt_dask/))?((?:[\w-]+/)*[\w-]+\.py)\b")
DOTTED = re.compile(r"\bcwt_dask(?:\.[a-zA-Z_]\w*)+")
CODE = re.compile(r"`([a-z]+(?:_[a-z0-9]+)+)(?:\(\))?`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
# Files that no checkout has: what tests and pages make, and what must not be made.
ELSEWHERE = {"block.py", "utils.py", "sitecustomize.py"}
NO_MODULES = {"cwt_dask.def", "cwt_dask.sif", "cwt_dask.detect", "cwt_dask.run_surveys"}


def hits(pattern, names=tuple(TEXTS)):
    """What a pattern finds, with file and line."""
    for name in names:
        for number, line in enumerate(TEXTS[name].splitlines(), 1):
            for found in pattern.findall(line):
                yield f"{name}:{number}", found


def test_files_that_are_named_exist():
    gone = [hit for hit in hits(IN_FOLDER) if hit[1] not in NAMES and not hit[1].startswith("docs/_build")]
    ends = {"/".join(name.split("/")[depth:]) for name in NAMES for depth in range(name.count("/") + 1)}
    gone += [(where, path) for where, path in hits(MODULE) if path not in ends | ELSEWHERE]
    assert not gone


def test_names_in_a_module_exist():
    gone = []
    for where, (module, name) in hits(re.compile(r"([\w/]+\.py)::(\w+)")):
        texts = [text for path, text in TEXTS.items() if f"/{path}".endswith(f"/{module}")]
        gone += [] if any(re.search(rf"\b{name}\b", text) for text in texts) else [(where, module, name)]
    assert not gone


def exists(dotted):
    """Whether a dotted name is a module, or what modules and classes have."""
    parts = dotted.split(".")
    thing = import_module(parts[0])
    for depth, part in enumerate(parts[1:], 2):
        if not hasattr(thing, part):
            try:
                import_module(".".join(parts[:depth]))
            except ImportError:
                return False
        thing = getattr(thing, part)
    return True


def test_dotted_names_exist():
    named = {name: where for where, name in hits(DOTTED)}
    assert not {name: where for name, where in named.items() if name not in NO_MODULES and not exists(name)}


def test_names_in_design_pages_are_those_of_the_code():
    code = "\n".join(text for name, text in TEXTS.items() if not name.endswith(".md"))
    words = set(re.findall(r"\w+", code))
    design = [name for name in PAGES if name.startswith("docs/") or "/" not in name]
    assert not [(where, name) for where, name in hits(CODE, design) if name not in words]


def test_the_design_shows_each_folder_in_its_page_and_picture():
    folders = {name.split("/")[1] for name in NAMES if re.fullmatch(r"cwt_dask/\w+/__init__.py", name)}
    picture = (ROOT / "docs" / "pictures" / "house.svg").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)/` \|", TEXTS["docs/design/README.md"], re.MULTILINE)
    assert set(rows) == set(re.findall(r">(\w+)/</text>", picture)) == folders


def headings(path):
    """Anchors of a file's headings, as forges make them."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_links_lead_somewhere(page):
    path = ROOT / page
    for link in LINK.findall(path.read_text(encoding="utf-8")):
        target, _, anchor = link.partition("#")
        if "://" in target:
            continue
        file = (path.parent / target).resolve() if target else path
        assert file.exists(), link
        assert not anchor or anchor in headings(file), link


def test_the_version_is_the_same_wherever_it_stands():
    patterns = {
        "pyproject.toml": r'^version = "(.*)"$',
        "CITATION.cff": r"^version: (.*)$",
        "CHANGELOG.md": r"\A# Changelog\n\n## (\S+)",
        "deploy/container/Containerfile": r"--tag cwt-dask:(\S+)",
        **{f"deploy/kubernetes/{name}.yaml": r"\bcwt-dask:(\S+)$" for name in ("run", "run-s3", "cronjob")},
    }
    found = {
        name: set(re.findall(pattern, (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE))
        for name, pattern in patterns.items()
    }
    (version,) = found["pyproject.toml"]
    assert all(versions == {version} for versions in found.values()), found
