"""Model folders that cannot be used, each made from a good one by one edit.

    python -m tests.benchmarks.bad_folders --json

plans a sweep on each and says which were refused with a message before anything started.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests.benchmarks.figures import print_figures

SOURCE = Path("trainers/tiny/models/tiny-64")
WEIGHTS = "model.safetensors"


def _config(file: str, **changes: object) -> Callable[[Path], None]:
    """Set keys of a JSON file; ``None`` removes one."""

    def edit(folder: Path) -> None:
        path = folder / file
        data = json.loads(path.read_text()) if path.exists() else {}
        data |= changes
        path.write_text(json.dumps({key: value for key, value in data.items() if value is not None}))

    return edit


def _weights(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        save_file(change(dict(tensors)), folder / WEIGHTS, metadata={"format": "pt"})

    return edit


def _file(name: str, content: bytes | None) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        if content is not None:
            (folder / name).write_bytes(content)

    return edit


def _all(*edits: Callable[[Path], None]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        for one in edits:
            one(folder)

    return edit


def _cut(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) // 2])


def _flip_header(folder: Path) -> None:
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[20] ^= 0x80
    (folder / WEIGHTS).write_bytes(data)


def _index(weight_map: dict[str, str]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))

    return edit


def _retype(key: str, dtype: str) -> Callable[[Path], None]:
    """Say in the header that a tensor is of another type."""

    def edit(folder: Path) -> None:
        data = (folder / WEIGHTS).read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        header[key]["dtype"] = dtype
        text = json.dumps(header).encode()
        (folder / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])

    return edit


def _outside(folder: Path) -> None:
    shutil.copy(folder / WEIGHTS, folder.parent / "outside.safetensors")
    keys = load_file(folder / WEIGHTS).keys()
    _index(dict.fromkeys(keys, "../outside.safetensors"))(folder)


def _tokens_beyond(folder: Path) -> None:
    path = folder / "config.json"
    data = json.loads(path.read_text())
    rows = 8
    path.write_text(json.dumps(data | {"vocab_size": rows, "eos_token_id": 1, "bos_token_id": None}))
    _config("generation_config.json", eos_token_id=1)(folder)
    _weights(
        lambda t: {k: (v[:rows].clone() if "embed" in k or "lm_head" in k else v) for k, v in t.items()}
    )(folder)


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"
TEMPLATE_REFUSES_SYSTEM = (
    b"{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    b"{{ messages[0]['content'] }}"
)
NO_EOS = _all(
    _config("generation_config.json", eos_token_id=None),
    _config("config.json", eos_token_id=None),
    _config("tokenizer_config.json", eos_token=None),
    _config("special_tokens_map.json", eos_token=None),
)

KINDS: dict[str, Callable[[Path], None]] = {
    "a layer's weights missing": _weights(lambda t: {k: v for k, v in t.items() if ".layers.1." not in k}),
    "one norm missing": _weights(lambda t: {k: v for k, v in t.items() if k != "model.norm.weight"}),
    "one bias missing": _weights(
        lambda t: {k: v for k, v in t.items() if k != "model.layers.0.self_attn.q_proj.bias"}
    ),
    "embeddings missing": _weights(lambda t: {k: v for k, v in t.items() if "embed_tokens" not in k}),
    "an untied head missing": _config("config.json", tie_word_embeddings=False),
    "keys of another model": _weights(lambda t: {f"transformer.h.{k}": v for k, v in t.items()}),
    "keys renamed in one layer": _weights(
        lambda t: {k.replace("layers.0.mlp", "layers.0.ffn"): v for k, v in t.items()}
    ),
    "half the keys with a prefix": _weights(
        lambda t: {(f"module.{k}" if i % 2 else k): v for i, (k, v) in enumerate(t.items())}
    ),
    "a wider configuration": _config("config.json", hidden_size=128),
    "one layer more": _config("config.json", num_hidden_layers=3, layer_types=None),
    "a larger vocabulary": _config("config.json", vocab_size=64),
    "a wider feed-forward": _config("config.json", intermediate_size=999),
    "no weights": _file(WEIGHTS, None),
    "a pickle instead of safetensors": _all(_file(WEIGHTS, None), _file("pytorch_model.bin", b"PK\x03\x04")),
    "a git-lfs pointer": _file(WEIGHTS, LFS),
    "weights cut off": _cut,
    "a damaged header": _flip_header,
    "empty weights": _file(WEIGHTS, b""),
    "an index that names a missing shard": _index({"model.norm.weight": "model-00001-of-00002.safetensors"}),
    "an index that names a shard outside": _outside,
    "an index that is no JSON": _file(f"{WEIGHTS}.index.json", b"{"),
    "no configuration": _file("config.json", None),
    "a configuration that is no JSON": _file("config.json", b"{"),
    "an unknown architecture": _config("config.json", model_type="nonesuch"),
    "an encoder": _config("config.json", model_type="vit", architectures=["ViTModel"]),
    "no tokenizer": _all(
        *(_file(n, None) for n in ("tokenizer.json", "tokenizer_config.json", "vocab.json"))
    ),
    "a tokenizer that is no JSON": _file("tokenizer.json", b"{"),
    "a template that refuses a system message": _file("chat_template.jinja", TEMPLATE_REFUSES_SYSTEM),
    "a template that is no template": _file("chat_template.jinja", b"{% if %}"),
    "end of sequence as text": _config("generation_config.json", eos_token_id="</s>"),
    "end of sequence outside the vocabulary": _config("generation_config.json", eos_token_id=[10_000_000]),
    "a negative end of sequence": _config("generation_config.json", eos_token_id=-1),
    "no end of sequence": NO_EOS,
    "token ids beyond the embeddings": _tokens_beyond,
    "codes of eight bits": _weights(lambda t: {k: v.to(torch.int8) for k, v in t.items()}),
    "codes of eight-bit floats": _weights(lambda t: {k: v.to(torch.float8_e4m3fn) for k, v in t.items()}),
    "a quantised configuration": _config(
        "config.json", quantization_config={"quant_method": "gptq", "bits": 4}
    ),
    "fewer layers than are stored": _config(
        "config.json", num_hidden_layers=1, layer_types=["full_attention"]
    ),
    "a configuration of another family": _config("config.json", model_type="llama"),
    "a classifier": _config("config.json", architectures=["Qwen2ForSequenceClassification"]),
    "an end of sequence that is an empty list": _config("generation_config.json", eos_token_id=[]),
    "generation settings that are no JSON": _file("generation_config.json", b"{"),
    "generation settings that are a list": _file("generation_config.json", b"[2]"),
    "a header of another type": _retype("model.norm.weight", "F16"),
    "an adapter without its weights": _file("adapter_config.json", b'{"peft_type": "LORA"}'),
    "an empty template": _file("chat_template.jinja", b""),
    "a template that leaves the question out": _file("chat_template.jinja", b"1+1="),
    "a template that leaves the system message out": _file(
        "chat_template.jinja", b"{{ messages[-1]['content'] }}"
    ),
    "fewer positions than prompt and answer need": _config("config.json", max_position_embeddings=8),
}
"""Edits after which a folder must be refused, by what is wrong."""


def make(folder: Path, kind: str, source: Path = SOURCE) -> Path:
    """A bad folder of one kind."""
    target = folder / kind.replace(" ", "-").replace("'", "")
    shutil.copytree(source, target, symlinks=False)
    KINDS[kind](target)
    return target


def words(folder: Path) -> list[str]:
    """What plans a small sweep on a model folder, with a system message as the shipped benchmarks have it."""
    return [
        "sweep=quickstart",
        "model=hf",
        f"model.path={folder}",
        "example=carry-1",
        "optim.lr=1e-4",
        "seed=0",
        "eval.system=Answer.",
    ]


def measure() -> dict[str, object]:
    """Plan a sweep on every kind of folder."""
    from orchestrator.planning.make_plan import make_plan
    from sweeps.spec.errors import UserError

    planned, tracebacks, messages = [], [], {}
    with tempfile.TemporaryDirectory() as root:
        for kind in KINDS:
            try:
                make_plan(words(make(Path(root), kind)))
            except UserError as error:
                messages[kind] = str(error)
            except Exception as error:  # what the measurement counts
                tracebacks.append(f"{kind}: {type(error).__name__}: {error}")
            else:
                planned.append(kind)
    return {
        "bad_folders": len(KINDS),
        "bad_folders_refused": len(messages),
        "planned": planned,
        "tracebacks": tracebacks,
        "messages": messages,
    }


def main() -> None:
    """Print the measurement."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.bad_folders")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = measure()
    print_figures(figures, as_json=options.json)


if __name__ == "__main__":
    main()
