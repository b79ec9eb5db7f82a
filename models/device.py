"""Where a network runs, and with which precision."""

from __future__ import annotations

from typing import Literal, get_args

import torch

from slideloom.errors import SettingsError

__all__ = ["Precision", "choose_device", "choose_dtype", "leaves_cores"]

Precision = Literal["auto", "float32", "bfloat16"]


def choose_device(name: str) -> torch.device:
    """The torch device for `auto` (the first GPU, else the CPU), `cpu`, `cuda` or `cuda:N`.

    Raises:
        SettingsError: The name is none of these, or this machine has no such GPU.
    """
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        msg = f"there is no device {name!r}: use auto, cpu or cuda:0"
        raise SettingsError(msg) from error
    if device.type not in ("cpu", "cuda"):
        msg = f"device {name!r} is not supported: use auto, cpu or cuda:0"
        raise SettingsError(msg)
    gpus = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= gpus:
        msg = f"device {name!r} was asked for, and torch sees {gpus} CUDA GPUs: use auto or cpu"
        raise SettingsError(msg)
    return device


def choose_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The type in which convolutions run under autocast; float32 means no autocast.

    `auto` takes 16 bits only where the hardware computes in them: bfloat16 on newer GPUs and on
    processors with AVX512-BF16 or AMX, float16 on older GPUs, float32 on older processors (which
    only emulate bfloat16, at a loss).

    Raises:
        SettingsError: The precision is unknown.
    """
    if precision not in get_args(Precision):
        known = ", ".join(get_args(Precision))
        msg = f"there is no precision {precision!r}: choose one of {known}"
        raise SettingsError(msg)
    if precision == "auto":
        return _native_dtype(device)
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def _native_dtype(device: torch.device) -> torch.dtype:
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
        return torch.bfloat16 if native else torch.float16
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native else torch.float32


def leaves_cores(device: torch.device) -> bool:
    """Whether a forward pass leaves cores to others: on a processor, with one thread of torch."""
    return device.type == "cpu" and torch.get_num_threads() == 1
