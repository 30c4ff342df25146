"""Figures as inline SVG: the report's own drawings, made to fit a page of any width and colour."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape

from analysis.figures import Figure

_ROOT = re.compile(r"<svg [^>]*?(viewBox=\"[\d. -]+\")[^>]*><rect [^>]*fill=\"white\"/>")
_NAMES = re.compile(r'(\bid="|url\(#|href="#)([^")]+)')
_MARK = re.compile(r'<(path|text|line|image)( aria-label="([^"]*)"[^>]*?)(?:/>|>([^<]*)</\1>)')

HERE = "http://dashboard.invalid"
"""Stands for this server in the links of a chart, which must be whole addresses; never leaves this module."""

_LINK = re.compile(rf'<a xlink:href="{HERE}([^"]*)"[^>]*>')
_ANY_LINK = re.compile(r"<a xlink:href=[^>]*>|</a>")


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure that has been drawn; kept instead of the chart, which is larger and slow to draw."""

    svg: str
    """The picture as it was drawn, its links leading :data:`HERE`."""
    caption: str
    """The words under it."""

    @property
    def file(self) -> str:
        """The picture for saving, as the report has it; links, which lead to this server, are left out."""
        return _ANY_LINK.sub("", self.svg)


def draw(figure: Figure) -> Drawing:
    """Draw a figure: 50 to 200 ms, so once per snapshot."""
    return Drawing(svg=figure.svg(), caption=figure.caption)


def inline_svg(figure: Drawing, prefix: str) -> str:
    """The figure for a page.

    The white ground goes, so that the page's own shows in the dark; names are told apart from those of other
    drawings by ``prefix``; marks say their values when pointed at, and links stay in the tab.
    """
    drawn = figure.svg
    box = re.search(r'viewBox="0 0 ([\d.]+) ', drawn)
    size = f' width="{box[1]}"' if box else ""
    text = _ROOT.sub(
        lambda m: (
            f'<svg class="figure" xmlns="http://www.w3.org/2000/svg" {m[1]}{size} role="img" '
            f'aria-label="{escape(figure.caption)}">'
        ),
        drawn,
        count=1,
    )
    text = _NAMES.sub(lambda m: f"{m[1]}{prefix}-{m[2]}", text)
    text = _LINK.sub(lambda m: f'<a href="{m[1]}">', text)
    return _MARK.sub(_titled, text)


def _titled(mark: re.Match[str]) -> str:
    tag, opening, words, content = mark[1], mark[2], mark[3], mark[4] or ""
    return f"<{tag}{opening}><title>{words}</title>{content}</{tag}>"
