"""Found instances against the true ones: which are the same, and what went wrong with the rest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from slideloom.errors import SettingsError

NAMED = 5
"""Wrong objects that a message names, of each kind."""

VERDICTS = ("exact", "missed", "split", "merged", "changed")
EXACT, MISSED, SPLIT, MERGED, CHANGED = range(5)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceComparison:
    """How the true objects came out; each is counted in one of the last five but `extra`.

    An object lies mostly in another when more than half of its pixels do.

    Attributes:
        expected: True objects.
        found: Found objects.
        exact: True objects that one found object covers to the pixel, and no more.
        missed: True objects that lie mostly in no found one, and no found one mostly in them.
        extra: Found objects that lie mostly in no true one, and no true one mostly in them.
        split: True objects in which two or more found ones mostly lie.
        merged: True objects that lie mostly in a found one together with another true one.
        changed: The remaining true objects: found once, with other pixels.
    """

    expected: int
    found: int
    exact: int
    missed: int
    extra: int
    split: int
    merged: int
    changed: int

    @property
    def is_exact(self) -> bool:
        """Whether found and true objects are the same, to the pixel."""
        return self.exact == self.expected == self.found


def compare_instances(found: NDArray[np.integer], truth: NDArray[np.integer]) -> InstanceComparison:
    """Compare two label images `(y, x)`; 0 is no object, ids need not be dense or agree.

    Time and memory grow with pixels and objects, not with pairs of objects.

    Raises:
        SettingsError: The shapes differ, or the images are not of integers >= 0.

    Examples:
        >>> truth = np.array([[1, 1, 0, 2, 2]])
        >>> compare_instances(np.array([[5, 5, 5, 5, 5]]), truth).merged
        2
    """
    table = _contingency(found, truth)
    counts = np.bincount(_verdicts(table), minlength=len(VERDICTS))
    return InstanceComparison(
        expected=len(table.truth_ids),
        found=len(table.found_ids),
        exact=int(counts[EXACT]),
        missed=int(counts[MISSED]),
        extra=int(_is_extra(table).sum()),
        split=int(counts[SPLIT]),
        merged=int(counts[MERGED]),
        changed=int(counts[CHANGED]),
    )


def assert_same_instances(found: NDArray[np.integer], truth: NDArray[np.integer]) -> None:
    """Hold found instances to be the true ones, to the pixel; ids may differ.

    Raises:
        AssertionError: They are not; the message counts what went wrong and names a few objects.
        SettingsError: As `compare_instances`.
    """
    compared = compare_instances(found, truth)
    if compared.is_exact:
        return
    table = _contingency(found, truth)
    verdicts = _verdicts(table)
    lines = [f"found instances differ from the truth: {compared}"]
    for verdict in (MISSED, SPLIT, MERGED, CHANGED):
        ids = table.truth_ids[verdicts == verdict]
        lines += _named(f"{VERDICTS[verdict]}: true object", truth, ids=ids)
    lines += _named("extra: found object", found, ids=table.found_ids[_is_extra(table)])
    raise AssertionError("\n".join(lines))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contingency:
    """Pixels that each pair of a true and a found object shares, where it shares any.

    Attributes:
        truth_ids: `(t,)`, ids in the true image.
        found_ids: `(f,)`, ids in the found image.
        truth_px: `(t,)`, areas.
        found_px: `(f,)`, areas.
        truth_at: `(pairs,)`, indices into `truth_ids`.
        found_at: `(pairs,)`, indices into `found_ids`.
        shared_px: `(pairs,)`.
    """

    truth_ids: NDArray[np.integer]
    found_ids: NDArray[np.integer]
    truth_px: NDArray[np.int64]
    found_px: NDArray[np.int64]
    truth_at: NDArray[np.intp]
    found_at: NDArray[np.intp]
    shared_px: NDArray[np.int64]


def _contingency(found: NDArray[np.integer], truth: NDArray[np.integer]) -> _Contingency:
    integers = np.issubdtype(found.dtype, np.integer) and np.issubdtype(truth.dtype, np.integer)
    if found.shape != truth.shape or found.ndim != 2 or not integers:
        msg = (
            f"label images must be integers (y, x) of one shape, got found {found.dtype} "
            f"{found.shape} and truth {truth.dtype} {truth.shape}: crop both to the same box"
        )
        raise SettingsError(msg)
    found_runs, truth_runs, lengths = _runs(found.ravel(), truth.ravel())
    truth_ids, truth_of = np.unique(truth_runs, return_inverse=True)
    found_ids, found_of = np.unique(found_runs, return_inverse=True)
    if min(truth_ids.min(initial=0), found_ids.min(initial=0)) < 0:
        msg = "label images must hold no negative ids: relabel them from 1, with 0 for no object"
        raise SettingsError(msg)
    pairs, pair_of = np.unique(truth_of * len(found_ids) + found_of, return_inverse=True)
    shared = _sums(pair_of, lengths, size=len(pairs))
    truth_at, found_at = np.divmod(pairs, max(len(found_ids), 1))
    both = (truth_ids[truth_at] != 0) & (found_ids[found_at] != 0)
    # Background is the id 0, which sorts first where it occurs: leave it out and count on.
    truth_first, found_first = int(0 in truth_ids), int(0 in found_ids)
    return _Contingency(
        truth_ids=truth_ids[truth_first:],
        found_ids=found_ids[found_first:],
        truth_px=_sums(truth_of, lengths, size=len(truth_ids))[truth_first:],
        found_px=_sums(found_of, lengths, size=len(found_ids))[found_first:],
        truth_at=truth_at[both] - truth_first,
        found_at=found_at[both] - found_first,
        shared_px=shared[both],
    )


def _runs(
    found: NDArray[np.integer], truth: NDArray[np.integer]
) -> tuple[NDArray[np.integer], NDArray[np.integer], NDArray[np.int64]]:
    """Both images as runs of equal pairs, and the runs' lengths: far fewer than pixels."""
    change = np.ones(len(found), dtype=np.bool_)
    change[1:] = (found[1:] != found[:-1]) | (truth[1:] != truth[:-1])
    starts = np.flatnonzero(change)
    lengths = np.diff(starts, append=len(found)).astype(np.int64)
    return found[starts], truth[starts], lengths


def _sums(group: NDArray[np.intp], lengths: NDArray[np.int64], *, size: int) -> NDArray[np.int64]:
    return np.bincount(group, weights=lengths, minlength=size).astype(np.int64)


def _verdicts(table: _Contingency) -> NDArray[np.intp]:
    """What became of each true object, as an index into `VERDICTS`."""
    truth_at, found_at, shared = table.truth_at, table.found_at, table.shared_px
    n, m = len(table.truth_ids), len(table.found_ids)
    truth_inside = 2 * shared > table.truth_px[truth_at]
    found_inside = 2 * shared > table.found_px[found_at]
    same = (shared == table.truth_px[truth_at]) & (shared == table.found_px[found_at])
    holds = np.bincount(truth_at[found_inside], minlength=n)
    crowd = np.bincount(found_at[truth_inside], minlength=m)
    is_merged = _any(truth_at, truth_inside & (crowd[found_at] > 1), size=n)
    is_met = _any(truth_at, truth_inside | found_inside, size=n)
    cases = [_any(truth_at, same, size=n), holds > 1, is_merged, ~is_met]
    return np.select(cases, [EXACT, SPLIT, MERGED, MISSED], default=CHANGED).astype(np.intp)


def _is_extra(table: _Contingency) -> NDArray[np.bool_]:
    truth_inside = 2 * table.shared_px > table.truth_px[table.truth_at]
    found_inside = 2 * table.shared_px > table.found_px[table.found_at]
    return ~_any(table.found_at, truth_inside | found_inside, size=len(table.found_ids))


def _any(group: NDArray[np.intp], condition: NDArray[np.bool_], *, size: int) -> NDArray[np.bool_]:
    out = np.zeros(size, dtype=np.bool_)
    out[group[condition]] = True
    return out


def _named(what: str, labels: NDArray[np.integer], *, ids: NDArray[np.integer]) -> list[str]:
    """A line for each of the first few ids, with its box."""
    lines = []
    for value in ids[:NAMED]:
        ((y, x),) = ndimage.find_objects((labels == value).astype(np.uint8))
        box = f"x {x.start}..{x.stop} y {y.start}..{y.stop}"
        lines.append(f"  {what} {value} at {box}")
    if len(ids) > NAMED:
        lines.append(f"  and {len(ids) - NAMED} more")
    return lines
