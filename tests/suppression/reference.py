"""Suppression as the papers print it: one image, a greedy loop, numpy. Slow, and independent of the code it tests."""

from __future__ import annotations

import math

import numpy as np
import torch

from torso.types import Candidates


def iou(a: np.ndarray, b: np.ndarray) -> np.float32:
    """Two float32 boxes, each operation rounded to float32; 0 where a box has no extent."""
    zero = np.float32(0)
    width = max(min(a[2], b[2]) - max(a[0], b[0]), zero)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), zero)
    intersection = width * height
    if intersection == 0:
        return zero
    return intersection / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - intersection)


def diou(a: np.ndarray, b: np.ndarray) -> np.float32:
    """IoU less the squared distance of the centres over the squared diagonal of the hull."""
    two = np.float32(2)
    dx, dy = (a[0] + a[2] - b[0] - b[2]) / two, (a[1] + a[3] - b[1] - b[3]) / two
    width, height = max(a[2], b[2]) - min(a[0], b[0]), max(a[3], b[3]) - min(a[1], b[1])
    return iou(a, b) - (dx * dx + dy * dy) / max(width * width + height * height, np.float32(1e-9))


def nms(boxes, scores, labels, *, threshold, per_class=True, inclusive=False, overlap=iou):
    """Kept rows, best first; equal scores in their old order."""
    left = sorted((i for i in range(len(scores)) if scores[i] > 0), key=lambda i: (-scores[i], i))
    kept = []
    while left:
        best = left.pop(0)
        kept.append(best)
        left = [i for i in left if not falls(boxes, labels, best, i, threshold, per_class, inclusive, overlap)]
    return kept


def falls(boxes, labels, best, other, threshold, per_class, inclusive, overlap):
    """Whether the picked row removes the other one."""
    if per_class and labels[best] != labels[other]:
        return False
    value, threshold = overlap(boxes[best], boxes[other]), np.float32(threshold)
    return value >= threshold if inclusive else value > threshold


def soft_nms(
    boxes, scores, labels, *, method, threshold=0.3, sigma=0.5, min_score=1e-3, per_class=True, inclusive=True, most=100
):
    """(row, score) in the order of picking; equal scores: the first row."""
    scores, picked = [np.float32(s) for s in scores], []
    left = [i for i in range(len(scores)) if scores[i] > 0]
    while left and len(picked) < most:
        best = max(left, key=lambda i: (scores[i], -i))
        if scores[best] < np.float32(min_score) or scores[best] <= 0:
            break
        picked.append((best, scores[best]))
        left.remove(best)
        for i in left:
            if per_class and labels[i] != labels[best]:
                continue
            value = iou(boxes[best], boxes[i])
            if method == "gaussian":
                scores[i] = np.float32(scores[i] * math.exp(-(float(value) ** 2) / sigma))
            elif falls(boxes, labels, best, i, threshold, per_class, inclusive, iou):
                scores[i] = scores[i] * (np.float32(1) - value)
    return picked


def random_candidates(seed: int, batch: int, rows: int, classes: int, *, size: float = 200.0) -> Candidates:
    """Crowded boxes with duplicates, tied scores, boxes without extent and empty rows in between."""
    rng = torch.Generator().manual_seed(seed)
    corner = torch.rand(batch, rows, 2, generator=rng) * size
    boxes = torch.cat([corner, corner + torch.rand(batch, rows, 2, generator=rng) * size / 2], -1)
    scores = torch.rand(batch, rows, generator=rng).mul(50).ceil().div(50)  # fifty values, so there are ties
    scores = scores.where(torch.rand(batch, rows, generator=rng) > 0.1, 0.0)
    if rows > 4:
        boxes[:, 3] = boxes[:, 1]
        boxes[:, rows // 2, 2:] = boxes[:, rows // 2, :2]
    labels = torch.randint(0, classes, (batch, rows), generator=rng)
    index = torch.arange(rows).expand(batch, rows) + 1000
    return Candidates(boxes, scores, labels, index, variance=torch.rand(batch, rows, 4, generator=rng))


def chain(links: int, *, step: float = 3.0) -> Candidates:
    """Boxes in a row, each overlapping the next by more than half (IoU 0.54) and the one after by less (0.25)."""
    x = torch.arange(links) * step
    boxes = torch.stack([x, torch.zeros(links), x + 10, torch.full((links,), 10.0)], -1).unsqueeze(0)
    scores = torch.linspace(0.99, 0.5, links).unsqueeze(0)
    rows = torch.arange(links).unsqueeze(0)
    return Candidates(boxes, scores, torch.zeros_like(rows), rows)


def giou(a: np.ndarray, b: np.ndarray) -> np.float32:
    """IoU less the share of the hull that neither covers."""
    zero = np.float32(0)
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    both = max(min(a[2], b[2]) - max(a[0], b[0]), zero) * max(min(a[3], b[3]) - max(a[1], b[1]), zero)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return iou(a, b) - (hull - union) / max(hull, np.float32(1e-9))


def diou_with(beta: float):
    """DIoU whose distance term is raised to beta."""
    return lambda a, b: iou(a, b) - (iou(a, b) - diou(a, b)) ** beta if beta != 1 else diou(a, b)


def matrix_nms(boxes, scores, labels, *, method, sigma=2.0, min_score=1e-3, per_class=True, overlap=iou):
    """(row, score), best first: the formula of SOLOv2 pair by pair, in float64."""
    order = sorted((i for i in range(len(scores)) if scores[i] > 0), key=lambda i: (-scores[i], i))

    def pair(i: int, j: int) -> float:
        alike = not per_class or labels[order[i]] == labels[order[j]]
        return max(float(overlap(boxes[order[i]], boxes[order[j]])), 0.0) if alike else 0.0

    def f(x: float) -> float:
        return math.exp(-sigma * x * x) if method == "gaussian" else 1 - x

    found = []
    for j in range(len(order)):
        decay = 1.0
        for i in range(j):
            covered = f(max([pair(k, i) for k in range(i)], default=0.0))
            if covered > 0:  # a row that is covered in full has no say
                decay = min(decay, f(pair(i, j)) / covered)
        found.append((order[j], float(scores[order[j]]) * decay))
    kept = [(row, score) for row, score in found if score >= min_score and score > 0]
    return sorted(kept, key=lambda x: -x[1])


def weighted_fusion(boxes, scores, labels, *, threshold, sources=1, per_class=True, inclusive=False, overlap=iou):
    """(founder, fused box, score), best first, as the paper's five steps say, in float64."""
    clusters: list[list[int]] = []
    fused: list[np.ndarray] = []
    for i in sorted((i for i in range(len(scores)) if scores[i] > 0), key=lambda i: (-scores[i], i)):
        best, at = -math.inf, None
        for number, box in enumerate(fused):
            value = overlap(box.astype(np.float32), boxes[i])
            hit = value >= np.float32(threshold) if inclusive else value > np.float32(threshold)
            if hit and value > best and (not per_class or labels[clusters[number][0]] == labels[i]):
                best, at = value, number
        if at is None:
            clusters.append([i])
            fused.append(boxes[i].astype(np.float64))
        else:
            clusters[at].append(i)
            weights = np.array([float(scores[k]) for k in clusters[at]])
            fused[at] = (boxes[clusters[at]].astype(np.float64) * weights[:, None]).sum(0) / weights.sum()
    out = []
    for rows, box in zip(clusters, fused, strict=True):
        mean = sum(float(scores[k]) for k in rows) / len(rows)
        out.append((rows[0], box, mean * min(len(rows), sources) / sources))
    return sorted(out, key=lambda x: -x[2])


def softer_nms(B, S, C, *, sigma_t, f, form, Nt=0.0, least=1e-3):
    """Algorithm 1 of 1809.08545, line by line, with the paper's letters: B boxes [N, 4], S scores, C variances [N, 4].

    f: the weight that S gets from IoU(b_m, T), 0 for a row that falls (hard suppression). form: the green lines,
    "paper" or the seed's, whose voters have IoU > Nt. Returns D as (row, voted box, score).
    """
    S = [float(s) for s in S]
    D, T = [], [i for i in range(len(S)) if S[i] > 0]
    everyone = list(T)
    while T:
        m = max(T, key=lambda i: (S[i], -i))
        if S[m] < least:
            break
        T.remove(m)
        for i in T:
            S[i] *= f(float(iou(B[m], B[i])))
        T = [i for i in T if S[i] > 0]
        overlaps = {i: float(iou(B[m], B[i])) for i in everyone}
        if form == "paper":
            idx = [i for i in everyone if overlaps[i] > 0 or i == m]
            p = np.array([1.0 if i == m else math.exp(-((1 - overlaps[i]) ** 2) / sigma_t) for i in idx])
        else:
            idx = [i for i in everyone if overlaps[i] > Nt or i == m]
            p = np.ones(len(idx))
        own = 1 / C[idx].astype(np.float64)
        b_m = (p[:, None] * B[idx].astype(np.float64) * own).sum(0) / (p[:, None] * own).sum(0)
        D.append((m, b_m, S[m]))
    return D
