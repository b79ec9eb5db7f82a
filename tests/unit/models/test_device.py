"""Devices and precisions by name."""

from typing import cast

import pytest
import torch

from slideloom.errors import SettingsError
from slideloom.models.device import Precision, choose_device, choose_dtype, leaves_cores


def test_cpu_by_name() -> None:
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(("gpus", "device"), [(0, "cpu"), (2, "cuda:0")])
def test_auto_takes_a_gpu_where_there_is_one(
    gpus: int, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    assert choose_device("auto") == torch.device(device)


@pytest.mark.parametrize("name", ["cuda:2", "cuda:7"])
def test_missing_gpu_says_how_many_there_are(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(SettingsError, match=f"{name}.*torch sees 2 CUDA GPUs: use auto or cpu"):
        choose_device(name)


@pytest.mark.parametrize("name", ["gpu", "", "meta", "cpu:x"])
def test_unknown_device(name: str) -> None:
    with pytest.raises(SettingsError, match="use auto, cpu or cuda:0"):
        choose_device(name)


@pytest.mark.parametrize("native", [False, True])
def test_auto_uses_bfloat16_only_where_the_processor_has_it(
    native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    wanted = torch.bfloat16 if native else torch.float32
    assert choose_dtype("auto", torch.device("cpu")) is wanted


@pytest.mark.parametrize(
    ("capability", "wanted"), [((7, 5), torch.float16), ((8, 0), torch.bfloat16)]
)
def test_auto_on_a_gpu(
    capability: tuple[int, int], wanted: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert choose_dtype("auto", torch.device("cuda:0")) is wanted


def test_precision_by_name() -> None:
    cpu = torch.device("cpu")
    assert choose_dtype("float32", cpu) is torch.float32
    assert choose_dtype("bfloat16", cpu) is torch.bfloat16
    with pytest.raises(SettingsError, match="'half': choose one of auto, float32, bfloat16"):
        choose_dtype(cast("Precision", "half"), cpu)


@pytest.mark.parametrize(
    ("name", "threads", "leaves"), [("cpu", 1, True), ("cpu", 2, False), ("cuda", 1, False)]
)
def test_a_pass_leaves_cores_where_it_has_one_thread(name: str, threads: int, leaves: bool) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert leaves_cores(torch.device(name)) is leaves
    finally:
        torch.set_num_threads(before)
