"""The house: floors of folders, imports downwards only, what each may know. CONTRIBUTING.md shows the same floors."""

import ast
import graphlib
import importlib
import tomllib
from pathlib import Path

import cwt_dask

PACKAGE = Path(cwt_dask.__file__).parent
CONTRIBUTING, PYPROJECT = (Path(__file__).parents[1] / name for name in ("CONTRIBUTING.md", "pyproject.toml"))

# From the top down; units of one floor do not know each other. A folder stands for its modules, `__init__` for all.
FLOORS = (
    ("__main__",),
    ("cli",),
    ("__init__", "assess", "reprocess"),
    ("run",),
    ("inspection",),
    ("pipeline", "report"),
    ("results",),
    ("merge", "worker"),
    ("tiles", "products", "events"),
    ("background", "planning"),
    ("psf",),
    ("survey", "runtime", "simulate"),
    ("storage", "measure", "execution"),
    ("geometry", "config"),
    ("cwt",),
    ("errors", "trust", "history"),
)
MOST_AT_THE_TOP = 12
MOST_LINES = 350
_OF_IMAGES = ("cwt.pixels", "cwt.image", "cwt.data", "cwt.sky_cards")
# Where a library is imported: there and nowhere else, whatever is imported for types alone.
ONLY_IN = {
    "distributed": ("runtime",),
    "bokeh": ("report",),
    "jinja2": ("report",),
    "click": ("cli",),
    "matplotlib": ("products", "cwt.drawing"),
    "numba": ("cwt",),
    "regions": (),  # it loads matplotlib, whose settings may be broken
    "astropy.io.fits": (
        "assess.charts",
        "survey",
        "events",
        "simulate",
        "products",
        "background.files",
        "inspection.tables",
        *_OF_IMAGES,
    ),
}
# Who asks the system for files itself; all others go by `storage.paths`, below which tests put a disk that fails.
ASKS_THE_SYSTEM = ("storage", "runtime", "cli", "worker", "simulate", "report.page", "cwt.loops")
FILES_OF_THE_SYSTEM = {"read_bytes", "read_text", "write_bytes", "write_text", "unlink", "mkdir", "rmdir", "touch"}
FILES_OF_THE_SYSTEM |= {"symlink_to", "rmtree", "fsync", "iterdir", "glob", "scandir", "listdir", "walk"}
NEVER_IN = {"cwt": ("dask", "zarr"), "geometry.tiling": ("dask", "zarr"), "errors": ("dask", "zarr")}


def name_of(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported(path, *, for_types=True):
    """Full names of all that a module imports anywhere."""
    skipped, names = set(), set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not for_types and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            skipped |= set(ast.walk(node))
        elif node in skipped:
            continue
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def own_modules(names):
    """Modules of the package among imported names."""
    found = set()
    for name in names:
        package, *module = name.split(".")
        while module and ".".join(module) not in MODULES:
            module.pop()
        found |= {".".join(module) or "__init__"} if package == "cwt_dask" else set()
    return found


def within(name, places):
    return any(name == place or name.startswith(f"{place}.") for place in places)


IMPORTS = {module: own_modules(imported(path)) for module, path in MODULES.items()}
FLOOR_OF = {unit: number for number, floor in enumerate(reversed(FLOORS)) for unit in floor}


def test_imports_go_downwards_only():
    units = {module: module.split(".")[0] for module in MODULES}
    assert set(units.values()) == set(FLOOR_OF)
    upwards = [
        f"{module} imports {other}"
        for module, others in IMPORTS.items()
        for other in others
        if units[module] != units[other] and FLOOR_OF[units[module]] <= FLOOR_OF[units[other]]
    ]
    assert not upwards


def test_no_module_imports_itself_in_a_circle():
    # A folder's `__init__` is part of each of its modules' imports; what is imported for types counts, too.
    assert list(graphlib.TopologicalSorter(IMPORTS).static_order())


def test_libraries_are_imported_in_their_places_only():
    misplaced = []
    for module, path in MODULES.items():
        names = imported(path, for_types=False)
        misplaced += [
            (module, tool) for tool, places in ONLY_IN.items() if uses(names, tool) and not within(module, places)
        ]
        misplaced += [
            (module, tool)
            for place, tools in NEVER_IN.items()
            for tool in tools
            if within(module, [place]) and uses(names, tool)
        ]
    assert not misplaced


def test_files_of_surveys_and_runs_go_by_the_storage():
    asked = [
        f"{module}: {ast.unparse(node)}"
        for module, path in MODULES.items()
        if not within(module, ASKS_THE_SYSTEM)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and asks_the_system(node)
    ]
    assert not asked


def asks_the_system(call):
    """Whether it opens, makes or removes files, not through the storage."""
    if isinstance(call.func, ast.Name):
        return call.func.id == "open"
    with_mode = call.args and isinstance(call.args[0], ast.Constant)
    name = getattr(call.func, "attr", "")
    return name in FILES_OF_THE_SYSTEM or (name == "open" and with_mode)


def uses(names, tool):
    return any(within(name, [tool]) for name in names)


def test_the_top_holds_what_the_api_page_shows():
    page = (CONTRIBUTING.parent / "docs/api.md").read_text(encoding="utf-8")
    top = {module for module in MODULES if "." not in module and not MODULES[module].name.startswith("__")}
    assert len(top) < MOST_AT_THE_TOP
    assert not [module for module in top if f"cwt_dask.{module}" not in page]


def test_no_module_is_longer_than_can_be_read():
    assert not [name for name, path in MODULES.items() if len(path.read_text("utf-8").splitlines()) > MOST_LINES]


def test_contributing_shows_the_floors():
    rows = ["| floor | holds | for |", "| --- | --- | --- |"]
    for number, floor in reversed(list(enumerate(reversed(FLOORS), start=1))):
        for unit in floor:
            folder = MODULES.get(unit, PACKAGE / "__init__.py").name == "__init__.py" and unit != "__init__"
            module = importlib.import_module("cwt_dask" if unit == "__init__" else f"cwt_dask.{unit}")
            rows.append(f"| {number} | `{unit}{'/' * folder}` | {module.__doc__.splitlines()[0]} |")
    assert "\n".join(rows) in CONTRIBUTING.read_text(encoding="utf-8"), "\n".join(rows)


def test_what_is_no_module_is_installed_too():
    patterns = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["tool"]["setuptools"]["package-data"]["cwt_dask"]
    files = {
        path for path in PACKAGE.rglob("*.*") if path.is_file() and path.suffix not in (".py", ".pyc", ".nbc", ".nbi")
    }
    assert len(files) > 3
    assert not files - {path for pattern in patterns for path in PACKAGE.glob(pattern)}
