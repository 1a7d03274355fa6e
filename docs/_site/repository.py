"""Pages as they lie in the repository: links that work on GitHub lead to the same places in the site.

README.md, CONTRIBUTING.md and CHANGELOG.md lie above the site's sources, and each is included by a page; links from and
to them are rewritten. Diagrams (images/diagrams/*.svg) go into the page itself, where they take the theme's colours.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "docs"
PAGES = {"README.md": "overview.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
LINK = re.compile(r"(?<=\]\()([^)\s#]+)")


def rewritten(text: str, folder: Path, to: Path = SOURCES) -> str:
    """Return a page's text, whose links are relative to a folder, with links for a page in another folder."""

    def target(match: re.Match[str]) -> str:
        path = Path(os.path.normpath(folder / match[1]))
        if "://" in match[1] or not path.exists():
            return match[1]
        page = PAGES.get(path.relative_to(ROOT).as_posix())
        if page:
            return f"/{page}"
        return f"/{os.path.relpath(path, SOURCES)}" if path.is_relative_to(SOURCES) else os.path.relpath(path, to)

    return LINK.sub(target, text)


def read(app: Sphinx, name: str, source: list[str]) -> None:
    """Rewrite the links of a page of the site; leave out patterns of its table of contents that match nothing."""
    folder = (SOURCES / name).parent
    text = rewritten(source[0], folder, folder)

    def found(pattern: re.Match[str]) -> str:
        return pattern[0] if any(folder.glob(f"{pattern[0].strip()}.*")) else ""

    source[0] = re.sub(r"^[\w/-]+\*\n", found, text, flags=re.MULTILINE)


def included(app: Sphinx, path: Path, parent: str, content: list[str]) -> None:
    """Rewrite the links of a page that lies elsewhere."""
    content[0] = rewritten(content[0], (SOURCES / path).resolve().parent)


class Diagrams(SphinxPostTransform):
    """Put diagrams into the page; their own style sheet is for those who see the file alone."""

    default_priority = 5
    formats = ("html",)

    def run(self, **_: Any) -> None:
        """Replace the images of one page."""
        for image in list(self.document.findall(nodes.image)):
            if "diagrams/" in image["uri"] and image["uri"].endswith(".svg"):
                drawing = (SOURCES / image["uri"]).read_text()
                drawing = re.sub(r"<style>.*?</style>", "", drawing, flags=re.DOTALL)
                image.replace_self(nodes.raw("", f'<div class="diagram">{drawing}</div>', format="html"))


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect to Sphinx."""
    app.connect("source-read", read)
    app.connect("include-read", included)
    app.add_post_transform(Diagrams)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
