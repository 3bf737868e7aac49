"""`run.toml`: what a run was asked to do, as resolved; written before any tile runs, compared when it is resumed."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import tomli_w

from cwt_dask.config.settings import SPLIT, Settings
from cwt_dask.config.validation import shown
from cwt_dask.errors import InputError, RunError, SettingsError, SurveyError
from cwt_dask.geometry.facets import grid_from, stored_grid
from cwt_dask.planning.plan import Plan
from cwt_dask.storage.layout import RunDir
from cwt_dask.storage.ledger import Record, is_ledger_of, read_all_records, read_run_id
from cwt_dask.storage.maps import has_history
from cwt_dask.storage.marks import KIND, remedy_of
from cwt_dask.storage.paths import as_path, exists, read_file, relative_path, write_atomically
from cwt_dask.storage.provenance import versions
from cwt_dask.storage.sealed import BROKEN, SEAL, is_sound, sealed, unsealed
from cwt_dask.survey import Survey, is_store


@dataclass(frozen=True)
class StoredRun:
    """A run as its directory describes it."""

    path: Path  # The directory.
    run_id: str  # Which run it is, as in the ledger; empty of one by a release without seals.
    plan: Plan  # The plan it follows.
    keeps_history: bool  # Whether the model of every iteration is kept.
    places: tuple[Path, ...]  # Where its survey's store may be, the likeliest first.
    earlier_versions: tuple[dict[str, str], ...] = ()  # Under which tiles were done, as `note_versions` has it.

    @cached_property
    def survey(self) -> Survey:
        """The survey of the run's plan, wherever it is.

        Raises SurveyError if it is in none of the places, or damaged.
        """
        missing, damage = [], None
        for place in self.places:
            try:
                survey = Survey.open(place)
            except SurveyError as error:
                missing.append(f"{place} has no zarr.json" if exists(place) else f"there is no store {place}")
                damage = error if is_store(place) else damage
                continue
            if survey.is_that_of(self.plan.survey_digest, self.plan.survey_facts):
                return survey
            missing.append(f"{place} is not the survey that it began with")
        own = RunDir(self.path).survey
        remedy = f"say once where it is, by cwt-dask run STORE {self.path} under the same settings"
        if self.places == (own.resolve(),):
            remedy = remedy_of(own)
        raise damage or SurveyError(f"the survey of {self.path} cannot be found ({'; '.join(missing)}): {remedy}")


def write_run(run_dir: RunDir, run_id: str, plan: Plan, survey: Path | None, *, keeps_history: bool = False) -> None:
    """Write `run.toml`, sealed.

    Parameters
    ----------
    run_dir : RunDir
        The run.
    run_id : str
        Which run it is.
    plan : Plan
        Its plan.
    survey : Path or None
        The survey's store outside the run directory; None for a run with a store of its own.
    keeps_history : bool, optional
        Whether the model of every iteration is kept.
    """
    # Where it is written again.
    earlier = kept_versions(run_dir, run_id)
    content = {
        "kind": KIND,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "run_id": run_id,
        "keeps_history": keeps_history,
        "survey": {
            "digest": plan.survey_digest,
            "facts": plan.survey_facts,
            "shape": list(plan.grid.array_shape),
        }
        | ({"inputs": list(plan.origins)} if plan.origins else {})
        | ({"files": list(plan.files)} if plan.files else {})
        | (_place(run_dir, survey) if survey else {}),
        "settings": {name: value for name, value in asdict(plan.settings).items() if value is not None},
        "plan": {
            "algorithm_version": plan.algorithm_version,
            "contract_margin": plan.contract_margin,
            "brightest": plan.brightest,
            "settings_digest": plan.settings_digest,
            "warnings": list(plan.warnings),
            "used": plan.used,
            "no_flux": plan.no_flux,
            **({"psf": plan.psf} if plan.psf else {}),
            "background": plan.background,
            **stored_grid(plan.grid),
        },
        "versions": versions(),
    }
    _write(run_dir, content | ({"earlier_versions": earlier} if earlier else {}))


def _write(run_dir: RunDir, content: dict[str, Any]) -> None:
    seal = {SEAL: sealed(content)[SEAL]}
    # What follows a table in TOML is part of it.
    write_atomically(run_dir.settings, tomli_w.dumps(seal | unsealed(content)).encode())


def remember_survey(run_dir: RunDir, stored: StoredRun, survey: Path) -> None:
    """Write in `run.toml` where the survey's store is, unless it is found there or the run has one of its own.

    Parameters
    ----------
    run_dir : RunDir
        The run.
    stored : StoredRun
        As it was read.
    survey : Path
        The store, of the same survey.
    """
    if exists(run_dir.survey):
        return
    with suppress(SurveyError):
        if stored.survey.path == survey.resolve():
            return
    content = _read(run_dir)
    known = {name: value for name, value in content["survey"].items() if name not in _PLACE}
    content["survey"] = known | _place(run_dir, survey)
    _write(run_dir, content)


def remember_split(run_dir: RunDir, plan: Plan) -> None:
    """Write in `run.toml` how catalogue and candidates are to be split from now on, as a plan has it.

    Parameters
    ----------
    run_dir : RunDir
        The run.
    plan : Plan
        As the run's in all that decides.
    """
    content, asked = _read(run_dir), getattr(plan.settings, SPLIT)
    if content["settings"].get(SPLIT) != asked:
        content["settings"][SPLIT] = asked
        _write(run_dir, content)


def note_versions(run_dir: RunDir, earlier: Sequence[Mapping[str, str]]) -> None:
    """Write in `run.toml` under which other versions tiles were done that are gone on with.

    Records of blocks, which say so, do not last.

    Parameters
    ----------
    run_dir : RunDir
        The run.
    earlier : sequence of mapping
        Versions by name.
    """
    content = _read(run_dir)
    known = content.get("earlier_versions", [])
    content["earlier_versions"] = known + [dict(each) for each in earlier if each not in known]
    _keep_versions(run_dir, content["run_id"], content["earlier_versions"])
    _write(run_dir, content)


def kept_versions(run_dir: RunDir, run_id: str) -> list[dict[str, str]]:
    """What `note_versions` has written, by a copy in the ledger; none if that is damaged, lost or of another run."""
    with suppress(FileNotFoundError, IsADirectoryError, *_IMPOSSIBLE):
        content = json.loads(read_file(run_dir.versions))
        if is_sound(content) and content["run"] == run_id:
            return list(content["earlier_versions"])
    return []


def mend_versions(run_dir: RunDir, stored: StoredRun) -> list[str]:
    """Write that copy again where it is not what `run.toml` has; a line of text."""
    earlier = list(stored.earlier_versions)
    if kept_versions(run_dir, stored.run_id) == earlier:
        return []
    _keep_versions(run_dir, stored.run_id, earlier)
    return [f"{run_dir.versions} was damaged or lost: written again, as {run_dir.settings.name} has it"]


def _keep_versions(run_dir: RunDir, run_id: str, earlier: list[dict[str, str]]) -> None:
    content = sealed({"run": run_id, "earlier_versions": earlier})
    write_atomically(run_dir.versions, json.dumps(content).encode())


def _place(run_dir: RunDir, survey: Path) -> dict[str, str]:
    """Where a store is: for when it is moved with the run, if it can be, and for when the run is moved alone."""
    relative = relative_path(survey, run_dir.path)
    return {"store": str(survey.resolve())} | ({"relative": relative} if relative else {})


_PLACE = ("store", "relative")


def read_run(run_dir: RunDir, remedy: str = "give the directory of a run") -> StoredRun:
    """Read `run.toml`; `remedy` is what to do if there is none.

    Raises InputError if the directory is not a run's; DamagedRunFileError if the file is damaged.
    """
    try:
        content = _read(run_dir)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        if exists(run_dir.run_id):
            raise DamagedRunFileError(f"{run_dir.settings} is lost: {_UNDO}") from error
        raise InputError(f"{run_dir.path} is not a run directory: it has no readable run.toml; {remedy}") from error
    with _damage_named(run_dir):
        return _stored_run(run_dir, content)


def _read(run_dir: RunDir) -> dict[str, Any]:
    text = read_file(run_dir.settings)
    with _damage_named(run_dir):
        content: dict[str, Any] = tomllib.loads(text.decode())
        # Earlier releases wrote neither; no damage to one thing makes such a file of one that is sealed.
        if not is_sound(content) and content.keys() & {SEAL, "run_id"}:
            raise ValueError(BROKEN)
        return content


@contextmanager
def _damage_named(run_dir: RunDir) -> Iterator[None]:
    try:
        yield
    except _IMPOSSIBLE as error:
        raise DamagedRunFileError(f"{run_dir.settings} is damaged ({shown(error)}): {_UNDO}") from error


_UNDO = "undo that, or give the run's own command again, which writes it anew"


class DamagedRunFileError(InputError):
    """A `run.toml` that is not as it was written."""


def own_run(run_dir: RunDir, stored: StoredRun | None, plan: Plan) -> StoredRun | str:
    """Which run lies there: as stored, or the id of that whose `run.toml` is damaged, lost or of another run.

    Raises InputError if no record shows which, and that it was made under the plan of the call.

    Parameters
    ----------
    run_dir : RunDir
        The run.
    stored : StoredRun or None
        As `run.toml` has it; None if it is damaged or lost.
    plan : Plan
        Made anew, of the call.
    """
    # Earlier releases had no ids.
    if stored and (not stored.run_id or is_ledger_of(run_dir, stored.run_id)):
        return stored
    records = [record for record in read_all_records(run_dir.ledger)[0] if isinstance(record, Record)]
    wanted = (plan.settings_digest, plan.survey_digest)
    found = {record.run for record in records if (record.settings_digest, record.survey_digest) == wanted}
    if len(found) == 1:
        return found.pop()
    with suppress(RunError):
        # What cannot be is in the records.
        if stored and read_run_id(run_dir) == stored.run_id:
            return stored
    raise InputError(
        f"{run_dir.settings} is damaged or of another run, and no record in {run_dir.ledger} shows that this one was "
        "made from this survey under these settings: give the command that began it, get the file back from a copy, "
        "or choose another directory"
    )


def _stored_run(run_dir: RunDir, content: dict[str, Any]) -> StoredRun:
    plan = content["plan"]
    survey = content["survey"]
    places = [run_dir.path.resolve() / survey["relative"]] if "relative" in survey else []
    places.append(as_path(survey.get("store", run_dir.survey)))
    return StoredRun(
        path=run_dir.path,
        run_id=str(content.get("run_id", "")),
        plan=Plan(
            settings=Settings(**content["settings"]),
            grid=grid_from(plan),
            brightest=plan["brightest"],
            contract_margin=int(plan["contract_margin"]),
            survey_digest=str(survey["digest"]),
            survey_facts=str(survey.get("facts", "")),
            warnings=tuple(map(str, plan["warnings"])),
            used=str(plan.get("used", "")),
            no_flux=str(plan.get("no_flux", "")),
            origins=tuple(survey.get("inputs", ())),
            files=tuple(survey.get("files", ())),
            psf=str(plan.get("psf", "")),
            background=str(plan.get("background", "")),
            algorithm_version=plan["algorithm_version"],
        ),
        # Earlier releases did not say so.
        keeps_history=bool(content.get("keeps_history", has_history(run_dir))),
        places=tuple(place.resolve() for place in places),
        earlier_versions=tuple(map(dict, content.get("earlier_versions", []))),
    )


def refuse_differences(run_dir: RunDir, stored: Plan, wanted: Plan) -> None:
    """Refuse to resume a run under other settings or on another survey, by a SettingsError that names what differs.

    Parameters
    ----------
    run_dir : RunDir
        The run.
    stored, wanted : Plan
        Its plan, and the one that is asked for.
    """
    old, new = stored.decisive, wanted.decisive
    other_survey = stored.survey_digest != wanted.survey_digest
    # What follows from the survey is not named besides it.
    implied = ("grid", "rounding") if other_survey else ("grid",)
    pairs = [(name, old.get(name), new.get(name)) for name in {**old, **new} if name not in implied]
    if old["grid"] != new["grid"]:
        # What the grid follows from is named, not the grid.
        pairs += [(name, getattr(stored.settings, name), getattr(wanted.settings, name)) for name in _GRID_SETTINGS]
    found = [f"{name} was {before}, is {now}{_WHY.get(name, '')}" for name, before, now in pairs if before != now]
    if not found and old["grid"] != new["grid"] and not other_survey:
        found = ["this version lays out its tiles in another way"]
    if other_survey:
        found.insert(0, "its survey is another one, or was changed since")
    if found:
        raise SettingsError(
            f"{run_dir.path} holds a run that differs: {'; '.join(found)}. Choose another directory; --overwrite would "
            "remove that run"
        )


_WHY = {"algorithm_version": " (another version of cwt_dask began it, whose results differ)"}
_GRID_SETTINGS = ("tile_size", "margin", "wrap")
# What wrong types and numbers out of all bounds raise.
_IMPOSSIBLE = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)
