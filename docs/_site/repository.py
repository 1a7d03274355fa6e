"""Changes that the site makes to the repository's pages, so that links that work on GitHub work in the site too.

README.md, CONTRIBUTING.md and CHANGELOG.md lie above the site's sources. A page of the site includes each of them, and
this module rewrites links from and to them. It inserts the diagrams (images/diagrams/*.svg) into the pages' HTML, so
that they take the theme's colours.
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
    """Put diagrams into the page, where the site's style sheet applies to them."""

    default_priority = 5
    formats = ("html",)

    def run(self, **_: Any) -> None:
        """Replace the images of one page."""
        for image in list(self.document.findall(nodes.image)):
            if "diagrams/" in image["uri"] and image["uri"].endswith(".svg"):
                wide = SOURCES / image["uri"]
                narrow = wide.with_stem(f"{wide.stem}-narrow")
                kinds = {"diagram wide": wide, "diagram narrow": narrow} if narrow.exists() else {"diagram": wide}
                drawn = "".join(f'<div class="{kind}">{drawing(path)}</div>' for kind, path in kinds.items())
                image.replace_self(nodes.raw("", drawn, format="html"))


def drawing(path: Path) -> str:
    """Return a diagram without its own style sheet."""
    return re.sub(r"<style>.*?</style>", "", path.read_text(), flags=re.DOTALL)


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect to Sphinx."""
    app.connect("source-read", read)
    app.connect("include-read", included)
    app.add_post_transform(Diagrams)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
