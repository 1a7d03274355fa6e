"""Draw the pages' diagrams: `python docs/diagrams.py` writes images/diagrams/*.svg.

Colours are classes. The site styles them with the colours of its theme; a file viewed alone uses its own style sheet.
The site shows NAME-narrow.svg in place of NAME.svg on narrow screens, if that file exists.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np
import opuproj

OUT = Path(__file__).parent / "images" / "diagrams"
STYLE = """
svg{font-family:system-ui,sans-serif;font-size:15px}
.ink{fill:#1f2933}.soft{fill:#56616e;font-size:13px}.line{stroke:#56616e;fill:none;stroke-width:1.5}
.box{fill:#f1f4f6;stroke:#56616e;stroke-width:1.5}.beam{stroke:#0b8f63;fill:none;stroke-width:3}.lit{fill:#0b8f63}
.back{stroke:#b3541e;fill:none;stroke-width:2}.backtext{fill:#b3541e}
@media(prefers-color-scheme:dark){.ink{fill:#e6eaee}.soft{fill:#a3afbb}.line{stroke:#a3afbb}
.box{fill:#20262c;stroke:#a3afbb}.beam{stroke:#4fd1a0}.lit{fill:#4fd1a0}.back{stroke:#f0955a}.backtext{fill:#f0955a}}
"""


class Drawing:
    """The shapes of one picture, and its title for screen readers."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.size, self.title = (width, height), title
        self.shapes: list[str] = []

    def text(self, x: float, y: float, *lines: str, style: str = "ink", anchor: str = "middle") -> None:
        """Write lines, the first one's base at y."""
        for i, line in enumerate(lines):
            self.shapes.append(
                f'<text class="{style}" x="{x:g}" y="{y + 18 * i:g}" text-anchor="{anchor}">{escape(line)}</text>'
            )

    def box(self, x: float, y: float, width: float, height: float, *lines: str) -> None:
        """Draw a box with lines of text in its middle."""
        self.shapes.append(f'<rect class="box" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"/>')
        self.text(x + width / 2, y + height / 2 + 5 - 9 * (len(lines) - 1), *lines)

    def path(self, points: list[tuple[float, float]], style: str = "line", head: bool = True) -> None:
        """Draw straight lines through points, with an arrowhead at the end."""
        way = " ".join(f"{x:g},{y:g}" for x, y in points)
        self.shapes.append(f'<polyline class="{style}" points="{way}"/>')
        if head:
            (x, y), (before_x, before_y) = points[-1], points[-2]
            length = np.hypot(x - before_x, y - before_y)
            dx, dy = 8 * (x - before_x) / length, 8 * (y - before_y) / length
            sides = f"{x - dx - dy / 2:g},{y - dy + dx / 2:g} {x:g},{y:g} {x - dx + dy / 2:g},{y - dy - dx / 2:g}"
            self.shapes.append(f'<polyline class="{style}" points="{sides}"/>')

    def pixels(self, x: float, y: float, values: np.ndarray, size: float = 14) -> None:
        """Draw a grid of pixels, of brightness 0 to 1."""
        rows, columns = values.shape
        self.shapes.append(
            f'<rect class="box" x="{x - 3:g}" y="{y - 3:g}" width="{columns * size + 6:g}" '
            f'height="{rows * size + 6:g}" rx="3"/>'
        )
        for (i, j), value in np.ndenumerate(values):
            if value > 0:
                at = f'x="{x + j * size + 0.5:g}" y="{y + i * size + 0.5:g}" width="{size - 1:g}" height="{size - 1:g}"'
                self.shapes.append(f'<rect class="lit" {at} opacity="{value:.2f}"/>')

    def save(self, name: str) -> None:
        """Write the file."""
        width, height = self.size
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"'
        lines = [f'{head} width="{width}">', f"<title>{escape(self.title)}</title>", f"<style>{STYLE}</style>"]
        OUT.mkdir(parents=True, exist_ok=True)
        (OUT / name).write_text("\n".join([*lines, *self.shapes, "</svg>\n"]))


def speckle(x: np.ndarray, n: int) -> np.ndarray:
    """Return the intensities of a frame on a camera of n × n pixels, from 0 to 1."""
    seen = opuproj.project(x.reshape(-1), n * n, seed=0).reshape(n, n)
    bright: np.ndarray = np.clip(seen / (3 * x.sum()), 0, 1)
    return bright


def frame(seed: int, rows: int = 8, columns: int = 8) -> np.ndarray:
    """Return a random binary frame."""
    return np.random.default_rng(seed).integers(0, 2, (rows, columns))


def scatterer(d: Drawing, x: float, middle: float) -> None:
    """Draw the scattering medium, 110 wide and 116 high."""
    d.box(x, middle - 58, 110, 116, "T")
    for at, (i, j) in enumerate(np.random.default_rng(1).random((60, 2))):
        if abs(i - 0.5) > 0.16 or abs(j - 0.5) > 0.16:
            place = f'cx="{x + 6 + 98 * i:.0f}" cy="{middle - 52 + 104 * j:.0f}" r="{1 + at % 3}"'
            d.shapes.append(f'<circle class="lit" opacity="0.45" {place}/>')


CHAIN = "A laser lights a modulator that shows x; a medium T scatters the light; a camera measures |Tx|²"


def optical_chain() -> None:
    """Draw laser, modulator, medium and camera, and under each what the package computes instead."""
    d = Drawing(720, 250, CHAIN)
    middle = 82
    d.box(10, middle - 24, 90, 48, "laser")
    x = frame(3)
    d.path([(100, middle), (160, middle)], "beam")
    d.pixels(170, middle - 56, x)
    d.path([(292, middle), (344, middle)], "beam")
    scatterer(d, 352, middle)
    for y in (-36, -12, 12, 36):
        d.path([(462, middle), (540, middle + y)], "beam", head=False)
    d.pixels(550, middle - 56, speckle(x, 8))
    names = ((55, "light", ""), (226, "modulator", "shows x, binary"), (407, "medium", "scatters: Tx"))
    for at, name, what in (*names, (606, "camera", "measures |Tx|²")):
        d.text(at, 168, name)
        d.text(at, 186, what, style="soft")
    d.path([(10, 200), (710, 200)], head=False)
    d.text(226, 222, "packed batch of", "−1, 0, 1: 2 bits each", style="soft")
    d.text(407, 222, "entries computed", "when multiplied", style="soft")
    d.text(606, 222, "exact, or with", "a Camera's noise", style="soft")
    d.text(55, 222, "in this", "package", style="soft")
    d.save("optical-chain.svg")


def optical_chain_narrow() -> None:
    """Draw the same from top to bottom."""
    d = Drawing(350, 640, CHAIN)
    x, left, beside = frame(3), 80, 160
    d.box(left - 45, 12, 90, 48, "laser")
    d.path([(left, 60), (left, 92)], "beam")
    d.pixels(left - 56, 104, x)
    d.path([(left, 222), (left, 258)], "beam")
    scatterer(d, left - 55, 324)
    for at in (-36, -12, 12, 36):
        d.path([(left, 382), (left + at, 430)], "beam", head=False)
    d.pixels(left - 56, 440, speckle(x, 8))
    steps = (
        (30, ("light",), ()),
        (142, ("modulator", "shows x, binary"), ("packed batch of", "−1, 0, 1: 2 bits each")),
        (306, ("medium", "scatters: Tx"), ("entries computed", "when multiplied")),
        (478, ("camera", "measures |Tx|²"), ("exact, or with", "a Camera's noise")),
    )
    for y, (name, *what), instead in steps:
        d.text(beside, y, name, anchor="start")
        d.text(beside, y + 18, *what, style="soft", anchor="start")
        d.text(beside, y + 42, *instead, style="soft", anchor="start")
    d.path([(10, 580), (340, 580)], head=False)
    d.text(175, 604, "beside each: the light, and below it", "what this package computes instead", style="soft")
    d.save("optical-chain-narrow.svg")


def linear_recovery() -> None:
    """Draw four frames of a ternary vector and an anchor, and what their differences are."""
    d = Drawing(
        720, 330, "Four frames p, q, p + a and q + a, their intensities, and the linear projection Rx they give"
    )
    random = np.random.default_rng(5)
    ternary = random.integers(-1, 2, (3, 8))
    anchor = np.ones((1, 8), int)
    p, q = np.where(ternary > 0, 1, 0), np.where(ternary < 0, 1, 0)
    frames = (("p", p, 0 * anchor), ("q", q, 0 * anchor), ("p + a", p, anchor), ("q + a", q, anchor))
    shares = ("|Tp|²", "|Tq|²", "|Tp + Ta|²", "|Tq + Ta|²")
    for i, ((name, data, lit), seen) in enumerate(zip(frames, shares, strict=True)):
        y = 12 + 80 * i
        whole = np.vstack([data, lit])
        d.text(10, y + 32, name, anchor="start")
        d.pixels(70, y, whole)
        d.path([(192, y + 28), (238, y + 28)], "beam")
        d.box(246, y + 8, 40, 40, "T")
        d.path([(286, y + 28), (328, y + 28)], "beam")
        d.pixels(338, y + 7, speckle(whole, 6)[:3], 14)
        d.text(436, y + 33, seen, anchor="start")
        d.path([(522, y + 28), (550, y + 28)], head=False)
    d.path([(550, 40), (550, 280)], head=False)
    d.path([(550, 160), (576, 160)])
    d.box(582, 118, 130, 84, "differences:", "Rx = √2 Re(…)", "on every pixel")
    d.text(126, 322, "upper rows: data; last row: anchor", style="soft")
    d.save("linear-recovery.svg")


def entry() -> None:
    """Draw how an entry of T is computed, and which part of T exists at a time."""
    d = Drawing(720, 300, "ARS4x32 turns seed, row and column into 16 bytes, 8 entries, to multiply by x and sum")
    d.box(10, 24, 120, 66, "seed", "row, column j")
    d.path([(130, 57), (160, 57)])
    d.box(164, 24, 120, 66, "ARS4x32-7", "(AES rounds)")
    d.path([(284, 57), (314, 57)])
    d.box(318, 24, 120, 66, "16 bytes:", "re, im of 8 rows")
    d.path([(438, 57), (468, 57)])
    d.box(472, 24, 110, 66, "table:", "g, |g| ≤ 100")
    d.path([(582, 57), (612, 57)])
    d.box(616, 24, 94, 66, "Σ g xⱼ", "an integer")
    d.text(360, 116, "in registers, when multiplied", style="soft")
    d.shapes.append('<rect class="line" x="150" y="140" width="330" height="140" stroke-dasharray="4 4"/>')
    d.shapes.append('<rect class="lit" opacity="0.35" x="150" y="174" width="330" height="26"/>')
    d.shapes.append('<rect class="lit" opacity="0.8" x="300" y="180" width="10" height="14"/>')
    d.path([(305, 180), (305, 152), (510, 152)], head=False)
    d.text(516, 157, "a block: 8 rows of one column", style="soft", anchor="start")
    d.path([(480, 187), (510, 187)], head=False)
    d.text(516, 192, "op[a:b]: any rows, alone", style="soft", anchor="start")
    d.text(315, 240, "T")
    d.text(315, 260, "any size, never stored as a whole", style="soft")
    d.text(140, 215, "rows:", "outputs", style="soft", anchor="end")
    d.text(315, 296, "columns: inputs; a column is not computed if its input is zero", style="soft")
    d.save("entry.svg")


FEEDBACK = "Three blocks and a top; the error at the output is projected once, and each block gets its rows"


def feedback() -> None:
    """Draw the forward pass of three blocks, and where their feedback comes from."""
    d = Drawing(720, 210, FEEDBACK)
    d.text(14, 55, "x")
    for i in range(3):
        d.path([(28 + 160 * i, 50), (58 + 160 * i, 50)])
        d.box(62 + 160 * i, 26, 110, 48, f"block {i + 1}")
        d.path([(172 + 160 * i, 50), (184 + 160 * i, 50)], head=False)
        d.path([(184 + 160 * i, 36), (184 + 160 * i, 64)], head=False)
        d.path([(150 + 160 * i, 150), (150 + 160 * i, 78)], "back")
        d.text(142 + 160 * i, 118, f"R{'₁₂₃'[i]}e", style="backtext", anchor="end")
    d.path([(508, 50), (538, 50)])
    d.box(542, 26, 80, 48, "top")
    d.path([(622, 50), (652, 50)])
    d.text(680, 55, "loss")
    d.path([(680, 66), (680, 150)], "back", head=False)
    d.text(672, 118, "e", style="backtext", anchor="end")
    d.path([(680, 150), (150, 150)], "back", head=False)
    d.path([(600, 150), (600, 78)], "back")
    d.text(592, 118, "gradient", style="backtext", anchor="end")
    d.text(360, 180, "one projection of e; each block uses rows of R of its own", style="soft")
    d.text(360, 200, "the graph is cut at the end of each block", style="soft")
    d.save("feedback.svg")


def feedback_narrow() -> None:
    """Draw the same from the loss at the top down to x."""
    d = Drawing(350, 470, FEEDBACK)
    middle, trunk = 90, 280
    d.text(middle, 24, "loss")
    d.path([(middle, 60), (middle, 34)])
    d.box(middle - 55, 64, 110, 44, "top")
    d.path([(middle + 24, 19), (trunk, 19), (trunk, 370)], "back", head=False)
    d.text(trunk + 10, 24, "e", style="backtext", anchor="start")
    d.path([(trunk, 86), (middle + 59, 86)], "back")
    d.text(trunk - 10, 78, "gradient", style="backtext", anchor="end")
    for i in range(3):
        y = 348 - 104 * i
        d.path([(middle, y + 74), (middle, y + 48)])
        d.box(middle - 55, y, 110, 44, f"block {i + 1}")
        d.path([(middle, y), (middle, y - 12)], head=False)
        d.path([(middle - 14, y - 12), (middle + 14, y - 12)], head=False)
        d.path([(trunk, y + 22), (middle + 59, y + 22)], "back")
        d.text(trunk - 10, y + 14, f"R{'₁₂₃'[i]}e", style="backtext", anchor="end")
    d.path([(middle, 124), (middle, 112)])
    d.text(middle, 440, "x")
    d.text(trunk, 406, "one projection of e;", "each block uses rows", "of R of its own", style="soft")
    d.save("feedback-narrow.svg")


def draw() -> None:
    """Draw all of them."""
    for each in (optical_chain, optical_chain_narrow, linear_recovery, entry, feedback, feedback_narrow):
        each()


if __name__ == "__main__":
    draw()
