"""What a race will take at least and at most."""

from __future__ import annotations

import pytest

from orchestrator.planning.race_price import race_price
from orchestrator.planning.race_question import race_question
from tests.orchestrator.races import raced

PAIRS = (
    "search=race",
    "search.question=compare",
    "search.a=trainer.params.effect=20",
    "search.b=trainer.params.effect=0",
)


@pytest.mark.parametrize(
    ("search", "least", "most"),
    [
        (("search=race", "search.base=0"), 15, 48),
        (("search=race", "search.base=0", "search.runs=30"), 15, 30),
        (PAIRS, 26, 48),
        ((*PAIRS, "search.runs=12"), 26, 28),
    ],
)
def test_cells_that_are_in_no_pair_are_run_whatever_is_decided(search, least, most):
    manifest = raced(effects="0,20,50", search=search)
    price = race_price(manifest, race_question(manifest), None)
    assert (price.least, price.most) == (least, most)
