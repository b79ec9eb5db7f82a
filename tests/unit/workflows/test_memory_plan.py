"""Plans under a ceiling of memory: they fit, keep what was given, and stay the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slideloom.errors import SettingsError
from slideloom.models.catalog import list_models
from slideloom.models.spec import Decode, ModelClass, ModelSpec, Normalisation, Task
from slideloom.workflows.config import RunConfig
from slideloom.workflows.memory_plan import (
    REGIONS_PX,
    estimate_memory,
    fitted,
    parse_memory,
    plan_memory,
)
from slideloom.wsi import Slide, open_slide
from tests.makers.sparse_slide import write_sparse_slide

MB = 10**6


def spec(*, task: Task = "semantic", tile_px: int = 512, classes: int = 1) -> ModelSpec:
    return ModelSpec(
        name="any",
        task=task,
        architecture=None,
        classes=tuple(ModelClass(name=f"{n}", color=(n, 0, 0)) for n in range(classes)),
        mpp=0.25,
        tile_px=tile_px,
        halo_px=32,
        normalisation=Normalisation(mean=(0, 0, 0), std=(1, 1, 1)),
        decode=Decode(name="boxes" if task == "detection" else "distance"),
        licence="none",
        training_data="none",
    )


def config(**chosen: Any) -> RunConfig:
    return RunConfig(device="cpu", **chosen)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slide]:
    folder = tmp_path_factory.mktemp("sparse")
    with open_slide(write_sparse_slide(Path(folder, "big.ome.zarr"), cells=[])) as opened:
        yield opened


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GB", 4 * 10**9),
        ("4 gb", 4 * 10**9),
        ("4G", 4 * 10**9),
        ("4GiB", 4 * 2**30),
        ("512M", 512 * 10**6),
        ("512MiB", 512 * 2**20),
        ("0.5TB", 5 * 10**11),
        ("1500000000", 1_500_000_000),
    ],
)
def test_memory_is_a_number_and_a_unit(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "GB", "4 potatoes", "-4GB", "0GB", "4,5GB", "4GB 1MB"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="4GB or 512MiB"):
        parse_memory(text)


@pytest.mark.parametrize("task", ["semantic", "instance", "detection", "classification"])
def test_a_plan_fits_and_uses_what_there_is(slide: Slide, task: Task) -> None:
    wide = plan_memory(spec(task=task), slide, config=config(), limit=64_000 * MB)
    limit = wide.estimate.total - 1
    tight = plan_memory(spec(task=task), slide, config=config(), limit=limit)

    assert tight.estimate.total <= limit
    assert tight.region_px in REGIONS_PX
    assert (wide.region_px, wide.batch_size, wide.workers) == (2048, 4, config().workers)


def test_more_memory_never_plans_smaller_regions(slide: Slide) -> None:
    sides = []
    for limit in range(2500, 9000, 250):
        try:
            plan = plan_memory(spec(classes=30), slide, config=config(), limit=limit * MB)
        except SettingsError:
            continue
        sides.append(plan.region_px)

    assert sides == sorted(sides)
    assert len(set(sides)) > 2


def test_regions_do_not_hang_on_the_machine(slide: Slide, monkeypatch: pytest.MonkeyPatch) -> None:
    plans = []
    for cores in (1, 4, 64):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        plans.append(plan_memory(spec(), slide, config=config(), limit=6000 * MB))

    assert len({plan.region_px for plan in plans}) == 1
    assert plans[-1].workers > plans[0].workers


def test_what_was_given_is_kept(slide: Slide) -> None:
    given = config(workers=3, batch_size=2, region_px=900)
    plan = plan_memory(spec(), slide, config=given, limit=64_000 * MB)

    assert (plan.region_px, plan.batch_size, plan.workers) == (900, 2, 3)
    some = plan_memory(spec(), slide, config=config(workers=7), limit=64_000 * MB)
    assert (some.region_px, some.workers) == (2048, 7)


def test_too_little_is_refused_with_the_least_that_does(slide: Slide) -> None:
    asked = r"needs at least \d+\.\d+ GB .* allows 0\.50 GB"
    with pytest.raises(SettingsError, match=asked) as error:
        plan_memory(spec(), slide, config=config(), limit=500 * MB)

    least = float(str(error.value).split("at least ")[1].split()[0])
    plan_memory(spec(), slide, config=config(), limit=round(least * 1000) * MB)
    with pytest.raises(SettingsError, match="at least"):
        plan_memory(spec(), slide, config=config(), limit=round(least * 1000 - 10) * MB)


def test_a_refusal_names_the_settings_that_were_given(slide: Slide) -> None:
    with pytest.raises(SettingsError, match="leave out workers"):
        plan_memory(spec(), slide, config=config(workers=500), limit=3000 * MB)


def test_an_estimate_grows_with_what_is_set(slide: Slide) -> None:
    def total(model: ModelSpec, **chosen: Any) -> int:
        return estimate_memory(model, slide, config=config(**chosen)).total

    base = total(spec(), workers=2, batch_size=2, region_px=1024)
    assert total(spec(), workers=3, batch_size=2, region_px=1024) > base
    assert total(spec(), workers=2, batch_size=3, region_px=1024) > base
    assert total(spec(), workers=2, batch_size=2, region_px=2048) > base
    assert total(spec(), workers=2, batch_size=2, region_px=1024, probabilities=True) > base
    assert total(spec(task="instance"), workers=2, batch_size=2, region_px=1024) > base


def test_a_region_is_one_tile_at_least(slide: Slide) -> None:
    large = spec(tile_px=4096)
    small, smaller = (
        estimate_memory(large, slide, config=config(region_px=side, workers=2)).total
        for side in (512, 1)
    )

    assert small == smaller


def test_a_network_counts_with_its_batch(slide: Slide) -> None:
    (nuclei,) = (item for item in list_models() if item.name == "nuclei")
    one, four = (
        {part.name: part.size for part in estimate.parts}
        for estimate in (
            estimate_memory(nuclei, slide, config=config(batch_size=count)) for count in (1, 4)
        )
    )

    assert one["network"] == four["network"] > 0
    assert four["forward pass"] > 2 * one["forward pass"]
    assert four["regions in work"] == one["regions in work"]


def test_without_a_ceiling_nothing_is_chosen(slide: Slide) -> None:
    plain = config(max_memory=None)
    assert fitted(plain, spec=spec(), slide=slide) is plain

    bounded = config(max_memory=3000 * MB)
    plan = plan_memory(spec(), slide, config=bounded, limit=3000 * MB)
    chosen = fitted(bounded, spec=spec(), slide=slide)
    assert (chosen.region_px, chosen.workers) == (plan.region_px, plan.workers)
    assert chosen.max_memory == 3000 * MB
