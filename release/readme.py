"""The README for the package index, where relative links would lead nowhere."""

from __future__ import annotations

import re

REPOSITORY = "https://github.com/opuproj/opuproj"
IMAGES = "https://raw.githubusercontent.com/opuproj/opuproj"
# A link or an image of Markdown: a mark of an image, the text (brackets inside once), the target.
_LINK = re.compile(r"(!?)(\[(?:[^\[\]]|\[[^\[\]]*\])*\])\(([^()\s]+)\)")


def absolute(text: str, tag: str) -> str:
    """Return Markdown whose relative links lead to the files of a tag of the repository; code stays as it is."""

    def link(match: re.Match[str]) -> str:
        image, label, target = match.groups()
        if "://" in target or target.startswith("#"):
            return match[0]
        base = f"{IMAGES}/{tag}" if image else f"{REPOSITORY}/blob/{tag}"
        return f"{image}{label}({base}/{target})"

    parts = re.split(r"(```.*?```)", text, flags=re.DOTALL)
    return "".join(part if part.startswith("```") else _LINK.sub(link, part) for part in parts)
