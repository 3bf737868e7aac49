"""Runs and certificates as notebooks show them."""

from __future__ import annotations

import html
import json
from typing import TYPE_CHECKING, Any

from cwt_dask.errors import CwtDaskError
from cwt_dask.ledger import read_records

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cwt_dask.results import SurveyRun

HARMLESS, HARMFUL = "the tiles did no harm", "NOT shown to equal the whole map"


class Certificate(dict[str, Any]):
    """What a certificate says, a dict that notebooks show as a table under its verdict."""

    def _repr_html_(self) -> str:
        reasons = self.get("not_exact_because") or []
        verdict = HARMLESS if self.get("tiling_exact") else HARMFUL
        verdict += f": {', '.join(map(str, reasons))}" if reasons else ""
        return f"<p><strong>{_text(verdict)}</strong></p>{_table(self)}"


def run_html(run: SurveyRun) -> str:
    """A run in a few lines: where it is, how far, what it found; whatever is damaged says so."""
    grid = run.stored.plan.grid
    done = len(read_records(run.files.ledger))
    rows: dict[str, Any] = {
        "directory": str(run.files.path),
        "map": f"{grid.y.length} x {grid.x.length} pixels (y, x)" + (", ring" if grid.ring else ""),
        "tiles": f"{done} of {grid.n_tiles} done, cores of {grid.core_shape[0]} x {grid.core_shape[1]} pixels",
        "scales": ", ".join(f"{scale:g}" for scale in run.stored.plan.kernels.scales) + " pixels",
    }
    try:
        certificate = run.certificate
        rows["iterations"] = certificate["n_iter"]
        rows["certificate"] = HARMLESS if certificate["tiling_exact"] else HARMFUL
        rows["sources"] = len(run.catalogue)
    except CwtDaskError as error:
        rows["state"] = str(error)
    return f"<p><strong>SurveyRun</strong></p>{_table(rows)}"


def _table(rows: Mapping[str, Any]) -> str:
    cells = "".join(f"<tr><th>{_text(name)}</th><td>{_text(_shown(value))}</td></tr>" for name, value in rows.items())
    return f"<table><tbody>{cells}</tbody></table>"


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _text(value: str) -> str:
    return html.escape(value)
