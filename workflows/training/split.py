"""Split samples into training, validation and test by case, never by tile."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slideloom.errors import SettingsError
from slideloom.workflows.training.samples import Sample

__all__ = ["SampleSplit", "split_samples"]

SHARE = 0.2
"""Of the images that are not given a split, how many go to validation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSplit:
    """Places in the sequence of samples, ascending, and what the user should know.

    Attributes:
        train: To learn from.
        validation: To choose the epoch and the thresholds by. The same as `train` where there is
            nothing to spare.
        test: Never touched by training.
        notices: Sentences for the user.
    """

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]
    notices: tuple[str, ...]


def split_samples(
    samples: Sequence[Sample], classes: Sequence[Collection[str]], *, seed: int
) -> SampleSplit:
    """Keep the splits that are given, and choose a validation split where there is none.

    About a fifth of the images go to validation, at least one case, whole cases together. Cases
    are taken one by one, each time the one that brings the shares of the classes and of the images
    nearest to a fifth, and the last case of a class stays in training. Where all images are of one
    case, images are split; where no case or image can be spared, validation is on the training
    images. A notice tells of both, and of cases that the given splits share.

    Args:
        samples: All samples.
        classes: Names of the classes that each sample shows.
        seed: The same seed gives the same split.

    Raises:
        SettingsError: Every sample is for validation or test.
    """
    given = [sample.split for sample in samples]
    test = tuple(k for k, split in enumerate(given) if split == "test")
    validation = tuple(k for k, split in enumerate(given) if split == "validation")
    rest = [k for k, split in enumerate(given) if split in ("train", None)]
    if not rest:
        msg = "no image is left to train on: give some the split 'train'"
        raise SettingsError(msg)
    notices = _leaks(samples)
    if not validation:
        groups = _grouped(samples, rest)
        if len(groups) == 1:
            groups = [[k] for k in rest]
            if len(rest) > 1:
                notices.append(_ONE_CASE)
        validation = _choose(groups, classes, seed=seed)
        if not validation:
            notices.append(_NOTHING_TO_SPARE)
    train = tuple(k for k in rest if k not in set(validation))
    return SampleSplit(
        train=train,
        validation=validation or train,
        test=test,
        notices=tuple(notices),
    )


_ONE_CASE = (
    "all images are of one case: validation is on other images of that case, and its scores say "
    "nothing of other cases"
)
_NOTHING_TO_SPARE = (
    "no case can be spared for validation: validation is on the training images, and its scores "
    "are too good; annotate more cases"
)


def _grouped(samples: Sequence[Sample], places: Sequence[int]) -> list[list[int]]:
    """Places by case, in the order of the cases' names."""
    groups: dict[str, list[int]] = {}
    for k in places:
        groups.setdefault(samples[k].case, []).append(k)
    return [groups[case] for case in sorted(groups)]


def _choose(
    groups: Sequence[Sequence[int]], classes: Sequence[Collection[str]], *, seed: int
) -> tuple[int, ...]:
    """Places for validation; none where every group holds the last images of a class."""
    order = np.random.default_rng([seed, len(groups)]).permutation(len(groups))
    shuffled = [groups[k] for k in order]
    counts = _counts(shuffled, classes)
    shares = counts / counts.sum(axis=0)
    taken = np.zeros(len(shuffled), np.bool_)
    have = np.zeros(shares.shape[1])
    distance = np.inf
    while True:
        last = (counts[~taken] > 0).sum(axis=0) <= 1
        spare = ~taken & ~(last & (counts > 0)).any(axis=1)
        if not spare.any():
            break
        distances = np.where(spare, ((have + shares - SHARE) ** 2).sum(axis=1), np.inf)
        best = int(distances.argmin())
        if distances[best] >= distance:
            break
        taken[best], have, distance = True, have + shares[best], float(distances[best])
    return tuple(sorted(k for g in np.flatnonzero(taken) for k in shuffled[g]))


def _counts(
    groups: Sequence[Sequence[int]], classes: Sequence[Collection[str]]
) -> NDArray[np.float64]:
    """`(groups, classes + 1)`: images of each group that show each class, and all its images."""
    names = sorted({name for group in groups for k in group for name in classes[k]})
    counts = np.zeros((len(groups), len(names) + 1))
    for row, group in zip(counts, groups, strict=True):
        row[-1] = len(group)
        for k in group:
            row[[names.index(name) for name in set(classes[k])]] += 1
    return counts


def _leaks(samples: Sequence[Sample]) -> list[str]:
    """A sentence where the given splits share a case; what is in none is trained on."""
    splits: dict[str, set[str]] = {}
    for sample in samples:
        splits.setdefault(sample.case, set()).add(sample.split or "train")
    shared = sorted(case for case, found in splits.items() if len(found) > 1)
    if not shared:
        return []
    return [
        f"{len(shared)} cases are in more than one of the given splits, such as '{shared[0]}': "
        "scores on them are too good; keep each case in one split"
    ]
