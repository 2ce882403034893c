"""SSD, the YOLO rules, SimOTA and task-aligned assignment against the rules as plain loops over one image."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torchvision
from test_plain_references import anchors, points, random_targets, real_rows
from torch import Tensor

from torso.data.targets import Targets
from torso.geometry.boxes import aligned_overlap, iou_matrix
from torso.geometry.priors.anchors import Anchors
from torso.parts import PartError
from torso.training.assigners import _base, paa, simota, ssd, task_aligned, yolo_v3
from torso.training.assigners._base import CHUNK, Assigner
from torso.training.assigners.max_iou import MaxIoUAssigner
from torso.training.assigners.paa import PAAAssigner
from torso.training.assigners.simota import SimOTAAssigner
from torso.training.assigners.ssd import SSDAssigner
from torso.training.assigners.task_aligned import TaskAlignedAssigner
from torso.training.assigners.yolo_v2 import YOLOv2Assigner
from torso.training.assigners.yolo_v3 import YOLOv3Assigner
from torso.training.assigners.yolo_v5 import YOLOv5Assigner
from torso.training.assignment import Assignment, Pairs
from torso.types import Priors

SIZES = [(9, 12), (5, 6), (3, 3)]
WH = (((10, 13), (16, 30), (33, 23)), ((30, 61), (62, 45), (59, 119)), ((116, 90), (156, 198), (373, 326)))


def yolo_priors(levels: int = 3, offset: float = 0.5) -> Priors:
    """YOLOv3's anchors, at half their size for an image of 72 x 96."""
    parts = []
    for i in range(levels):
        stride = 8 * 2**i
        shapes = tuple((w / 2 / stride, h / 2 / stride) for w, h in WH[i])
        made = Anchors([(stride, stride)], octave_scales=1, base_scale=1.0, aspects=shapes, offset=offset)
        parts.append(made([SIZES[i]], (72, 96)))
    fields = [torch.cat([p[k] for p in parts]) for k in range(3)]
    return Priors(fields[0], fields[1], fields[2], tuple(p.levels[0] for p in parts))


def labelled(m: int, seed: int) -> Targets:
    t = random_targets(m, seed)
    return t._replace(labels=torch.randint(0, 4, t.labels.shape, generator=torch.Generator().manual_seed(seed)))


def predictions(priors: Priors, t: Targets, seed: int) -> tuple[Tensor, Tensor]:
    """Boxes half of which lie about a target, and scores that differ."""
    g = torch.Generator().manual_seed(100 + seed)
    b, n = t.boxes.shape[0], priors.centers_xy.shape[0]
    about = torch.randint(0, t.boxes.shape[1], (b, n), generator=g)
    target_boxes = t.boxes.gather(1, about[..., None].expand(-1, -1, 4))
    jitter = torch.randn(b, n, 4, generator=g) * 4
    own = priors.boxes.expand(b, -1, -1)
    boxes = torch.where(torch.rand(b, n, 1, generator=g) < 0.5, target_boxes, own) + jitter
    return boxes, torch.rand(b, n, 4, generator=g) ** 2


def plain_ssd(priors: Priors, t: Targets, i: int, threshold: float) -> list[int]:
    rows, n = real_rows(t, i), priors.centers_xy.shape[0]
    if not rows:
        return [-1] * n
    iou = iou_matrix(priors.boxes, t.boxes[i, rows]).tolist()
    out = [rows[p.index(max(p))] if max(p) >= threshold else -1 for p in iou]
    for j, row in enumerate(rows):
        column = [p[j] for p in iou]
        if max(column) > 0:
            out[column.index(max(column))] = row
    return out


def shape_iou(a: tuple[float, float], b: tuple[float, float]) -> float:
    shared = min(a[0], b[0]) * min(a[1], b[1])
    return shared / (a[0] * a[1] + b[0] * b[1] - shared)


def first_rows(priors: Priors) -> list[tuple[int, int, int, int, float]]:
    """(first row, w, h, A, stride) of each level."""
    out, start = [], 0
    for h, w, a in priors.levels:
        out.append((start, w, h, a, float(priors.strides_xy[start, 0])))
        start += h * w * a
    return out


def cell(at: float, stride: float, limit: int) -> int:
    return min(max(math.floor(at / stride), 0), limit - 1)


def plain_yolo_v3(priors: Priors, t: Targets, i: int, boxes: Tensor, ignore: float, extra: float | None) -> list[int]:
    n = priors.centers_xy.shape[0]
    out = [-1] * n
    for j in real_rows(t, i):
        x1, y1, x2, y2 = t.boxes[i, j].tolist()
        fits = []
        for start, w, h, a, s in first_rows(priors):
            place = cell((x1 + x2) / 2, s, w) + w * cell((y1 + y2) / 2, s, h)
            for k in range(a):
                aw, ah = priors.sizes_wh[start + k].tolist()
                fits.append((shape_iou((x2 - x1, y2 - y1), (aw, ah)), start + place * a + k))
        best = max(f for f, _ in fits)
        for fit, row in fits:
            if fit == best or (extra is not None and fit > extra):
                out[row] = j
    rows = real_rows(t, i)
    if rows:
        overlap = iou_matrix(boxes[i], t.boxes[i, rows]).amax(1).tolist()
        out = [-2 if o == -1 and v > ignore else o for o, v in zip(out, overlap, strict=True)]
    return out


def plain_yolo_v5(priors: Priors, t: Targets, i: int) -> list[tuple[int, int]]:
    out = []
    for j in real_rows(t, i):
        x1, y1, x2, y2 = t.boxes[i, j].tolist()
        for start, w, h, a, s in first_rows(priors):
            x, y = (x1 + x2) / 2 / s, (y1 + y2) / 2 / s
            cx, cy = cell(x * s, s, w), cell(y * s, s, h)
            places = [(cx, cy)]
            places += [(cx - 1, cy)] if x % 1 < 0.5 and x > 1 else []
            places += [(cx, cy - 1)] if y % 1 < 0.5 and y > 1 else []
            places += [(cx + 1, cy)] if (w - x) % 1 < 0.5 and w - x > 1 else []
            places += [(cx, cy + 1)] if (h - y) % 1 < 0.5 and h - y > 1 else []
            for k in range(a):
                aw, ah = priors.sizes_wh[start + k].tolist()
                ratios = [(x2 - x1) / aw, (y2 - y1) / ah, aw / (x2 - x1), ah / (y2 - y1)]
                if max(ratios) < 4:
                    out += [(start + (py * w + px) * a + k, j) for px, py in places]
    return sorted(out)


def inside(priors: Priors, p: int, box: list[float], margin: float = 0.0) -> bool:
    x, y = priors.centers_xy[p].tolist()
    return min(x - box[0], y - box[1], box[2] - x, box[3] - y) > margin


def plain_simota(
    priors: Priors, t: Targets, i: int, boxes: Tensor, scores: Tensor, radius: float, only_center: bool
) -> list[int]:
    rows, n = real_rows(t, i), priors.centers_xy.shape[0]
    out = [-1] * n
    if not rows:
        return out
    iou = iou_matrix(boxes[i], t.boxes[i, rows])

    def near(p: int, j: int) -> bool:
        x1, y1, x2, y2 = t.boxes[i, j].tolist()
        x, y = priors.centers_xy[p].tolist()
        reach = radius * float(priors.strides_xy[p, 0])
        return max(abs(x - (x1 + x2) / 2), abs(y - (y1 + y2) / 2)) < reach

    def within(p: int, j: int) -> bool:
        return near(p, j) if only_center else inside(priors, p, t.boxes[i, j].tolist())

    candidates = [p for p in range(n) if any(near(p, j) or within(p, j) for j in rows)]
    if not candidates:
        return out
    cost = {}
    for k, j in enumerate(rows):
        one_hot = torch.nn.functional.one_hot(t.labels[i, j], 4).float().expand(len(candidates), 4)
        cls = torch.nn.functional.binary_cross_entropy(scores[i, candidates].sqrt(), one_hot, reduction="none").sum(-1)
        for at, p in enumerate(candidates):
            far = 0.0 if near(p, j) and within(p, j) else 1e5
            cost[p, j] = float(cls[at]) - 3 * math.log(float(iou[p, k]) + 1e-7) + far
    takers: dict[int, list[int]] = {}
    for k, j in enumerate(rows):
        best = iou[candidates, k].sort(descending=True).values[:10]
        wanted = max(int(best.sum()), 1)
        for p in sorted(candidates, key=lambda p: cost[p, j])[:wanted]:
            takers.setdefault(p, []).append(j)
    for p, who in takers.items():
        out[p] = who[0] if len(who) == 1 else min(rows, key=lambda j: cost[p, j])
    return out


def plain_task_aligned(
    priors: Priors, t: Targets, i: int, boxes: Tensor, scores: Tensor, settings: dict[str, Any]
) -> tuple[list[int], list[float]]:
    n = priors.centers_xy.shape[0]
    out, quality, best_iou = [-1] * n, [0.0] * n, [-1.0] * n
    metric: dict[tuple[int, int], float] = {}
    overlap: dict[tuple[int, int], float] = {}
    for j in real_rows(t, i):
        box = t.boxes[i, j]
        fit = aligned_overlap(boxes[i], box, settings["overlap"]).clamp(min=0)
        align = scores[i, :, int(t.labels[i, j])] ** settings["alpha"] * fit ** settings["beta"]
        within = [inside(priors, p, box.tolist(), 0.01) for p in range(n)]
        if settings["compete"] == "inside":
            align = torch.where(torch.tensor(within), align, 0.0)
        for p in align.argsort(descending=True)[: settings["top"]].tolist():
            if align[p] > 0 and within[p]:
                metric[p, j], overlap[p, j] = float(align[p]), float(fit[p])
                if float(fit[p]) > best_iou[p]:
                    best_iou[p], out[p] = float(fit[p]), j
    for j in real_rows(t, i):
        own = [p for p in range(n) if out[p] == j]
        if own:
            highest, fitting = max(metric[p, j] for p in own), max(overlap[p, j] for p in own)
            for p in own:
                quality[p] = metric[p, j] / (highest + settings.get("guard", 1e-7)) * fitting
    return out, quality


def plain_mixture(values: list[float], steps: int) -> list[int]:
    """Which of these ascending values are positive: scikit-learn's fit, as PAA's code starts it, in plain numbers."""
    if len(values) < 2:
        return []
    means, variances, weights, before = [values[0], values[-1]], [1.0, 1.0], [0.5, 0.5], -math.inf

    def joint(x: float) -> list[float]:
        return [
            math.log(w) - 0.5 * (math.log(2 * math.pi * v) + (x - m) ** 2 / v)
            for m, v, w in zip(means, variances, weights, strict=True)
        ]

    def log_sum(pair: list[float]) -> float:
        return max(pair) + math.log(sum(math.exp(a - max(pair)) for a in pair))

    for _ in range(steps):
        logs = [joint(x) for x in values]
        density = [log_sum(pair) for pair in logs]
        now = sum(density) / len(values)
        mass = []
        for k in range(2):
            share = [math.exp(pair[k] - d) for pair, d in zip(logs, density, strict=True)]
            mass.append(sum(share) + 10 * 2.220446049250313e-16)
            means[k] = sum(s * x for s, x in zip(share, values, strict=True)) / mass[k]
            spread = sum(s * (x - means[k]) ** 2 for s, x in zip(share, values, strict=True))
            variances[k] = spread / mass[k] + 1e-6
        weights = [m / sum(mass) for m in mass]
        if abs(now - before) < 1e-3:
            break
        before = now
    lower = [k for k, x in enumerate(values) if joint(x)[0] >= joint(x)[1]]
    density = [log_sum(joint(values[k])) for k in lower]
    return lower[: density.index(max(density)) + 1] if lower else []


def plain_paa(priors: Priors, t: Targets, i: int, boxes: Tensor, scores: Tensor, steps: int) -> list[int]:
    first = MaxIoUAssigner(positive=0.1, negative=0.1, rescue_learns="rescued")
    own = first(priors, Targets(*(x[i : i + 1] for x in t[:4]))).target[0]
    out = [-1] * len(own)
    for j in real_rows(t, i):
        found: list[tuple[float, int]] = []
        for start, w, h, a, _ in first_rows(priors):
            rows = [p for p in range(start, start + w * h * a) if own[p] == j]
            costs = []
            for p in rows:
                hot = torch.nn.functional.one_hot(t.labels[i, j], 4).float()
                logits = scores[i, p].logit()
                cls = torchvision.ops.sigmoid_focal_loss(logits, hot, alpha=0.25, gamma=2, reduction="sum")
                box = 1 - aligned_overlap(boxes[i, p], t.boxes[i, j], "giou")
                costs.append((float(cls + 1.3 * box), p))
            found += sorted(costs)[:9]
        found.sort()
        for k in plain_mixture([c for c, _ in found], steps):
            out[found[k][1]] = j
    return out


@pytest.mark.parametrize("m", [1, 7, CHUNK + 9])
def test_paa(m: int) -> None:
    t, priors = labelled(m, m), anchors(ratios=(1.0,))
    boxes, scores = predictions(priors, t, m)
    got = PAAAssigner()(priors, t, boxes, scores)
    assert got.quality is not None
    for i in range(3):
        assert got.target[i].tolist() == plain_paa(priors, t, i, boxes, scores, 30)
    matched = t.boxes.gather(1, got.target.clamp(min=0)[..., None].expand(-1, -1, 4))
    fit = torch.where(got.target >= 0, aligned_overlap(boxes, matched, "iou"), 0.0)
    torch.testing.assert_close(got.quality, fit)
    assert m == 1 or (got.target >= 0).any()


MANY = [1, 7, CHUNK + 9]


@pytest.mark.parametrize("m", MANY)
def test_ssd(m: int) -> None:
    t, priors = labelled(m, m), anchors()
    for threshold in (0.5, 0.3):
        got = SSDAssigner(threshold=threshold)(priors, t).target
        for i in range(3):
            assert got[i].tolist() == plain_ssd(priors, t, i, threshold)


@pytest.mark.parametrize("m", MANY)
@pytest.mark.parametrize(("ignore", "extra"), [(0.7, None), (0.5, None), (0.7, 0.213)])
def test_yolo_v3(ignore: float, extra: float | None, m: int) -> None:
    t, priors = labelled(m, m), yolo_priors()
    boxes, scores = predictions(priors, t, m)
    got = YOLOv3Assigner(ignore_above=ignore, extra_iou=extra)(priors, t, boxes, scores).target
    for i in range(3):
        assert got[i].tolist() == plain_yolo_v3(priors, t, i, boxes, ignore, extra)
    assert m == 1 or (got == -2).any()


def test_yolo_v2_is_that_rule_on_one_level() -> None:
    t, priors = labelled(9, 1), yolo_priors(levels=1, offset=0.0)
    boxes, scores = predictions(priors, t, 1)
    got = YOLOv2Assigner()(priors, t, boxes, scores).target
    for i in range(3):
        assert got[i].tolist() == plain_yolo_v3(priors, t, i, boxes, 0.6, None)


@pytest.mark.parametrize("m", MANY)
def test_yolo_v5(m: int) -> None:
    t, priors = labelled(m, m), yolo_priors()
    t = t._replace(boxes=t.boxes.round())  # centres on the edges of cells too, where both neighbours learn
    got = YOLOv5Assigner()(priors, t)
    assert got.prior.shape == got.target.shape == got.weight.shape == (3, m * 9 * 5)
    for i in range(3):
        there = got.weight[i] > 0
        pairs = list(zip(got.prior[i][there].tolist(), got.target[i][there].tolist(), strict=True))
        assert sorted(pairs) == plain_yolo_v5(priors, t, i)
    assert 0 <= int(got.prior.min()) <= int(got.prior.max()) < priors.centers_xy.shape[0]


@pytest.mark.parametrize("m", MANY)
@pytest.mark.parametrize(("radius", "where"), [(2.5, "either"), (1.5, "center")])
def test_simota(radius: float, where: Any, m: int) -> None:
    t, priors = labelled(m, m), points()
    boxes, scores = predictions(priors, t, m)
    got = SimOTAAssigner(radius=radius, inside=where)(priors, t, boxes, scores)
    assert got.quality is not None
    for i in range(3):
        assert got.target[i].tolist() == plain_simota(priors, t, i, boxes, scores, radius, where == "center")
        matched = t.boxes[i][got.target[i].clamp(min=0)]
        fit = torch.where(got.target[i] >= 0, aligned_overlap(boxes[i], matched, "iou"), 0.0)
        torch.testing.assert_close(got.quality[i], fit)


@pytest.mark.parametrize("m", MANY)
@pytest.mark.parametrize(
    "settings",
    [
        {"alpha": 1.0, "beta": 6.0, "top": 13, "compete": "all", "overlap": "iou"},
        {"alpha": 0.5, "beta": 6.0, "top": 10, "compete": "inside", "overlap": "ciou", "guard": 0.0},
    ],
    ids=["tood", "v8"],
)
def test_task_aligned(settings: dict[str, Any], m: int) -> None:
    t, priors = labelled(m, m), points()
    boxes, scores = predictions(priors, t, m)
    got = TaskAlignedAssigner(**settings)(priors, t, boxes, scores)
    assert got.quality is not None
    for i in range(3):
        target, quality = plain_task_aligned(priors, t, i, boxes, scores, settings)
        assert got.target[i].tolist() == target
        torch.testing.assert_close(got.quality[i], torch.tensor(quality), rtol=1e-4, atol=1e-6)
    assert m == 1 or (got.target >= 0).any()


def test_task_aligned_sees_a_truth_that_boxes_hardly_overlap_yet() -> None:
    """As at the start of training: boxes are 100 px wide, the target 10 px, scores 1e-4; the alignment is 1e-14."""
    priors = points()
    x, y = priors.centers_xy.unbind(-1)
    boxes = torch.stack([x - 50, y - 50, x + 50, y + 50], dim=-1)[None]
    target_boxes = torch.cat([priors.centers_xy[:1] - 4, priors.centers_xy[:1] + 6], dim=1)
    t = Targets(target_boxes[None], torch.ones(1, 1).long(), torch.ones(1, 1).bool(), torch.zeros(1, 1).bool())
    rule = TaskAlignedAssigner(alpha=0.5, top=10, compete="inside", guard=0.0)
    got = rule(priors, t, boxes, torch.full((1, len(x), 3), 1e-4))
    fit = aligned_overlap(boxes[0], target_boxes.expand_as(boxes[0]), "iou")
    assert got.quality is not None
    assert float(got.quality.max()) == pytest.approx(float(fit[got.target[0] == 0].max()), rel=1e-5)


RULES: list[Assigner] = [
    SSDAssigner(),
    YOLOv3Assigner(),
    YOLOv3Assigner(extra_iou=0.2),
    YOLOv5Assigner(),
    SimOTAAssigner(),
    TaskAlignedAssigner(),
    PAAAssigner(iterations=8),
]


def name(rule: Assigner) -> str:
    return f"{type(rule).__name__}{getattr(rule, 'extra_iou', None) or ''}"


def answer(rule: Assigner, priors: Priors, t: Targets, boxes: Tensor, scores: Tensor) -> list[Tensor]:
    """The answer's tensors; of pairs, those that count, one row a pair of prior and target."""
    got = rule(priors, t, boxes, scores)
    if isinstance(got, Assignment):
        return [x for x in got if x is not None]
    counts = got.weight > 0
    hits = torch.zeros(t.boxes.shape[0], priors.centers_xy.shape[0], 200)
    return [hits.flatten(1).scatter_add(1, got.prior * 200 + got.target, counts.float())]


@pytest.mark.parametrize("rule", RULES, ids=name)
class TestEveryRule:
    def test_rows_that_are_not_real_change_nothing(self, rule: Assigner) -> None:
        priors, few, more = yolo_priors(), labelled(5, 3), labelled(2 * CHUNK, 4)
        boxes, scores = predictions(priors, few, 3)
        wild = Targets(*(torch.cat([a, b], dim=1) for a, b in zip(few[:4], more[:4], strict=True)))
        wild.valid[:, 5:] = False
        wild.boxes[:, 5::2] = math.nan
        wild.labels[:, 6::2] = 99
        found, wanted = (answer(rule, priors, targets, boxes, scores) for targets in (wild, few))
        for a, b in zip(found, wanted, strict=True):
            assert torch.equal(a, b)

    def test_never_matches_crowd_or_padding(self, rule: Assigner) -> None:
        priors, t = yolo_priors(), labelled(9, 5)
        got = rule(priors, t, *predictions(priors, t, 5))
        for i in range(3):
            learnt = got.target[i][got.weight[i] > 0] if isinstance(got, Pairs) else got.target[i]
            assert {j for j in learnt.tolist() if j >= 0} <= set(real_rows(t, i))

    def test_truths_beyond_the_image_are_safe(self, rule: Assigner) -> None:
        priors, t = yolo_priors(), labelled(6, 7)
        t = t._replace(boxes=t.boxes * 5 - 100)
        got = rule(priors, t, *predictions(priors, t, 7))
        assert int(got.target.max()) < 6

    def test_in_chunks_as_if_together(self, rule: Assigner, monkeypatch: pytest.MonkeyPatch) -> None:
        priors, t = yolo_priors(), labelled(2 * CHUNK + 5, 8)
        boxes, scores = predictions(priors, t, 8)
        chunked = answer(rule, priors, t, boxes, scores)
        for module in (_base, paa, simota, ssd, task_aligned, yolo_v3):
            monkeypatch.setattr(module, "CHUNK", 1000)
        for a, b in zip(answer(rule, priors, t, boxes, scores), chunked, strict=True):
            assert torch.equal(a, b)

    def test_compiles_whole(self, rule: Assigner) -> None:
        priors, t = yolo_priors(), labelled(CHUNK + 3, 9)
        boxes, scores = predictions(priors, t, 9)
        torch.compiler.reset()

        def run(t: Targets, boxes: Tensor, scores: Tensor) -> Assignment | Pairs:
            return rule(priors, t, boxes, scores)

        got = torch.compile(run, fullgraph=True, backend="aot_eager")(t, boxes, scores)
        for a, b in zip(got, run(t, boxes, scores), strict=True):
            assert (a is None and b is None) or torch.equal(a, b)


@pytest.mark.parametrize("rule", [YOLOv3Assigner(), SimOTAAssigner(), TaskAlignedAssigner(), PAAAssigner()], ids=name)
def test_rules_that_look_at_predictions_say_so(rule: Assigner) -> None:
    assert rule.needs_predictions
    with pytest.raises(ValueError, match="needs"):
        rule(yolo_priors(), labelled(3, 0))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: SSDAssigner(threshold=0.0),
        lambda: YOLOv2Assigner(ignore_above=0.0),
        lambda: YOLOv3Assigner(extra_iou=1.5),
        lambda: YOLOv5Assigner(max_ratio=1.0),
        lambda: SimOTAAssigner(radius=0.0),
        lambda: TaskAlignedAssigner(top=0),
        lambda: PAAAssigner(candidates=0),
    ],
)
def test_wrong_settings_are_refused(wrong: Any) -> None:
    with pytest.raises(PartError, match=": expected a "):
        wrong()
