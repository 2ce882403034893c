"""Images for the report: ground truth beside predictions for the best, the weakest and some random images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from torso.evaluation.confusion import image_f1
from torso.evaluation.results import Results
from torso.evaluation.truth import Floats, GroundTruth, Ints
from torso.images import read_image
from torso.inference.detections import Detections
from torso.inference.draw import Truth, draw, side_by_side

_LONGEST = 640  # px of a sample image: enough to see, small enough to mail
_LETTERS = 1.8  # a pair is shown at about half its size on the page


@dataclass(frozen=True)
class Sample:
    """One image of the report: its group, file (inside the report folder) and what it shows."""

    group: str
    file: str
    name: str
    f1: float
    objects: int
    found: int


def choose_images(scores: Floats, objects: Ints, each: int, seed: int) -> dict[str, list[int]]:
    """Rows of the best, the weakest and random images, none twice; of equals those with more objects come first."""
    order = np.lexsort((-objects, -scores))
    best = order[:each].tolist()
    rest = order[each:]
    weakest = rest[np.lexsort((-objects[rest], scores[rest]))][:each].tolist()
    left = np.array(sorted(set(range(len(scores))) - set(best) - set(weakest)), dtype=np.int64)
    picked = np.random.default_rng(seed).permutation(left)[:each].tolist()
    return {group: rows for group, rows in (("Best", best), ("Weakest", weakest), ("Random", picked)) if rows}


def draw_samples(
    folder: Path,
    truth: GroundTruth,
    results: Results,
    image_root: Path,
    *,
    score: float,
    each: int = 4,
    seed: int = 0,
) -> list[Sample]:
    """Writes the pairs as JPEG into folder/samples; score: predictions below it are not drawn.

    ValueError where an image cannot be read: it names the file.
    """
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    f1 = image_f1(truth, results, score=score)
    objects = np.bincount(truth.image[~truth.crowd], minlength=len(truth.image_ids))
    samples = []
    for group, rows in choose_images(f1, objects, each, seed).items():
        for place, row in enumerate(rows, start=1):
            file = f"samples/{group.lower()}_{place}.jpg"
            found = _found(truth, results, row, score)
            _pair(image_root / truth.file_names[row], truth, row, found).save(folder / file, quality=88)
            samples.append(Sample(group, file, truth.file_names[row], float(f1[row]), int(objects[row]), len(found)))
    return samples


def _pair(path: Path, truth: GroundTruth, row: int, found: Detections) -> Image.Image:
    image = read_image(path)
    scale = min(1.0, _LONGEST / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = image if scale == 1.0 else image.resize(size, Image.Resampling.LANCZOS)
    here = truth.image == row
    objects = Truth(
        boxes=torch.from_numpy(truth.xyxy[here]) * scale,
        labels=torch.from_numpy(truth.label[here]),
        names=truth.names,
        crowd=torch.from_numpy(truth.crowd[here]),
    )
    scaled = Detections(found.boxes * scale, found.scores, found.labels, found.names)
    return side_by_side([draw(small, truth=objects, size=_LETTERS), draw(small, scaled, size=_LETTERS)])


def _found(truth: GroundTruth, results: Results, row: int, score: float) -> Detections:
    rows = np.flatnonzero((results.image == row) & (results.score >= score))
    rows = rows[np.argsort(-results.score[rows], kind="stable")]
    return Detections(
        boxes=torch.from_numpy(results.xyxy[rows]).float(),
        scores=torch.from_numpy(results.score[rows]).float().clamp(0, 1),  # COCO results may hold other scales
        labels=torch.from_numpy(results.label[rows]),
        names=truth.names,
    )
