"""What notebooks show: a line of words and a table."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from astropy.table import Table


def html_overview(title: str, words: str, table: Table) -> str:
    """HTML of a title, a line of words and a table; numbers with six digits."""
    head = "".join(f"<th>{escape(name)}</th>" for name in table.colnames)
    rows = "".join(f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in table.iterrows())
    return (
        f"<div><strong>{escape(title)}</strong><br>{escape(words)}"
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _cell(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return f'<td style="text-align: right">{value:.6g}</td>'
    return f"<td>{escape(str(value))}</td>"
