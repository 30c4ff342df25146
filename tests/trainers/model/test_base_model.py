"""What is read of a model folder beside its weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from sweeps.spec import SpecError
from tests.trainers.worlds import package_file, tiny_spec
from trainers.model.base_model import generation_top_k
from trainers.protocol import RunContext


@pytest.mark.parametrize(
    ("written", "top_k"), [({"top_k": 20}, 20), ({"top_k": None}, 0), ({"top_k": 0}, 0), ({}, 50), (None, 50)]
)
def test_top_k_of_a_model_is_what_generate_would_take(tmp_path, written, top_k):
    if written is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(written))
    assert generation_top_k(tmp_path) == top_k


@pytest.mark.parametrize("value", ["50", -1, 2.5, True])
def test_a_top_k_that_is_no_number_of_tokens_is_refused_with_its_file(tmp_path, value):
    (tmp_path / "generation_config.json").write_text(json.dumps({"top_k": value}))
    with pytest.raises(SpecError, match=r"generation_config\.json: top_k=.*must be a number of tokens"):
        generation_top_k(tmp_path)


def test_rollouts_keep_as_many_tokens_as_the_model_says(trainer, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(package_file("trainers/tiny/models/tiny-64"), folder)
    path = folder / "generation_config.json"
    settings = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(settings | {"top_k": 1}))

    def num_distinct(top_k: int | str) -> int:
        spec = tiny_spec(
            steps=1,
            model={"path": str(folder)},
            sampling={"top_k": top_k, "temperature": 2.0},
            eval={"path": None},
        )
        [row] = trainer.run(spec, RunContext()).to_json()["steps"]
        return row["num_distinct"]

    assert num_distinct("model") == 1
    assert num_distinct(0) > 10


def test_the_published_sampling_takes_the_models_own_top_k():
    written = yaml.safe_load(package_file("sweeps/conf/sampling/paper.yaml").read_text())
    assert written["top_k"] == "model"
    assert Path(package_file("sweeps/conf/sampling/tiny.yaml")).read_text().count("top_k") == 0
