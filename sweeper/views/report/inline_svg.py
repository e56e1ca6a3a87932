"""A matplotlib figure as an SVG element within a page: small, in the page's colors, with ids of its own."""

from __future__ import annotations

import io
import re
from html import escape
from typing import TYPE_CHECKING

from sweeper.text.colors import KIN

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The colors of figures as variables of the page's style, which has others for a dark page.
VARIABLES = {color: f"var(--kin-{place})" for place, (color, _) in enumerate(KIN)} | {
    "#000000": "var(--ink)",
    "#ffffff": "var(--paper)",
    "#e4e4e4": "var(--grid)",
    "#666666": "var(--muted)",
}
TAG = re.compile(r"<[^>]+>")
COLOR = re.compile(r"#[0-9a-f]{6}\b")
NUMBER = re.compile(r"-?\d+\.\d+")
GEOMETRY = re.compile(r' (?:d|x|y|width|height|transform|points)="[^"]*"')
REFERENCE = re.compile(r'(?:url\(#|href="#)([^")]+)')
DECIMALS = 1  # of a length; a figure is 390 wide


def inline_svg(figure: Figure, prefix: str, label: str) -> str:
    """Return a figure as an SVG element.

    Args:
        figure: The figure, drawn with `svg.fonttype` "none": text has the page's font.
        prefix: The start of its ids, which no other figure of the page may have.
        label: What it shows, for users who do not see it.
    """
    file = io.BytesIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = file.getvalue().decode()
    width, height = figure.get_size_inches() * 72
    body = text[text.index("</defs>") + len("</defs>") : text.rindex("</svg>")]
    body = re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)
    used = set(REFERENCE.findall(body))
    body = TAG.sub(lambda found: _tag(found[0], prefix, used), body)
    body = re.sub(r">\s+<", "><", body.strip())
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(label)}">'
        f"{_without_empty_groups(body)}</svg>"
    )


def _tag(tag: str, prefix: str, used: set[str]) -> str:
    """Return a tag in the page's colors, with rounded lengths, and without an id that nothing refers to."""

    def own_id(found: re.Match[str]) -> str:
        return f' id="{prefix}{found[1]}"' if found[1] in used else ""

    tag = re.sub(r' id="([^"]*)"', own_id, tag)
    tag = REFERENCE.sub(lambda found: found[0].replace("#", f"#{prefix}"), tag).replace("xlink:href", "href")
    tag = GEOMETRY.sub(lambda found: NUMBER.sub(lambda number: _short(number[0]), found[0].replace("\n", " ")), tag)
    tag = re.sub(r" font-family: [^;\"]*;?", "", tag).replace("; ", ";").replace(": ", ":")
    tag = re.sub(r' transform="rotate\(-?0 [^"]*\)"', "", tag)
    return COLOR.sub(lambda found: VARIABLES.get(found[0], found[0]), tag)


def _short(number: str) -> str:
    """Return a length with few digits: -0.04 as 0, 12.30 as 12.3."""
    text = f"{float(number):.{DECIMALS}f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _without_empty_groups(body: str) -> str:
    """Remove groups without attributes around one element, and empty ones, which matplotlib makes for every part."""
    before = ""
    while before != body:
        before, body = body, re.sub(r"<g>(<(?:path|use|text)\b[^>]*(?:/>|>[^<]*</text>))</g>|<g></g>", r"\1", body)
    return body
