"""Code blocks of the documentation."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
GAMMAPY, XARRAY = "# with Gammapy", "import xarray"


def python_blocks(page):
    """Text of the Python blocks of a page, in their order."""
    return re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
