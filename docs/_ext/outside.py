"""Links to files outside of docs/, which are right in the sources: on the pages they lead to the page that shows them.

A file is downloaded, of a directory the name is left; files that a page shows lead to that page.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sphinx import addnodes
from sphinx.transforms import SphinxTransform

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]
# Pages that show a file of the project's root.
SHOWN = {"README": "index", "CHANGELOG": "changelog", "CONTRIBUTING": "contributing"}


class OutsideLinks(SphinxTransform):
    """Put pages in place of files that they show, and words in place of directories."""

    default_priority = 5

    def apply(self, **_: Any) -> None:
        """Look at each link that MyST has left to be resolved."""
        kinds = (addnodes.pending_xref, addnodes.download_reference)
        links = self.document.findall(lambda node: isinstance(node, kinds) and node.get("reftype") == "myst")
        for link in list(links):
            target = (Path(self.env.doc2path(self.env.docname)).parent / link["reftarget"].partition("#")[0]).resolve()
            if link.get("refdomain") == "doc":
                target = (Path(self.env.srcdir) / link["reftarget"]).resolve()
            if target.parent == ROOT and target.stem in SHOWN:
                page = addnodes.pending_xref("", *link.children, **link.attributes)
                page.attributes |= {"refdomain": "doc", "reftarget": SHOWN[target.stem], "reftargetid": None}
                link.replace_self(page)
            elif target.is_dir() and not target.is_relative_to(self.env.srcdir) and target != ROOT:
                link.replace_self(link.children)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_transform(OutsideLinks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
