from collections.abc import Collection

import pytest

from slideloom.errors import SettingsError
from slideloom.workflows.training.samples import Sample
from slideloom.workflows.training.split import SampleSplit, split_samples
from tests.makers.training_images import make_sample


def cases(count: int, *, images: int) -> list[Sample]:
    return [make_sample(f"{k}-{n}", case=f"case {k}") for k in range(count) for n in range(images)]


def split(
    samples: list[Sample], classes: list[Collection[str]] | None = None, *, seed: int = 0
) -> SampleSplit:
    return split_samples(samples, classes or [["a"]] * len(samples), seed=seed)


def test_given_splits_are_kept() -> None:
    given = [make_sample("a", split="test"), make_sample("b", split="validation")]
    given += [make_sample("c", split="train"), make_sample("d")]
    found = split(given)
    assert (found.train, found.validation, found.test) == ((2, 3), (1,), (0,))
    assert found.notices == ()


def test_test_images_are_never_touched() -> None:
    given = [make_sample(f"t{k}", split="test") for k in range(8)]
    given += [make_sample(f"{k}", split="train") for k in range(10)]
    found = split(given)
    assert found.test == tuple(range(8))
    assert set(found.train) | set(found.validation) == set(range(8, 18))
    assert len(found.validation) == 2


def test_a_fifth_goes_to_validation_whole_cases_together() -> None:
    samples = cases(30, images=4)
    found = split(samples)
    assert len(found.validation) == 24
    train = {samples[k].case for k in found.train}
    validation = {samples[k].case for k in found.validation}
    assert not train & validation
    assert sorted(found.train + found.validation) == list(range(120))


def test_the_seed_decides() -> None:
    samples = cases(30, images=2)
    assert split(samples, seed=4) == split(samples, seed=4)
    assert len({split(samples, seed=seed).validation for seed in range(8)}) == 8


def test_the_order_of_images_does_not_decide() -> None:
    samples = cases(12, images=1)
    there = {samples[k].case for k in split(samples).validation}
    back = samples[::-1]
    assert {back[k].case for k in split(back).validation} == there


@pytest.mark.parametrize("seed", range(5))
def test_every_class_gets_its_fifth(seed: int) -> None:
    samples = cases(100, images=1)
    classes: list[Collection[str]] = [
        ["often"] + ["seldom"] * (k % 4 == 0) + ["rare"] * (k % 20 == 0) for k in range(100)
    ]
    found = split(samples, classes, seed=seed)
    counts = {
        name: sum(name in classes[k] for k in found.validation)
        for name in ("often", "seldom", "rare")
    }
    assert counts == {"often": 20, "seldom": 5, "rare": 1}


def test_the_last_case_of_a_class_stays_in_training() -> None:
    samples = cases(5, images=1)
    classes: list[Collection[str]] = [["a", "b"], ["a"], ["a", "c"], ["a", "d"], ["a", "e"]]
    for seed in range(5):
        assert split(samples, classes, seed=seed).validation == (1,)


def test_two_images_give_one_each() -> None:
    found = split(cases(2, images=1))
    assert len(found.train) == len(found.validation) == 1
    assert found.train != found.validation


def test_one_image_serves_both_and_that_is_said() -> None:
    found = split(cases(1, images=1))
    assert found.train == found.validation == (0,)
    assert "too good" in found.notices[0]


def test_images_of_one_case_are_split_and_that_is_said() -> None:
    found = split(cases(1, images=10))
    assert len(found.validation) == 2
    assert not set(found.train) & set(found.validation)
    assert "nothing of other cases" in found.notices[0]


def test_where_no_case_can_be_spared_all_serve_both() -> None:
    found = split(cases(2, images=1), [["a"], ["b"]])
    assert found.train == found.validation == (0, 1)
    assert "no case can be spared" in found.notices[0]


def test_a_case_in_two_given_splits_is_said() -> None:
    given = [make_sample("a", case="p", split="test"), make_sample("b", case="p")]
    given += [make_sample("c", case="q"), make_sample("d", case="r")]
    found = split(given)
    assert "'p'" in found.notices[0]


def test_nothing_to_train_on_is_an_error() -> None:
    with pytest.raises(SettingsError, match="no image is left to train on"):
        split([make_sample("a", split="test")])
