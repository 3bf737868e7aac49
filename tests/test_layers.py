"""The floors of CONTRIBUTING.md, read from the imports."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import cwt_dask

PACKAGE = Path(cwt_dask.__file__).parent

# A folder stands for its modules.
FLOORS = {
    1: ("errors", "checks", "config", "execution", "places", "atomic", "stop"),
    2: (
        "cwt",
        "tiling",
        "windows",
        "margins",
        "layout",
        "checksum",
        "peaks",
        "counting",
        "centroids",
        "coordinates",
        "stores",
        "process",
        "fieldtypes",
    ),
    3: ("survey", "ledger", "lock", "lease", "maps", "pieces"),
    4: ("tile", "trust", "candidates", "checkpoint", "fates", "detections"),
    5: ("merge", "plan", "cost", "runfile"),
    6: (
        "sources",
        "names",
        "catalogue",
        "products",
        "flags",
        "descriptions",
        "history",
        *("planes", "plots", "cutouts", "notebook", "gammapy_maps", "views"),
        "simulate",
        "results",
        "recompute",
        "verify",
        "compare",
        "counterparts",
        "match",
        "words",
    ),
    # The package itself is here: it hands out names of all floors.
    7: (
        *("run", "opening", "reprocess", "takeover", "blocks", "pilot", "stages", "executors", "clusters", "worker"),
        *("entry", "report", "cli", "cli_options", "options", "progress", "__init__"),
    ),
}
FLOOR_OF = {name: floor for floor, names in FLOORS.items() for name in names}
READS_FITS = ("survey", "simulate", "products", "cutouts", "counterparts", "cwt.image", "cwt.data")
LARGEST_MODULE = 350


def name_of(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported(path, *, for_types=True):
    """Full names of everything that a module imports anywhere, from whatever it imports it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = set()
    for node in ast.walk(tree):
        if not for_types and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            skipped |= {id(inner) for inner in ast.walk(node)}
    names = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def own_modules(names):
    """Modules of the package among imported names."""
    parts = [name.split(".")[1:] for name in names if name.split(".")[0] == "cwt_dask"]
    found = set()
    for part in parts:
        module = part
        while module and ".".join(module) not in MODULES:
            module = module[:-1]
        found.add(".".join(module) or "__init__")
    return found


def floor(module):
    return FLOOR_OF[module.split(".")[0]]


def within(module, folders):
    return any(module == folder or module.startswith(f"{folder}.") for folder in folders)


def test_every_module_has_a_floor_and_every_floor_its_modules():
    assert {module.split(".")[0] for module in MODULES} == set(FLOOR_OF)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_from_its_own_floor_or_below(module):
    above = {other for other in own_modules(imported(MODULES[module])) if floor(other) > floor(module)}
    assert not above


def test_no_module_imports_itself_in_a_circle():
    imports = {module: own_modules(imported(path, for_types=False)) for module, path in MODULES.items()}
    # A folder's `__init__` is part of each of its modules' imports, and imports them.
    assert list(graphlib.TopologicalSorter(imports).static_order())


@pytest.mark.parametrize("module", MODULES)
def test_each_tool_is_imported_in_its_place_only(module):
    path = MODULES[module]
    tools = {name.split(".")[0] for name in imported(path)}
    if within(module, ["cwt", "tiling", "errors", "config"]):
        assert not tools & {"dask", "zarr", "distributed"}
    if not within(module, ["executors", "clusters"]):
        assert "distributed" not in {name.split(".")[0] for name in imported(path, for_types=False)}
    if not within(module, READS_FITS):
        assert not [name for name in imported(path) if name.startswith("astropy.io.fits")]


@pytest.mark.parametrize("module", MODULES)
def test_no_module_is_longer_than_can_be_read(module):
    assert len(MODULES[module].read_text(encoding="utf-8").splitlines()) <= LARGEST_MODULE


def test_one_image_needs_neither_dask_nor_zarr():
    code = "import sys, cwt_dask; assert not {'dask', 'zarr', 'distributed'} & set(sys.modules), 'imported'"
    subprocess.run([sys.executable, "-c", code], check=True)
