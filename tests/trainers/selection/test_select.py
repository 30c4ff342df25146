import json

import pytest

from sweeps.compose import compose_sweep
from sweeps.manifest.build import build_manifest
from sweeps.spec.errors import SpecError
from trainers.selection.select import SelectionRequest, pick

TINY = {"model": "pkg://trainers/tiny/models/tiny-32", "samples": 8, "pattern": r"[;?](\d+)$"}


@pytest.fixture
def pool(tmp_path):
    problems = {"12+34=": "046", "57+54=": "111", "99+29=": "128", "20+30=": "050", "36+48=": "084"}
    path = tmp_path / "pool.jsonl"
    path.write_text("".join(json.dumps({"problem": p, "answer": a}) + "\n" for p, a in problems.items()))
    return str(path)


def test_a_picked_file_is_an_example_that_a_sweep_can_use(tmp_path):
    path = tmp_path / "pool.jsonl"
    path.write_text('{"problem": "1+1="}\n{"problem": "111+111="}\n{"problem": "11+11="}\n')
    picks = pick(SelectionRequest(pool=str(path), rule="length", num=2))
    picks.write(tmp_path / "deep" / "picked.jsonl")
    words = ["example=file", f"example.path={tmp_path}/deep/picked.jsonl", "example.rows=[0],[1]"]
    manifest = build_manifest(compose_sweep(words))
    assert {manifest.spec(i).example.prompts for i in range(2)} == {("111+111=",), ("11+11=",)}
    assert [row["selection"]["row"] for row in picks.rows] == [1, 2]


def test_rollouts_and_labels_rank_the_same_way_twice(pool):
    for rule in ("entropy", "majority_p1p", "pass_variance"):
        first, second = (pick(SelectionRequest(pool=pool, rule=rule, num=3, probing=TINY)) for _ in range(2))
        assert first == second
        scores = [row["selection"]["score"] for row in first.rows]
        assert scores == sorted(scores, reverse=True)
        assert max(scores) > min(scores)
    assert (first.label, first.supervised) == ("pass_variance-labelled", True)


def test_rules_that_train_see_accuracy_move_and_solved_problems_only(pool):
    history = pick(SelectionRequest(pool=pool, rule="accuracy_std", num=5, passes=2, probing=TINY))
    assert any(row["selection"]["score"] > 0 for row in history.rows)
    curated = pick(SelectionRequest(pool=pool, rule="boosting", num=5, probing=TINY | {"steps": 1}))
    assert (curated.label, curated.supervised) == ("boosting", False)
    assert all(0 <= row["selection"]["score"] < 1 for row in curated.rows)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"rule": "entorpy"}, 'did you mean "entropy"'),
        ({"rule": "length", "num": 0}, "--top=0"),
        ({"rule": "length", "text_field": "problm"}, 'did you mean "problem"'),
        ({"rule": "length", "answer_field": "answer"}, "reads no answers"),
        ({"rule": "pass_variance", "answer_field": "label"}, "choose one"),
        ({"rule": "pass_variance", "k": 9, "probing": TINY}, "--k=9"),
        ({"rule": "accuracy_std", "passes": 1, "probing": TINY}, "--passes=1"),
        ({"rule": "entropy", "probing": TINY | {"model": "no/such/model/folder"}}, "no such folder"),
    ],
)
def test_mistakes_are_told_before_anything_is_drawn(pool, change, says):
    with pytest.raises(SpecError, match=says):
        pick(SelectionRequest(pool=pool, **change))


def test_a_pool_that_is_not_there_is_named():
    with pytest.raises(SpecError, match=r"nowhere\.jsonl.*no such file"):
        pick(SelectionRequest(pool="nowhere.jsonl", rule="length"))
