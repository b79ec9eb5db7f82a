"""Train the built-in model `nuclei`: `python -m benchmarks.train_nuclei --data DIR --out DIR`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset

from benchmarks.train_nuclei_augment import Crop, empty_crop, random_crop
from benchmarks.train_nuclei_data import (
    MPP,
    SYNTHETIC_TRAIN_SEEDS,
    Picture,
    dsb,
    nucls,
    split_dsb,
    synthetic,
)
from benchmarks.train_nuclei_evaluate import (
    by_baseline,
    by_model,
    choose_settings,
    held_out_sets,
    spec_scores,
    table,
)
from slideloom.models.architectures import build_network
from slideloom.models.catalog import read_spec
from slideloom.models.folder import load_model, save_model
from slideloom.models.network import NetworkModel
from slideloom.models.spec import Architecture, Decode, ModelClass, ModelSpec, Normalisation
from slideloom.models.weights import read_network

BATCH = 8
PEAK_RATE = 2e-3
RESTART_RATE = 1e-3
EMA_DECAY = 0.998
SAVE_EVERY = 1000

SPEC = ModelSpec(
    name="nuclei",
    task="instance",
    architecture=Architecture(
        name="Unet",
        encoder="tu-regnetx_004",
        arguments={"encoder_depth": 4, "decoder_channels": (96, 64, 32, 16)},
    ),
    classes=(ModelClass(name="nucleus", color=(57, 255, 20)),),
    mpp=MPP,
    tile_px=512,
    halo_px=32,
    normalisation=Normalisation(mean=(0.70, 0.54, 0.68), std=(0.20, 0.22, 0.18)),
    decode=Decode(name="distance", settings={}),
    licence="Apache-2.0",
    training_data="NuCLS examples (train), DSB 2018 bright-field (85 of 107), made slides",
)


SHARES = {"NuCLS train": 0.46, "DSB train": 0.27, "made slides": 0.17}
"""How much of the crops comes from each training set; the rest shows no nuclei."""


def training_sets(data: Path) -> dict[str, list[Picture]]:
    """The training images by name of their set."""
    return {
        "NuCLS train": nucls(data, "train"),
        "DSB train": split_dsb(dsb(data))[0],
        "made slides": synthetic(SYNTHETIC_TRAIN_SEEDS),
    }


class Crops(IterableDataset[tuple[Tensor, Tensor]]):
    """Endless random crops as `(rgb (3, y, x) uint8, targets (3, y, x) float32)`."""

    def __init__(self, sets: dict[str, list[Picture]], seed: int) -> None:
        self._sets = sets
        self._seed = seed

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Start again from the seed."""
        cv2.setNumThreads(1)
        rng = np.random.default_rng(self._seed)
        while True:
            yield _tensors(self._draw(rng))

    def _draw(self, rng: np.random.Generator) -> Crop:
        chance = rng.random()
        for name, pictures in self._sets.items():
            share = SHARES[name]
            if chance < share:
                return random_crop(rng, pictures[int(rng.integers(len(pictures)))])
            chance -= share
        return empty_crop(rng)


def _tensors(crop: Crop) -> tuple[Tensor, Tensor]:
    targets = np.stack([crop.foreground, crop.distance, crop.weight])
    return torch.from_numpy(crop.rgb).permute(2, 0, 1), torch.from_numpy(targets)


def loss_of(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy and Dice of the foreground, cross-entropy of the distance.

    Args:
        logits: `(n, 2, y, x)`, float32: foreground, distance.
        targets: `(n, 3, y, x)`: foreground, distance, weight per pixel.
    """
    foreground, distance, weight = targets.unbind(1)
    entropy = functional.binary_cross_entropy_with_logits(logits[:, 0], foreground, weight=weight)
    chance = torch.sigmoid(logits[:, 0])
    overlap = (chance * foreground).sum()
    dice = 1 - (2 * overlap + 1) / (chance.sum() + foreground.sum() + 1)
    inner = functional.binary_cross_entropy_with_logits(
        logits[:, 1], distance, weight=weight * (1 + foreground)
    )
    return entropy + dice + inner


class Average:
    """A running mean of a network's weights, which scores better than the last step's."""

    def __init__(self, network: nn.Module) -> None:
        self.network = build_network(SPEC)
        self.network.load_state_dict(network.state_dict())
        self._steps = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move towards the network's present weights; early steps count more."""
        self._steps += 1
        decay = min(EMA_DECAY, self._steps / (self._steps + 10))
        for mean, now in zip(
            self.network.state_dict().values(), network.state_dict().values(), strict=True
        ):
            if mean.is_floating_point():
                mean.lerp_(now, 1 - decay)
            else:
                mean.copy_(now)


def train(data: Path, out: Path, *, steps: int, seed: int, start: Path | None) -> None:
    """Train and save the model folder, now and then and at the end.

    Args:
        data: The shared data.
        out: Model folder to write; a card in it is kept.
        steps: Batches to train on.
        seed: Of the first weights and of the crops.
        start: Model folder whose weights to start from; None for random weights.
    """
    torch.manual_seed(seed)
    network = build_network(SPEC) if start is None else read_network(read_spec(start), start)
    network = network.to(memory_format=torch.channels_last).train()
    average = Average(network)
    rate = PEAK_RATE if start is None else RESTART_RATE
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, rate, total_steps=steps, pct_start=0.1
    )
    crops = DataLoader(
        Crops(training_sets(data), seed),
        batch_size=BATCH,
        num_workers=1,
        multiprocessing_context="spawn",
        prefetch_factor=8,
    )
    mean = torch.tensor(SPEC.normalisation.mean).view(1, 3, 1, 1)
    std = torch.tensor(SPEC.normalisation.std).view(1, 3, 1, 1)
    began, shown = time.monotonic(), 0.0
    for step, (rgb, targets) in zip(range(1, steps + 1), crops, strict=False):
        pixels = ((rgb.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(pixels)
        loss = loss_of(logits.float(), targets)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(network.parameters(), 2.0)
        optimiser.step()
        schedule.step()
        average.update(network)
        shown += (loss.item() - shown) * max(0.02, 1 / step)
        if step % 100 == 0:
            print(f"step {step} loss {shown:.4f} {time.monotonic() - began:.0f} s", flush=True)
        if step % SAVE_EVERY == 0 or step == steps:
            save_model(out, SPEC, module=average.network, card=_card(out), dtype=torch.float16)


def finish(data: Path, out: Path) -> None:
    """Choose the decode settings on training images, and put held-out figures into the spec."""
    model = load_model(out, device="cpu")
    sets = training_sets(data)
    # Their edges are sharper than any tissue's, which favours a threshold too high for the rest.
    del sets["made slides"]
    chosen = choose_settings(model, sets)
    spec = model.spec.model_copy(update={"decode": Decode(name="distance", settings=chosen)})
    model = NetworkModel(spec, model.load(), device="cpu")
    scores = spec_scores(model, held_out_sets(data))
    spec = spec.model_copy(update={"scores": scores})
    save_model(out, spec, module=model.load(), card=_card(out), dtype=torch.float16)


def evaluate(data: Path, folder: Path) -> None:
    """Print the held-out table of the baseline and of the model in a folder."""
    model = load_model(folder, device="cpu")
    print(table(held_out_sets(data), {"Otsu": by_baseline, "nuclei": by_model(model)}))


def _card(out: Path) -> str:
    card = out / "README.md"
    return card.read_text(encoding="utf-8") if card.is_file() else f"# {SPEC.name}\n"


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("models/builtin/nuclei"))
    parser.add_argument("--steps", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="model folder to start from")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--evaluate", action="store_true", help="measure --out, train nothing")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.evaluate:
        evaluate(given.data, given.out)
        return
    train(given.data, given.out, steps=given.steps, seed=given.seed, start=given.start)
    finish(given.data, given.out)


if __name__ == "__main__":
    main()
