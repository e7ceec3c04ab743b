"""The documentation site: `make docs` builds it into build/site. Nothing of it needs a network, to build or to view."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "_ext"))

from optcore import __version__

project = "optcore"
version = release = __version__
copyright = "the optcore developers"
extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc", "myst_parser", "references", "mathml"]
templates_path = ["_templates"]
exclude_patterns = ["_ext", "_templates", "_static", "pictures"]

# A module's page lists what its __all__ does, with a page for each name (_templates/autosummary).
autosummary_ignore_module_all = False
autosummary_imported_members = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"                  # the docstrings say more
numpydoc_show_class_members = False         # autodoc lists them
default_role = "name"                       # `name` in a docstring: see _ext/references.py
highlight_language = "text"                 # of blocks that name none: what programs print is no Python

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

html_theme = "pydata_sphinx_theme"
html_title = f"optcore {version}"
html_theme_options = {
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "navbar_end": ["theme-switcher"],
    "navigation_depth": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sidebars = {"index": []}
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
