"""Greedy merging into unions: what a plain loop over pairs gives, and what it means for cut objects."""

from __future__ import annotations

import pytest
import torch

from torso.inference.union import merge_union

Row = tuple[list[float], float, int, set[int], bool]


def ios(a: list[float], b: list[float]) -> tuple[float, float]:
    """Intersection over the smaller box, and over the union."""
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(wide, 0.0) * max(high, 0.0)
    one, other = ((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b))
    return (shared / min(one, other), shared / (one + other - shared)) if shared else (0.0, 0.0)


def slowly(rows: list[Row], threshold: float) -> list[Row]:
    """The rule in words: best first; what a kept box matches falls and joins the kept box that it is most like.

    A row is box, score, label, views, cut.
    """

    def match(a: Row, b: Row) -> bool:
        return a[2] == b[2] and not a[3] & b[3] and ios(a[0], b[0])[0] >= threshold

    while True:
        rows = sorted(rows, key=lambda row: -row[1])
        kept: list[int] = []
        for number, row in enumerate(rows):
            if not any(match(rows[k], row) for k in kept):
                kept.append(number)
        if len(kept) == len(rows):
            return rows
        groups = {k: [rows[k]] for k in kept}
        for number, row in enumerate(rows):
            if number not in groups:
                fits = [k for k in kept if match(rows[k], row)]
                groups[max(fits, key=lambda k: (ios(rows[k][0], row[0])[1], -k))].append(row)
        rows = [joined(group) for group in groups.values()]


def joined(group: list[Row]) -> Row:
    boxes = [row[0] for row in group]
    union = [min(b[0] for b in boxes), min(b[1] for b in boxes), max(b[2] for b in boxes), max(b[3] for b in boxes)]
    whole = [row for row in sorted(group, key=lambda row: -row[1]) if not row[4] and ios(row[0], union)[1] >= 0.5]
    views = set().union(*(row[3] for row in group))
    return whole[0][0] if whole else union, max(row[1] for row in group), group[0][2], views, not whole


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("count", [1, 7, 60, 180])
def test_the_same_as_a_plain_loop(seed: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torso.inference.union._CHUNK", 20)
    generator = torch.Generator().manual_seed(seed)
    corner = torch.randint(0, 60, (count, 2), generator=generator)
    sides = torch.randint(1, 40, (count, 2), generator=generator)
    boxes = torch.cat([corner, corner + sides], dim=1).float()  # whole numbers: both ways round alike
    scores = torch.randint(1, 20, (count,), generator=generator) / 20  # with equal ones
    labels = torch.randint(0, 2, (count,), generator=generator)
    views = torch.randint(0, 5, (count,), generator=generator)
    cut = torch.rand(count, generator=generator) < 0.5
    found = merge_union(boxes, scores, labels, views, cut)
    columns = (column.tolist() for column in (boxes, scores, labels, views, cut))
    rows = [(box, score, label, {view}, part) for box, score, label, view, part in zip(*columns, strict=True)]
    wanted = slowly(rows, 0.5)
    assert found.boxes.tolist() == [row[0] for row in wanted]
    assert found.scores.tolist() == [row[1] for row in wanted]
    assert found.labels.tolist() == [row[2] for row in wanted]
    assert found.cut.tolist() == [row[4] for row in wanted]
    assert [set(m.nonzero().flatten().tolist()) for m in found.members] == [row[3] for row in wanted]


def merged(boxes: list[list[float]], scores: list[float], views: list[int], **more: list[int]) -> list[object]:
    labels, cut = more.get("labels", [0] * len(boxes)), more.get("cut", [1] * len(boxes))
    columns = torch.tensor(boxes), torch.tensor(scores), torch.tensor(labels), torch.tensor(views)
    found = merge_union(*columns, torch.tensor(cut).bool())
    return list(zip(found.boxes.tolist(), [round(s, 3) for s in found.scores.tolist()], strict=True))


def test_an_object_cut_into_four_comes_back_as_one() -> None:
    """No quarter holds half of the one across, so that one pass leaves a piece of it behind."""
    quarters = [[100.0, 100, 200, 200], [140.0, 100, 260, 200], [100.0, 140, 200, 260], [140.0, 140, 260, 260]]
    assert merged(quarters, [0.9, 0.8, 0.7, 0.6], [0, 1, 2, 3]) == [([100, 100, 260, 260], 0.9)]


def test_a_look_that_saw_it_whole_gives_the_box() -> None:
    cut, whole, coarse = [50.0, 0, 100, 40], [52.0, 0, 120, 40], [48.0, -4, 126, 45]
    assert merged([cut, whole, coarse], [0.9, 0.8, 0.7], [0, 1, 2], cut=[1, 0, 0]) == [(whole, 0.9)]
    small = [60.0, 5, 70, 15]  # another object within: too little to be what the others are
    assert merged([cut, small], [0.9, 0.8], [0, 1], cut=[1, 0]) == [(cut, 0.9)]


def test_neighbours_that_one_view_tells_apart_stay_apart() -> None:
    p, q = [0.0, 0.0, 40.0, 100.0], [18.0, 0.0, 58.0, 100.0]  # 22 of 40 px in common
    found = merged([p, q, [1.0, 0.0, 41.0, 100.0], [18.0, 0.0, 59.0, 100.0]], [0.9, 0.5, 0.8, 0.85], [0, 0, 1, 1])
    assert found == [([0, 0, 41, 100], 0.9), ([18, 0, 59, 100], 0.85)]


def test_classes_never_merge() -> None:
    box = [0.0, 0.0, 9.0, 9.0]
    assert len(merged([box, box], [0.5, 0.4], [0, 1], labels=[0, 1])) == 2


def test_boxes_of_one_view_or_none_come_back_as_they_are() -> None:
    boxes = [[0.0, 0.0, 9.0, 9.0], [1.0, 1.0, 5.0, 5.0], [0.0, 0.0, 9.0, 9.0]]
    assert merged(boxes, [0.5, 0.9, 0.4], [2, 2, 2]) == [(boxes[1], 0.9), (boxes[0], 0.5), (boxes[2], 0.4)]
    none = torch.zeros(0)
    assert len(merge_union(none.view(0, 4), none, none.long(), none.long(), none.bool()).scores) == 0
