"""Figures as the page gets them: the report's Vega-Lite specification, drawn by the browser (``figures.js``).

A server that draws holds a JavaScript engine of its own, 130 MiB, and draws for one reader at a time. What is
saved as a file is drawn by a process that ends with it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass

from analysis.output.figure import Figure

HERE = "http://dashboard.invalid"
"""Stands for this server in the links of a chart, which must be whole addresses; see ``figures.js``."""

_ANY_LINK = re.compile(r"<a xlink:href=[^>]*>|</a>")


_DRAW = "import sys, vl_convert; sys.stdout.write(vl_convert.vegalite_to_svg(sys.stdin.read()))"
"""What :meth:`~analysis.output.figures.Figure.svg` does, without importing the analysis, which takes a
second.
"""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure as words; kept instead of the chart, which is larger."""

    spec: str
    """Vega-Lite JSON, its links leading :data:`HERE`."""
    caption: str

    @property
    def inline(self) -> str:
        """The specification as it may stand inside an HTML ``script``: nothing in it can end the element."""
        return self.spec.replace("<", "\\u003c")

    def file(self) -> str:
        """The picture for saving, as the report has it; links, which lead to this server, are left out."""
        command = [sys.executable, "-I", "-c", _DRAW]
        drawn = subprocess.run(command, input=self.spec, stdout=subprocess.PIPE, text=True, check=True)
        return _ANY_LINK.sub("", drawn.stdout)


def draw(figure: Figure) -> Drawing:
    """Put a figure into words: 10 to 30 ms, so once per snapshot."""
    return Drawing(spec=figure.spec(), caption=figure.caption)
