from __future__ import annotations

import json
from html.parser import HTMLParser

import pandas as pd

from analysis.dashboard.vega_figure import draw
from analysis.output import figures
from analysis.output.figure import Figure

HOSTILE = "</script><img src=x onerror=alert(1)><!--"


def figure(name: str) -> Figure:
    frame = pd.DataFrame(
        {"row": [name, "b"], "difference": [1.0, 2.0], "low": [0.5, 1.5], "high": [1.5, 2.5]}
    )
    return Figure(chart=figures.dots(frame, y="row", x="difference", x_title="points"), caption="two rows")


class Elements(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags: list[str] = []
        self.data: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.data.append(data)


def test_nothing_in_a_specification_ends_the_element_that_holds_it():
    drawn = draw(figure(HOSTILE))
    elements = Elements()
    elements.feed(f'<script type="application/json">{drawn.inline}</script>')
    assert elements.tags == ["script"]
    assert json.loads("".join(elements.data)) == json.loads(drawn.spec)
    assert HOSTILE in json.dumps(json.loads(drawn.spec))


def test_a_figure_saved_is_the_one_the_report_draws():
    assert draw(figure("a")).file() == figure("a").svg()
