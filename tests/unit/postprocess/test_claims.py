"""Pixels that several objects claim, against a walk over single pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.measure import label

from slideloom.postprocess.pixels import PixelSets
from slideloom.postprocess.stitching.agreement import SAME
from slideloom.postprocess.stitching.claims import Claims, largest_parts, settle_claims

Masks = NDArray[np.bool_]


def _sets(masks: Masks) -> PixelSets:
    return PixelSets.concat(
        [PixelSets.from_labels(mask.astype(np.int32), count=1, x0=0, y0=0) for mask in masks]
    )


def _masks(pixels: PixelSets, shape: tuple[int, int]) -> Masks:
    out = np.zeros((len(pixels), *shape), np.bool_)
    for i in range(len(pixels)):
        for y, x0, x1 in pixels.runs[pixels.offsets[i] : pixels.offsets[i + 1]]:
            out[i, y, x0:x1] = True
    return out


def _largest(mask: Masks) -> Masks:
    parts = np.asarray(label(mask, connectivity=1))
    if not mask.any():
        return mask
    return np.asarray(parts == 1 + np.argmax(np.bincount(parts.ravel())[1:]))


def _slow(claimed: Masks, owned: Masks, rank: list[int]) -> Masks:
    """Who gets what, one pixel at a time; those that lose most give way at once, then once more."""
    gone: set[int] = set()
    out = claimed.copy()
    for _ in range(2):
        out = np.zeros_like(claimed)
        stay = [i for i in range(len(claimed)) if i not in gone]
        for y, x in np.argwhere(claimed[stay].any(axis=0)).tolist():
            owners = [i for i in stay if owned[i, y, x]]
            claimants = [i for i in stay if claimed[i, y, x]]
            out[owners[0] if owners else min(claimants, key=lambda i: rank[i]), y, x] = True
        for i in stay:
            if out[i].sum() < SAME * claimed[i].sum():
                gone.add(i)
    out[sorted(gone)] = False
    return np.stack(
        [
            mask if (mask == whole).all() else _largest(mask)
            for mask, whole in zip(out, claimed, strict=True)
        ]
    )


@given(st.integers(0, 2**32 - 1))
def test_pixels_are_shared_out_as_one_by_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (12, 14)
    y, x = np.mgrid[:12, :14]
    claimed = np.stack(
        [
            np.hypot(y - rng.integers(12), x - rng.integers(14)) <= rng.uniform(1, 5)
            for _ in range(int(rng.integers(1, 7)))
        ]
    )
    home = rng.integers(0, 3, len(claimed))
    owned = claimed & (home[:, None, None] == x // 5)
    taken = np.zeros(shape, np.bool_)
    for i in range(len(owned)):
        owned[i] &= ~taken
        taken |= owned[i]
    rank = rng.permutation(len(claimed))
    pairs = [
        (i, j)
        for i in range(len(claimed))
        for j in range(i + 1, len(claimed))
        if (claimed[i] & claimed[j]).any()
    ]
    first, second = np.array(pairs, np.int64).reshape(-1, 2).T
    claims = Claims(pixels=_sets(claimed), owned=_sets(owned), rank=rank)
    got = settle_claims(claims, first=first, second=second)
    np.testing.assert_array_equal(_masks(got, shape), _slow(claimed, owned, rank=rank.tolist()))


def _rows(*rows: str) -> Masks:
    return np.array([[cell == "#" for cell in row] for row in rows])


@pytest.mark.parametrize("which", [False, True])
def test_the_largest_part_stays(which: bool) -> None:
    mask = _rows("##..#", ".....", "#.###")
    got = largest_parts(_sets(mask[None]), np.array([which]))
    expected = _rows(".....", ".....", "..###") if which else mask
    np.testing.assert_array_equal(_masks(got, mask.shape)[0], expected)


def test_of_equal_parts_the_first_stays() -> None:
    got = largest_parts(_sets(_rows("#.#", "#.#")[None]), np.array([True]))
    np.testing.assert_array_equal(_masks(got, (2, 3))[0], _rows("#..", "#.."))


def test_an_empty_set_stays_empty() -> None:
    got = largest_parts(_sets(np.zeros((1, 2, 2), np.bool_)), np.array([True]))
    assert got.areas.tolist() == [0]


def test_what_an_object_that_gives_way_had_won_goes_back() -> None:
    claimed = np.stack([_rows("###.."), _rows("..###"), _rows("...##")])
    owned = np.stack([_rows("##..."), _rows("....."), _rows("...##")])
    claims = Claims(pixels=_sets(claimed), owned=_sets(owned), rank=np.array([1, 0, 2]))
    got = settle_claims(claims, first=np.array([0, 1]), second=np.array([1, 2]))
    np.testing.assert_array_equal(
        _masks(got, (1, 5)), np.stack([_rows("###.."), _rows("....."), _rows("...##")])
    )
