"""`run.toml`: what a run was asked to do, as resolved; written before any tile runs, compared when it is resumed."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import tomli_w

from cwt_dask.atomic import write_atomically
from cwt_dask.config import Settings
from cwt_dask.errors import InputError, SettingsError
from cwt_dask.merge.certificate import versions
from cwt_dask.places import place
from cwt_dask.plan import Plan
from cwt_dask.tiling import Axis, TileGrid

if TYPE_CHECKING:
    from pathlib import Path

    from cwt_dask.layout import RunDir


@dataclass(frozen=True)
class StoredRun:
    """A run as its directory describes it.

    Attributes
    ----------
    plan : Plan
        The plan it follows.
    survey : Path
        The survey's store.
    """

    plan: Plan
    survey: Path


def write_run(run_dir: RunDir, plan: Plan, survey: Path | None) -> None:
    """Write `run.toml`; `survey` is the store outside the run directory, if it has none of its own."""
    content = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "survey": {"digest": plan.survey_digest, "shape": [plan.grid.y.length, plan.grid.x.length]}
        | ({"store": str(survey.resolve())} if survey else {}),
        "settings": {name: value for name, value in asdict(plan.settings).items() if value is not None},
        "plan": {
            "algorithm_version": plan.algorithm_version,
            "contract_margin": plan.contract_margin,
            "brightest": plan.brightest,
            "settings_digest": plan.settings_digest,
            "warnings": list(plan.warnings),
            "y": asdict(plan.grid.y),
            "x": asdict(plan.grid.x),
        },
        "versions": versions(),
    }
    write_atomically(run_dir.settings, tomli_w.dumps(content).encode())


def read_run(run_dir: RunDir) -> StoredRun:
    """Read `run.toml`.

    Raises
    ------
    InputError
        If the directory is not a run's, or the file is damaged.
    """
    try:
        content: dict[str, Any] = tomllib.loads(run_dir.settings.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{run_dir.path} is not a run directory: it has no readable run.toml; choose another (SURVEY comes first)"
        ) from error
    except ValueError as error:
        raise InputError(f"{run_dir.settings} is damaged ({error}): run with --overwrite to start anew") from error
    try:
        plan = content["plan"]
        return StoredRun(
            plan=Plan(
                settings=Settings(**content["settings"]),
                grid=TileGrid(Axis(**plan["y"]), Axis(**plan["x"])),
                brightest=plan["brightest"],
                contract_margin=plan["contract_margin"],
                survey_digest=content["survey"]["digest"],
                warnings=tuple(plan["warnings"]),
                algorithm_version=plan["algorithm_version"],
            ),
            survey=place(content["survey"].get("store", run_dir.survey)),
        )
    except (KeyError, TypeError, SettingsError) as error:
        raise InputError(f"{run_dir.settings} is damaged ({error!r}): run with --overwrite to start anew") from error


def refuse_differences(run_dir: RunDir, stored: Plan, wanted: Plan) -> None:
    """Refuse to go on with a run under other settings or on another survey.

    Raises
    ------
    SettingsError
        Naming what differs.
    """
    old, new = stored.decisive, wanted.decisive
    pairs = [(name, old.get(name), new.get(name)) for name in {**old, **new} if name != "grid"]
    if old["grid"] != new["grid"]:
        # What the grid follows from is named, not the grid.
        pairs += [(name, getattr(stored.settings, name), getattr(wanted.settings, name)) for name in _GRID_SETTINGS]
    found = [f"{name} was {before}, is {now}" for name, before, now in pairs if before != now]
    if not found and old["grid"] != new["grid"]:
        found = ["this version lays its tiles otherwise"]
    if stored.survey_digest != wanted.survey_digest:
        found.insert(0, "the survey's content is another")
    if found:
        raise SettingsError(
            f"{run_dir.path} holds a run that differs: {'; '.join(found)}. Choose another directory, or --overwrite"
        )


_GRID_SETTINGS = ("tile_size", "margin", "wrap")
