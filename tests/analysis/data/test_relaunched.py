"""A sweep whose grid has grown: its tables are of the earlier grid until the driver at work has ended."""

from __future__ import annotations

import numpy as np
import pytest

from analysis import open_sweep
from orchestrator.driver.session import Session
from orchestrator.store.digest_writer import remove_recorded
from orchestrator.store.index_reader import read_index
from orchestrator.store.layout import TABLES, Layout
from orchestrator.store.parts import PartWriter
from orchestrator.store.spool import LineReader
from orchestrator.trust.consent import consent_of
from orchestrator.trust.gate import permit
from sweeps.compose import compose_sweep
from sweeps.manifest.build import build_manifest
from tests.orchestrator.sweeping import run


def manifest_of(models):
    words = ["sweep=noop", f"model={models}", "seed=range(3)", "+trainer.params.steps=2"]
    return build_manifest(compose_sweep(words))


@pytest.fixture
def grown(tmp_path):
    """A finished sweep of one model, launched anew with another put before it, which has not run yet."""
    folder, manifest = tmp_path / "grown", manifest_of("tiny-64,tiny-96")
    run(folder, manifest_of("tiny-96"))
    layout = Layout(folder)
    with Session(layout, permit(layout, manifest, consent_of(manifest.overrides, launched=True))) as session:
        session.freeze(manifest, pool="inline", address=None)
    return folder


def draws(folder, table="runs"):
    frame = getattr(open_sweep(folder), table)()
    return {
        (row.model, row.seed, getattr(row, "step", 0)): row.draw
        for row in frame.itertuples()
        if not np.isnan(row.draw)
    }


def test_results_stay_with_their_runs_whatever_place_these_have_now(grown, tmp_path):
    run(tmp_path / "whole", manifest_of("tiny-64,tiny-96"))
    truth = draws(tmp_path / "whole")
    assert draws(grown) == {key: value for key, value in truth.items() if key[0] == "tiny-96"}
    assert open_sweep(grown).counts() == {"pending": 3, "done": 3}
    steps = draws(tmp_path / "whole", "steps")
    assert draws(grown, "steps") == {key: value for key, value in steps.items() if key[0] == "tiny-96"}


def test_parts_of_the_grown_grid_go_with_tables_of_the_earlier_one(grown, tmp_path):
    whole, manifest = tmp_path / "whole", manifest_of("tiny-64,tiny-96")
    run(whole, manifest)
    book, lines = read_index(Layout(whole), manifest.run_ids).book, LineReader(Layout(whole).spools)
    parts = PartWriter(Layout(grown))
    parts.add(1, lines.read(book.spools[book.spool[1]], *book.location(1)))
    parts.write_part()
    truth = draws(whole)
    there = {key: value for key, value in truth.items() if key[0] == "tiny-96" or key[1] == 1}
    assert draws(grown) == there
    assert len(there) == 4


def test_parts_of_an_earlier_grid_are_no_rows_of_the_grown_one(tmp_path):
    """What a killed driver left says whose a row is by its place; the next one writes it anew."""
    folder, early, manifest = tmp_path / "killed", manifest_of("tiny-96"), manifest_of("tiny-64,tiny-96")
    run(folder, early)
    layout = Layout(folder)
    book, lines = read_index(layout, early.run_ids).book, LineReader(layout.spools)
    parts = PartWriter(layout)
    parts.add(0, lines.read(book.spools[book.spool[0]], *book.location(0)))
    parts.write_part()
    remove_recorded(layout, [path for path in map(layout.table, TABLES) if path.exists()])
    with Session(layout, permit(layout, manifest, consent_of(manifest.overrides, launched=True))) as session:
        session.freeze(manifest, pool="inline", address=None)
    assert open_sweep(folder).counts() == {"pending": 6}
    run(folder, manifest)
    run(tmp_path / "whole", manifest)
    assert draws(folder) == draws(tmp_path / "whole")
