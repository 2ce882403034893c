"""Boxes of one object, found in several views of an image, become one box: greedy merging (SAHI, arXiv 2202.06934).

Overlap is the intersection over the smaller box: what a seam leaves of an object lies within the whole of it. Four
things differ from SAHI, so that neighbours stay apart and a box is as good as the best look at its object. Boxes of
one view never merge with each other: that view's own suppression has told them apart. A box that several kept ones
could take goes to the one that it is most like (IoU). The merged box is that of the best look which saw the object
whole; only where every look was cut by its window is it the union, which a coarse look would widen. And the merging is
repeated on its own result, so that an object cut into four comes back as one.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from torso.geometry.boxes import MIN_AREA, aligned_overlap, area

_CHUNK = 128  # rows compared at a time with those that can touch them


class Merged(NamedTuple):
    """boxes [n, 4] xyxy, scores [n], best first, labels [n]; cut [n] bool: no view saw the object whole;
    members [n, V] bool: the views that found it.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    cut: Tensor
    members: Tensor


class _Pairs(NamedTuple):
    """P pairs of rows that may be one object: row numbers better < worse [P], and their IoU [P]."""

    better: Tensor
    worse: Tensor
    iou: Tensor


def merge_union(
    boxes: Tensor, scores: Tensor, labels: Tensor, views: Tensor, cut: Tensor, *, threshold: float = 0.5
) -> Merged:
    """One image's boxes of all views, merged.

    boxes: [n, 4] xyxy px of the image; scores: [n]; labels, views: [n] int64, the class of a box and the view that
    it comes from; cut: [n] bool, the box ends where its view's window does. Boxes of one class and different views
    whose intersection is at least `threshold` of the smaller become one, with the best of their scores: the best box
    that is not cut and makes up half of the union, else the union. Equal scores rank by row.
    """
    count = int(views.max()) + 1 if len(views) else 0
    members = torch.nn.functional.one_hot(views, max(count, 1)).bool()
    found = _ranked(Merged(boxes.float(), scores.float(), labels, cut, members))
    while True:
        pairs = _pairs(found, threshold)
        if not len(pairs.better):
            return found
        found = _ranked(_once(found, pairs))


def _once(found: Merged, pairs: _Pairs) -> Merged:
    """Rows that a better kept row matches join the kept row that they are most like; only kept rows come back."""
    keep = _kept(len(found.scores), pairs)
    owner = _owner(keep, pairs)
    corners = owner[:, None].expand(-1, 2)
    low = found.boxes[:, :2].scatter_reduce(0, corners, found.boxes[:, :2], "amin")
    high = found.boxes[:, 2:].scatter_reduce(0, corners, found.boxes[:, 2:], "amax")
    union = torch.cat([low, high], dim=1)
    whole = _best_whole(found, owner, union)
    seen = whole < len(keep)
    boxes = torch.where(seen[:, None], found.boxes[whole.clamp(max=len(keep) - 1)], union)
    scores = found.scores.scatter_reduce(0, owner, found.scores, "amax")
    members = found.members.int()
    members = members.scatter_reduce(0, owner[:, None].expand_as(members), members, "amax")
    return Merged(boxes[keep], scores[keep], found.labels[keep], ~seen[keep], members[keep].bool())


def _best_whole(found: Merged, owner: Tensor, union: Tensor) -> Tensor:
    """[n] for each kept row the best row of those it stands for that is not cut and half the union; n where none is."""
    rows = torch.arange(len(owner), device=owner.device)
    fits = ~found.cut & (aligned_overlap(found.boxes, union[owner], "iou") >= 0.5)
    none = torch.full_like(rows, len(rows))
    return none.scatter_reduce(0, owner, torch.where(fits, rows, len(rows)), "amin")


def _kept(count: int, pairs: _Pairs) -> Tensor:
    """[n] bool: rows that no better kept row matches. Each round settles one more link of every chain of pairs."""
    keep = torch.ones(count, dtype=torch.bool, device=pairs.better.device)
    while True:
        felled = torch.zeros_like(keep).index_fill(0, pairs.worse[keep[pairs.better]], True)
        if torch.equal(~felled, keep):
            return keep
        keep = ~felled


def _owner(keep: Tensor, pairs: _Pairs) -> Tensor:
    """[n] the row that each row joins: itself if kept, else the kept match of greatest IoU, of equals the best."""
    own = torch.arange(len(keep), device=keep.device)
    taker, taken = torch.cat([pairs.better, pairs.worse]), torch.cat([pairs.worse, pairs.better])
    joins = keep[taker] & ~keep[taken]
    taker, taken, iou = taker[joins], taken[joins], pairs.iou.repeat(2)[joins]
    most = iou.new_full((len(keep),), -1.0).scatter_reduce(0, taken, iou, "amax")
    best = iou == most[taken]
    first = torch.full_like(own, len(keep)).scatter_reduce(0, taken[best], taker[best], "amin")
    return torch.where(keep, own, first)


def _pairs(found: Merged, threshold: float) -> _Pairs:
    """All pairs of one class and disjoint views that overlap by at least the threshold of the smaller box."""
    one, other = _neighbours(found)
    a, b = found.boxes[one], found.boxes[other]
    shared = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).relu().prod(dim=1)
    areas = area(a), area(b)
    hit = (shared >= threshold * torch.minimum(*areas)) & (shared > 0)
    hit &= ~(found.members[one] & found.members[other]).any(dim=1)
    iou = shared / (areas[0] + areas[1] - shared).clamp(min=MIN_AREA)
    return _Pairs(torch.minimum(one, other)[hit], torch.maximum(one, other)[hit], iou[hit])


def _neighbours(found: Merged) -> tuple[Tensor, Tensor]:
    """Row numbers of all pairs of one class whose boxes have a point in common, each pair once.

    Rows sorted by class and left side: what can touch a chunk of them is the chunk and the run of rows after it.
    """
    order, keys, ends = _along_x(found)
    x1, y1, x2, y2 = found.boxes[order].unbind(1)
    labels = found.labels[order]
    ones, others = [order[:0]], [order[:0]]
    for start in range(0, len(order), _CHUNK):
        here = slice(start, start + _CHUNK)
        run = slice(start, int(torch.searchsorted(keys, ends[here].max(), right=True)))
        touch = (x1[run] < x2[here, None]) & (x1[here, None] < x2[run])
        touch &= (y1[run] < y2[here, None]) & (y1[here, None] < y2[run]) & (labels[run] == labels[here, None])
        one, other = touch.triu(diagonal=1).nonzero().unbind(1)
        ones.append(order[one + start])
        others.append(order[other + start])
    return torch.cat(ones), torch.cat(others)


def _along_x(found: Merged) -> tuple[Tensor, Tensor, Tensor]:
    """The order by class and left side, and in it each row's place on one axis: where it begins, where it ends."""
    x1, x2 = found.boxes[:, 0].double(), found.boxes[:, 2].double()
    if not len(x1):
        return found.labels, x1, x2
    apart = found.labels * (x2.max() - x1.min() + 1)
    keys, order = (apart + x1).sort()
    return order, keys, (apart + x2)[order]


def _ranked(found: Merged) -> Merged:
    order = found.scores.sort(descending=True, stable=True).indices
    return Merged(*(column[order] for column in found))
