"""The documentation site, built by `make docs`. Sphinx with MyST reads the same Markdown pages that GitHub shows."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_site"))

from opuproj import __version__  # noqa: E402

project = "opuproj"
author = "opuproj developers"
project_copyright = author
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_copybutton",
    "repository",  # _site/repository.py
]
exclude_patterns = ["_site"]

# Headings have the same anchors as on GitHub.
myst_heading_anchors = 4
# Keep the two hyphens of `--quick`.
smartquotes = False
highlight_language = "default"
# Single backticks in docstrings name parameters.
default_role = "code"

autosummary_generate = False
autodoc_default_options = {"member-order": "bysource"}
# Docstrings give types with shapes and units, so signatures omit them.
autodoc_typehints = "none"
autodoc_preserve_defaults = True
numpydoc_show_class_members = False

nitpicky = True
# Names of other projects, whose inventories need a network.
nitpick_ignore_regex = [("py:.*", r"(numpy|torch|sklearn|scipy|transformers|lightning)\..*")]
# The classes of callbacks derive from these libraries' classes; the reference needs neither.
autodoc_mock_imports = ["transformers", "lightning"]

html_title = "opuproj"
html_theme = "furo"
pygments_style = "default"
pygments_dark_style = "github-dark"
html_static_path = ["_site/static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b6e4f", "color-brand-content": "#0b6e4f"},
    "dark_css_variables": {"color-brand-primary": "#5fd3a8", "color-brand-content": "#5fd3a8"},
}
copybutton_exclude = ".linenos, .gp, .go"
