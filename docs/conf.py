"""How the documentation is built: `make docs`."""

from __future__ import annotations

import sys
from pathlib import Path

from cwt_dask import __version__

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "cwt_dask"
author = "The cwt_dask developers"
project_copyright = author
version = release = __version__

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx_click",
    "mathml",
    "outside",
    "settings_list",
]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}
exclude_patterns = ["_build", "design/margins.ecsv"]
nitpicky = True
# Two hyphens begin an option.
smartquotes = False

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
html_math_renderer = "mathml"

# Notebooks are stored without outputs, so each build executes them.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_execution_show_tb = True
nb_merge_streams = True
# What libraries say of the machine that the pages are built on is nothing for readers; errors end the build.
nb_output_stderr = "remove"

default_role = "code"
autodoc_typehints = "none"
autodoc_member_order = "bysource"
# Members stand on the page of their class.
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

html_theme = "pydata_sphinx_theme"
html_title = "cwt_dask"
# Pages that stand by themselves have no list of other pages.
html_sidebars = {"start": [], "tutorial": []}
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "navbar_align": "left",
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "header_links_before_dropdown": 6,
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
    "secondary_sidebar_items": ["page-toc"],
}
