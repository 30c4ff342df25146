"""A chart with its caption, and the forms in which it is saved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.output.encodings import extra, for_print
from analysis.output.markup import figure_html, in_notebook
from sweeps.manifest.atomic import write_atomically
from sweeps.spec import nearest
from sweeps.spec.errors import UserError

ENDINGS = ("svg", "png", "pdf")
"""Forms a figure can be saved in."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A chart with the words that belong under it."""

    chart: Any
    caption: str
    """What is shown, how many runs and seeds, and what the intervals mean."""

    def svg(self) -> str:
        return extra("vl_convert").vegalite_to_svg(self.spec())

    def html(self) -> str:
        """The drawing and its caption as a piece of HTML that needs no script and no network."""
        return figure_html(self.svg(), self.caption)

    def _repr_html_(self) -> str:
        return in_notebook(self.html())

    def spec(self) -> str:
        """The chart as Vega-Lite JSON, not checked against the schema: that takes longer than drawing."""
        return for_print(self.chart).to_json(validate=False)

    def save(self, path: Path) -> None:
        """Write as SVG, PNG (at 200 dots per inch) or PDF, by the file's ending; by rename.

        Raises:
            UserError: for another ending.
        """
        vl_convert = extra("vl_convert")
        ending = path.suffix.removeprefix(".")
        if ending not in ENDINGS:
            raise UserError(
                f"{path}: unknown figure format{nearest(ending, ENDINGS)}; use {', '.join(ENDINGS)}"
            )
        spec = self.spec()
        if ending == "svg":
            content = vl_convert.vegalite_to_svg(spec).encode()
        elif ending == "png":
            content = vl_convert.vegalite_to_png(spec, scale=200 / 72)
        else:
            content = vl_convert.vegalite_to_pdf(spec)
        write_atomically(path, content)
