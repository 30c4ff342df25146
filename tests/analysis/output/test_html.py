from __future__ import annotations

import pandas as pd

from analysis.output import figures
from analysis.output.figure import Figure
from analysis.output.html import Page


def test_only_wide_drawings_scroll_on_a_narrow_screen():
    frame = pd.DataFrame({"x": [0.0, 1.0], "y": [0.1, 0.2], "low": [0.0, 0.1], "high": [0.2, 0.3]})
    chart = figures.curves(frame, x="x", y="y", color=None, x_title="x", y_title="y", share=True)
    page = Page("drawings")
    page.figure(Figure(chart=chart, caption="one"))
    page.figure(Figure(chart=figures.beside([chart, chart], fit=False), caption="two"))
    text = page.text()
    assert text.count('<figure class="wide">') == text.count("<figure>") == 1
    assert ">10<" in text  # per cent, whose sign is the title's
