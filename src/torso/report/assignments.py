"""Images of which priors learn which truth: `python -m torso.report.assignments docs/figures/assigners`."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from torso.data.targets import Targets
from torso.geometry.boxes import aligned_overlap, iou_matrix
from torso.inference.detections import Detections
from torso.inference.draw import PRIOR_COLOUR, Truth, draw
from torso.parts import Part, find, part
from torso.training.assigners._base import Assigner, boxes_to_match
from torso.training.assigners.paa import PAAAssigner
from torso.training.assignment import Assignment
from torso.types import Priors

NAMES = ("building", "plant", "island")
_BOXES = (  # on scikit-learn's china.jpg, placed by hand: x1, y1, x2, y2, row of NAMES
    (62, 30, 372, 412, 0), (194, 29, 219, 63, 0), (546, 134, 640, 427, 1), (320, 272, 572, 427, 1),
    (0, 145, 76, 279, 1), (424, 226, 502, 243, 2),
)  # fmt: skip


class Rule(NamedTuple):
    """What a figure shows: the recipe whose priors and assigner are taken, the head's strides; another assigner."""

    recipe: str
    strides: tuple[int, ...]
    assigner: Part[Assigner] | None = None


PYRAMID, THREE = (8, 16, 32, 64, 128), (8, 16, 32)
RULES: Mapping[str, Rule] = {
    "max_iou": Rule("retinanet", PYRAMID),
    "ssd": Rule("ssd300", (8, 16, 32, 64, 100, 300)),
    "atss": Rule("atss", PYRAMID),
    "paa": Rule("atss", PYRAMID, part(PAAAssigner)),
    "fcos": Rule("fcos", PYRAMID),
    "simota": Rule("yolox_s", THREE),
    "task_aligned": Rule("tal_s", THREE),
    "yolo_v2": Rule("yolov2", (32,)),
    "yolo_v3": Rule("yolov3", THREE),
    "yolo_v5": Rule("yolov5s", THREE),
}


class Scene(NamedTuple):
    """A photograph and its ground truth: boxes [M, 4] xyxy px, labels [M] rows of names."""

    image: Image.Image
    boxes: Tensor
    labels: Tensor
    names: tuple[str, ...]


class Positives(NamedTuple):
    """Priors that learn, a row for each truth they learn: boxes [P, 4] xyxy px of the photograph, target [P] row of the
    truth, predicted [P, 4] where the rule looks at predictions.
    """

    boxes: Tensor
    target: Tensor
    predicted: Tensor | None


def photograph() -> Scene:
    """scikit-learn's china.jpg, 640 x 427, with six objects. ImportError without scikit-learn."""
    try:
        from sklearn.datasets import load_sample_image
    except ImportError as error:
        raise ImportError("the photograph comes with scikit-learn: pip install 'torso[demo]'") from error
    rows = torch.tensor(_BOXES)
    return Scene(Image.fromarray(load_sample_image("china.jpg")), rows[:, :4].float(), rows[:, 4], NAMES)


def positives(rule: Rule, scene: Scene) -> Positives:
    """The assignment at the size at which the recipe's model sees the photograph, told in the photograph's pixels."""
    recipe = find(rule.recipe, "recipes")(num_classes=len(scene.names))
    model, assigner = recipe.get("model"), (rule.assigner or recipe.get("criterion").get("assigner")).build()
    priors, scale = _priors(model, rule.strides, scene.image)
    shown = scene.boxes * scale
    everything = torch.ones(1, len(shown), dtype=torch.bool)
    targets = Targets(shown[None], scene.labels[None], everything, ~everything)
    boxes, scores = made_up(priors, shown, scene.labels, len(scene.names))
    answer = assigner(priors, targets, boxes[None], scores[None])
    if isinstance(answer, Assignment):
        rows = (answer.target[0] >= 0).nonzero()[:, 0]
        target = answer.target[0][rows]
    else:
        counts = answer.weight[0] > 0
        rows, target = answer.prior[0][counts], answer.target[0][counts]
    predicted = boxes[rows] / scale if assigner.needs_predictions else None
    return Positives(priors.boxes[rows] / scale, target, predicted)


def made_up(priors: Priors, truth: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Boxes [N, 4] and scores [N, K] of a model half trained: each prior says a box six tenths of the way from its own
    to the truth that it overlaps most, and scores that truth's class by the IoU which this box has with it.
    """
    own = boxes_to_match(priors, 8.0)
    overlap, best = iou_matrix(own, truth).max(dim=1)
    wanted = torch.where(overlap[:, None] > 0, truth[best], own)
    boxes = torch.lerp(own, wanted, 0.6)
    fit = torch.where(overlap > 0, aligned_overlap(boxes, truth[best], "iou"), 0.0)
    scores = torch.full((len(own), classes), 0.01)
    return boxes, scores.scatter(1, labels[best][:, None], fit[:, None].clamp(0.01, 0.99))


def draw_priors(scene: Scene, found: Positives) -> Image.Image:
    """The photograph, dimmed, with the positive priors alone, each joined to its truth's centre."""
    image = scene.image.convert("RGB")
    image = Image.blend(image, Image.new("RGB", image.size), 0.5)  # cyan is not seen on a sky
    pen = ImageDraw.Draw(image)
    start, end = _centers(found.boxes), _centers(scene.boxes[found.target])
    for a, b in zip(start.tolist(), end.tolist(), strict=True):
        pen.line((*a, *b), fill=PRIOR_COLOUR, width=1)
    return draw(image, priors=found.boxes, size=0.5)


def figure(rule: Rule, scene: Scene) -> Image.Image:
    """The positive priors of a rule, what they predict where the rule asks, and the ground truth over both."""
    found = positives(rule, scene)
    image = draw_priors(scene, found)
    if found.predicted is not None:
        labels = scene.labels[found.target]
        said = Detections(found.predicted, torch.ones(len(labels)), labels, scene.names)
        image = draw(image, said, labels=False, size=0.4)
    return draw(image, truth=Truth(scene.boxes, scene.labels, scene.names), size=0.8)


def jpeg(image: Image.Image) -> bytes:
    """As the figures are stored: under 100 kB each."""
    out = io.BytesIO()
    image.save(out, "JPEG", quality=74, optimize=True)
    return out.getvalue()


def _priors(model: Part[Any], strides: tuple[int, ...], image: Image.Image) -> tuple[Priors, Tensor]:
    """The head's priors over the maps of that photograph, and the factors [4] from its pixels to the model's."""
    policy = model.get("input").build()
    height, width = policy.resized((image.height, image.width))
    scale = torch.tensor([width / image.width, height / image.height]).repeat(2)
    padded = policy.padded([(height, width)], 1)
    sizes = [(-(-padded[0] // s), -(-padded[1] // s)) for s in strides]
    generator = model.get("head").get("priors").build([(s, s) for s in strides])
    return generator(sizes, padded), scale


def _centers(boxes: Tensor) -> Tensor:
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def main(folder: str) -> None:
    """Draw every rule into the folder, one JPEG each."""
    where = Path(folder)
    where.mkdir(parents=True, exist_ok=True)
    scene = photograph()
    for name, rule in RULES.items():
        (where / f"{name}.jpg").write_bytes(jpeg(figure(rule, scene)))


if __name__ == "__main__":
    main(*sys.argv[1:])
