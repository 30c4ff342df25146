"""The shipped items are what the world's split says, and examples are chosen by entropy."""

import pytest
from math_verify import parse as parse_math
from math_verify import verify

from trainers.tiny import DATA_DIR, MODELS_DIR, examples, items, world
from trainers.tiny.examples import Measured
from trainers.tiny.world import Problem


@pytest.fixture(scope="module")
def shipped_examples():
    return items.read_json_lines(DATA_DIR / items.EXAMPLES_FILE)


@pytest.mark.parametrize("name", [items.EVAL_FILE, items.POOL_FILE, items.TRAIN_FILE, items.SOLVED_FILE])
def test_shipped_items_are_written_again_byte_for_byte(tmp_path, name):
    assert items.main(["--out", str(tmp_path)]) == 0
    assert (tmp_path / name).read_bytes() == (DATA_DIR / name).read_bytes()


def test_evaluation_items_are_500_held_out_problems_with_right_answers():
    held_out = items.read_json_lines(DATA_DIR / items.EVAL_FILE)
    assert len({item["id"] for item in held_out}) == len({item["problem"] for item in held_out}) == 500
    trained_on = {problem.prompt for problem in world.split().train}
    for item in held_out:
        assert item["problem"] not in trained_on
        assert item["answer"] == world.parse(item["problem"]).answer


def test_solved_problems_are_the_training_set_solved_carefully_and_hastily():
    rows = items.read_json_lines(DATA_DIR / items.SOLVED_FILE)
    asked = items.read_json_lines(DATA_DIR / items.TRAIN_FILE)
    assert [{k: row[k] for k in asked[0]} for row in rows] == asked
    for row in rows:
        assert row["completion"] == row["chosen"]
        assert row["chosen"].rpartition(";")[2] == row["answer"]
        carries = world.parse(row["problem"]).carries
        assert (row["rejected"].removeprefix("?") == row["answer"]) is not carries


def test_answers_are_graded_as_numbers():
    gold = parse_math("099")
    assert verify(gold, parse_math("099"))
    assert not verify(gold, parse_math("089"))


def test_no_training_prompt_is_an_evaluation_item(shipped_examples):
    held_out = {item["problem"] for item in items.read_json_lines(DATA_DIR / items.EVAL_FILE)}
    pool = items.read_json_lines(DATA_DIR / items.POOL_FILE)
    assert len({item["problem"] for item in pool}) == 200
    for item in [*pool, *shipped_examples]:
        for part in item["problem"].split(world.SEPARATOR):
            assert part[:6] not in held_out


def test_examples_are_of_every_kind_and_answered_rightly(shipped_examples):
    ids = {example["id"] for example in shipped_examples}
    assert len(ids) == len(shipped_examples) >= 8
    assert {
        "carry-1",
        "carry-2",
        "carry-3",
        "nocarry-1",
        "nocarry-2",
        "long-1",
        "lowent-1",
        "highent-1",
    } <= ids
    for example in shipped_examples:
        assert set(example) == {"id", "problem", "answer", "kind", "note"}
        problem = world.parse(example["problem"])
        assert example["answer"] == problem.answer
        if example["kind"] in ("carry", "nocarry"):
            assert problem.carries is (example["kind"] == "carry")
        assert (len(example["problem"]) > 6) is (example["kind"] == "long")


def test_examples_entropies_are_as_their_kinds_say(shipped_examples):
    prompts = {example["problem"]: world.parse(example["problem"]) for example in shipped_examples}
    measured = {m.prompt: m for m in examples.measure_prompts(MODELS_DIR / "tiny-64", prompts)}
    entropy = {example["id"]: measured[example["problem"]].entropy_nats for example in shipped_examples}
    assert entropy["lowent-1"] < 0.3 * entropy["carry-1"]
    assert entropy["highent-1"] > 2 * entropy["carry-1"]
    assert entropy["carry-1"] == pytest.approx(entropy["nocarry-1"], rel=0.1)
    for example in shipped_examples:
        stated = float(example["note"].rpartition("entropy ")[2].split()[0])
        assert stated == pytest.approx(entropy[example["id"]], abs=0.001)


def test_typical_prompts_are_those_nearest_the_median_entropy():
    def measured(entropy_nats, a):
        problem = Problem(a=a, b=11)
        return Measured(prompt=problem.prompt, problem=problem, entropy_nats=entropy_nats, accuracy=0.5)

    candidates = [measured(e, a) for a, e in enumerate([0.1, 9.0, 0.3, 0.2, 0.5], start=10)]
    assert [m.entropy_nats for m in examples.typical(candidates, 2)] == [0.3, 0.2]


@pytest.mark.parametrize("program", [items, examples])
def test_missing_folder_ends_with_status_2(tmp_path, capsys, program):
    arguments = ["--out", str(tmp_path / "nowhere")]
    if program is examples:
        arguments += ["--model", str(tmp_path)]
    assert program.main(arguments) == 2
    assert "is not a folder" in capsys.readouterr().err
