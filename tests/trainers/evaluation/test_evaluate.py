from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from sweeps.manifest.row_fields import items_of
from sweeps.spec import EvalSpec, SpecError
from tests.trainers.worlds import tiny_spec
from trainers.decoding import Completion, DecodeRequest
from trainers.decoding.cached import decode_cached
from trainers.engine.gang import Gang
from trainers.evaluation.evaluate import Benchmark, DecodingSetting, settings_of
from trainers.model.base_model import load_base, load_weights, vocabulary_size
from trainers.protocol import WorkerContext

GREEDY, SAMPLED = (
    DecodingSetting(temperature=0.0, num_samples=1),
    DecodingSetting(temperature=1.0, num_samples=3),
)
SHARED_DATA = Path(__file__).parents[4] / "shared" / "data"


@pytest.fixture(scope="module")
def gang() -> Gang:
    return Gang(WorkerContext())


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return load_weights(tiny_spec().model, precision="fp32", attention="sdpa")


@pytest.fixture(scope="module")
def benchmark_() -> Benchmark:
    spec = tiny_spec(eval={"limit": 40})
    return Benchmark(spec.eval, load_base(spec.model))


def test_counts_agree_with_reading_the_completions_by_hand(model, benchmark_, gang):
    drawn: list[Completion] = []

    def decode(request: DecodeRequest) -> list[Completion]:
        drawn.extend(decode_cached(model, request))
        return drawn

    with torch.inference_mode():
        [greedy] = benchmark_.evaluate_by(decode, vocabulary_size(model), [GREEDY], step=0, seed=0, gang=gang)
    tokenizer = load_base(tiny_spec().model).tokenizer
    for item, completion in enumerate(drawn):
        text = tokenizer.decode(completion, skip_special_tokens=True)
        answer = text.replace("?", ";").rsplit(";", 1)[-1]
        assert greedy.correct[item] == (answer.isdigit() and int(answer) == int(benchmark_.items[item].gold))
        assert greedy.tokens[item] == len(completion)
    assert greedy.accuracy == sum(greedy.correct) / 40


def test_samples_of_one_item_differ_and_their_number_is_kept(model, benchmark_, gang):
    with torch.inference_mode():
        [sampled] = benchmark_.evaluate(model, [SAMPLED], step=0, seed=0, gang=gang)
    assert set(Counter(sampled.correct)) <= {0, 1, 2, 3}
    assert any(0 < c < 3 for c in sampled.correct)


def test_the_same_seed_draws_the_same_noise_alone_or_beside_other_settings(model, benchmark_, gang):
    with torch.inference_mode():
        [alone] = benchmark_.evaluate(model, [SAMPLED], step=0, seed=4, gang=gang)
        _, beside = benchmark_.evaluate(model, [GREEDY, SAMPLED], step=0, seed=4, gang=gang)
        [other] = benchmark_.evaluate(model, [SAMPLED], step=0, seed=5, gang=gang)
    assert alone.correct == beside.correct
    assert alone.correct != other.correct


def test_batches_of_items_change_no_verdict(model, gang):
    evaluations = []
    for rows in (512, 16):
        spec = tiny_spec(eval={"limit": 40, "batch_items": rows})
        benchmark = Benchmark(spec.eval, load_base(spec.model))
        with torch.inference_mode():
            evaluations.append(benchmark.evaluate(model, [GREEDY, SAMPLED], step=0, seed=1, gang=gang))
    assert [e.correct for e in evaluations[0]] == [e.correct for e in evaluations[1]]


def test_a_completion_cut_off_by_the_limit_counts_as_truncated(model, gang):
    spec = tiny_spec(eval={"limit": 10, "max_new_tokens": 2})
    [greedy] = Benchmark(spec.eval, load_base(spec.model)).evaluate(
        model, [GREEDY], step=0, seed=0, gang=gang
    )
    assert greedy.truncated == [1] * 10
    assert greedy.tokens == [2] * 10


def test_settings_list_greedy_first_then_every_temperature():
    spec = tiny_spec(eval={"temperatures": [0.6, 1.0], "num_samples": 4}).eval
    assert [(s.mode, s.temperature, s.num_samples) for s in settings_of(spec)] == [
        ("greedy", 0.0, 1),
        ("sampled", 0.6, 4),
        ("sampled", 1.0, 4),
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ['{"problem": "1+1", "answer": "2"}', '{"problem": "2+2"}'],
            r"eval.answer_field='answer': .*\(item 2\) has problem",
        ),
        (['{"problem": "1+1", "answer": "  "}'], r"item 1\): answer='  ': holds no answer but empty text"),
        (['{"problem": "1+1", "answer": "2"}', "not json"], "line 2: is not JSON"),
        ([], "has no rows"),
    ],
)
def test_a_bad_benchmark_file_is_refused_with_its_place(tmp_path, lines, message):
    path = tmp_path / "bench.jsonl"
    path.write_text("\n".join(lines))
    with pytest.raises(SpecError, match=message):
        items_of(EvalSpec(path=str(path)))


def test_whole_numbers_stored_as_floats_are_read_as_whole_numbers(tmp_path):
    path = tmp_path / "amc.jsonl"
    path.write_text(json.dumps({"problem": "?", "answer": 27.0}))
    assert items_of(EvalSpec(path=str(path)))[0].gold == "27"


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="the benchmark files are not beside this checkout")
@pytest.mark.parametrize(
    ("name", "question", "answer", "items"),
    [
        ("math500", "problem", "answer", 500),
        ("amc23", "problem", "answer", 40),
        ("aime24", "problem", "answer", 30),
        ("aime25", "problem", "answer", 30),
    ],
)
def test_real_benchmark_files_load(name, question, answer, items):
    spec = EvalSpec(path=str(SHARED_DATA / f"{name}.jsonl"), question_field=question, answer_field=answer)
    loaded = items_of(spec)
    assert len(loaded) == items
    assert all(item.gold and item.question for item in loaded)


def test_a_benchmark_of_chat_messages_is_the_one_that_its_texts_make(tmp_path):
    spec, base = tiny_spec(eval={"system": "1+1=2;", "limit": 0}), load_base(tiny_spec().model)
    texts, messages = tmp_path / "texts.jsonl", tmp_path / "messages.jsonl"
    asked = [("25+08=", "33"), ("41+86=", "127")]
    texts.write_text("".join(json.dumps({"problem": q, "answer": a}) + "\n" for q, a in asked))
    system = {"role": "system", "content": "1+1=2;"}
    rows = [{"problem": [system, {"role": "user", "content": q}], "answer": a} for q, a in asked]
    messages.write_text("".join(json.dumps(row) + "\n" for row in rows))
    first = Benchmark(dataclasses.replace(spec.eval, path=str(texts), digest=None), base)
    second = Benchmark(dataclasses.replace(spec.eval, path=str(messages), digest=None, system=None), base)
    assert first._prompts == second._prompts
    first.close()
    second.close()
