"""What a process computes with besides a run's own engine: the functions and switches of torch.

Libraries replace functions for the whole process (DeepSpeed's ZeRO-3 would put another
``torch.nn.functional.linear`` in place and leave it there) and set switches. A later run of the same worker
would then have other bits than in a fresh process. So a worker remembers both as they are before its first
run (:func:`ready`) and puts them back before every run, when the run's engine stands.

Owns no files. What a result says of its process, :func:`unusual`, is how ``replay`` can name a cause.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Switch:
    """A setting of the process that changes the bits of a result."""

    usual: Any
    """What torch starts with."""
    read: Callable[[], Any]
    write: Callable[[Any], object]


def _flushes_denormals() -> bool:
    """Torch has no word for it: a number below the normal ones is halved."""
    return float(torch.tensor(1e-39, dtype=torch.float32, device="cpu") * 0.5) == 0.0


_HOST = torch.device("cpu")


def _write_default_device(value: torch.device) -> None:
    """Where it was never set, nothing intercepts the making of tensors."""
    torch.set_default_device(None if value == _HOST else value)


def _write_deterministic(value: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(value[0], warn_only=value[1])


_PRECISIONS = (torch.backends, torch.backends.cuda.matmul, cast(Any, torch.backends.mkldnn).matmul)
"""Whose ``fp32_precision`` says how float32 matrices are multiplied: in general, by CUDA, by oneDNN."""


def _matmul_precision() -> tuple[str, ...]:
    return tuple(owner.fp32_precision for owner in _PRECISIONS)


def _write_matmul_precision(value: tuple[str, ...]) -> None:
    """Torch refuses to read its older word for this, which transformers does, where the two disagree."""
    _, cuda, onednn = value
    older = "medium" if onednn == "bf16" else "high" if cuda == "tf32" else "highest"
    torch.set_float32_matmul_precision(older)
    for owner, precision in zip(_PRECISIONS, value, strict=True):
        owner.fp32_precision = precision


def _attribute(owner: Any, name: str, usual: Any) -> Switch:
    return Switch(
        usual=usual, read=lambda: getattr(owner, name), write=lambda value: setattr(owner, name, value)
    )


SWITCHES: Mapping[str, Switch] = {
    "default_dtype": Switch(usual=torch.float32, read=torch.get_default_dtype, write=torch.set_default_dtype),
    "default_device": Switch(usual=_HOST, read=torch.get_default_device, write=_write_default_device),
    "gradients": Switch(usual=True, read=torch.is_grad_enabled, write=torch.set_grad_enabled),
    "threads": Switch(usual=1, read=torch.get_num_threads, write=torch.set_num_threads),
    "deterministic": Switch(
        usual=(False, False),
        read=lambda: (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        write=_write_deterministic,
    ),
    "flush_denormal": Switch(usual=False, read=_flushes_denormals, write=torch.set_flush_denormal),
    "matmul_precision": Switch(
        usual=("none", "none", "none"), read=_matmul_precision, write=_write_matmul_precision
    ),
    "autocast_cpu": Switch(
        usual=False,
        read=lambda: torch.is_autocast_enabled("cpu"),
        write=lambda value: torch.set_autocast_enabled("cpu", value),
    ),
    "autocast_cuda": Switch(
        usual=False,
        read=lambda: torch.is_autocast_enabled("cuda"),
        write=lambda value: torch.set_autocast_enabled("cuda", value),
    ),
    "flash_attention": Switch(
        usual=True,
        read=torch.backends.cuda.flash_sdp_enabled,
        write=torch.backends.cuda.enable_flash_sdp,
    ),
    "memory_efficient_attention": Switch(
        usual=True,
        read=torch.backends.cuda.mem_efficient_sdp_enabled,
        write=torch.backends.cuda.enable_mem_efficient_sdp,
    ),
    "math_attention": Switch(
        usual=True, read=torch.backends.cuda.math_sdp_enabled, write=torch.backends.cuda.enable_math_sdp
    ),
    "cudnn_attention": Switch(
        usual=True, read=torch.backends.cuda.cudnn_sdp_enabled, write=torch.backends.cuda.enable_cudnn_sdp
    ),
    "math_attention_in_half": Switch(
        usual=False,
        read=torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed,
        write=torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp,
    ),
    "onednn": Switch(usual=True, read=torch._C._get_mkldnn_enabled, write=torch._C._set_mkldnn_enabled),
    "onednn_deterministic": Switch(
        usual=False, read=torch._C._get_mkldnn_deterministic, write=torch._C._set_mkldnn_deterministic
    ),
    "cudnn": _attribute(torch.backends.cudnn, "enabled", True),
    "cudnn_benchmark": _attribute(torch.backends.cudnn, "benchmark", False),
    "cudnn_deterministic": _attribute(torch.backends.cudnn, "deterministic", False),
    "half_in_half": _attribute(torch.backends.cuda.matmul, "allow_fp16_accumulation", False),
    "half_sums_in_half": _attribute(
        torch.backends.cuda.matmul, "allow_fp16_reduced_precision_reduction", True
    ),
    "bfloat16_sums_in_bfloat16": _attribute(
        torch.backends.cuda.matmul, "allow_bf16_reduced_precision_reduction", True
    ),
}
"""By the name that a result's layout gives it."""

_KERNELS_BY_ENVIRONMENT = (
    *("ATEN_CPU_CAPABILITY", "CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE"),
    *("MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"),
    *("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"),
    *("NCCL_ALGO", "NCCL_PROTO"),
)
"""Environment variables by which libraries choose kernels, most of them when they load."""


def _namespaces() -> Iterator[tuple[str, Any]]:
    """Where torch's functions are looked up: modules, and classes with their methods."""
    yield "torch", torch
    yield "torch.nn.functional", torch.nn.functional
    yield "torch.nn.init", torch.nn.init
    yield "torch.linalg", torch.linalg
    yield "torch.Tensor", torch.Tensor
    for name, value in vars(torch.nn).items():
        if isinstance(value, type):
            yield f"torch.nn.{name}", value


@cache
def ready() -> ProcessState:
    """Settle at the first call what every run of this process computes with, and remember it."""
    # One intra-op thread: sums are then added up in one order, and runs fill the machine's cores instead.
    torch.set_num_threads(1)
    if torch.cuda.is_available():
        # CUDA is to add up in one order, where it can: some backward kernels use atomics otherwise.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    return ProcessState()


class ProcessState:
    """Torch's functions and switches as they were when this was made."""

    def __init__(self) -> None:
        self._switches = {name: switch.read() for name, switch in SWITCHES.items()}
        self._functions = [
            (where, owner, {k: v for k, v in vars(owner).items() if _is_function(v)})
            for where, owner in _namespaces()
        ]
        self._noise = torch.get_rng_state()
        self._noise_on_gpu = torch.cuda.get_rng_state() if torch.cuda.is_available() else None

    def restore(self) -> list[str]:
        """Put everything back; return the names of what had changed."""
        changed = []
        for where, owner, functions in self._functions:
            now = dict(vars(owner))
            for name, function in functions.items():
                if now.get(name) is not function and not _is_torchs_own(now.get(name)):
                    setattr(owner, name, function)
                    changed.append(f"{where}.{name}")
            for name in now.keys() - functions.keys():
                if _is_function(now[name]) and _overrides(owner, name) and not _is_torchs_own(now[name]):
                    delattr(owner, name)
                    changed.append(f"{where}.{name}")
        for name, value in self._switches.items():
            if SWITCHES[name].read() != value:
                SWITCHES[name].write(value)
                changed.append(name)
        torch.set_rng_state(self._noise)
        if self._noise_on_gpu is not None:
            torch.cuda.set_rng_state(self._noise_on_gpu)
        if changed:
            _LOG.warning("put back what changed in this process: %s", ", ".join(changed))
        return changed


def unusual() -> dict[str, str]:
    """Switches, and environment variables that choose kernels, which are not as torch starts; by name."""
    told = {name: str(s.read()) for name, s in SWITCHES.items() if s.read() != s.usual}
    return told | {name: os.environ[name] for name in _KERNELS_BY_ENVIRONMENT if name in os.environ}


def _is_function(value: Any) -> bool:
    is_callable = callable(value) and not isinstance(value, type)
    return is_callable or isinstance(value, classmethod | staticmethod | property)


def _overrides(owner: Any, name: str) -> bool:
    """Whether a class has another value of its own for what it would inherit."""
    above = owner.__mro__[1:] if isinstance(owner, type) else ()
    inherited = [vars(base)[name] for base in above if name in vars(base)]
    return bool(inherited) and inherited[0] is not vars(owner)[name]


_TORCH_FOLDER = str(Path(torch.__file__).parent)


def _is_torchs_own(function: Any) -> bool:
    """Whether torch itself put it there, as its compiler wraps ``torch.manual_seed`` at its first import."""
    code = getattr(function, "__code__", None)
    return code is not None and code.co_filename.startswith(_TORCH_FOLDER)
