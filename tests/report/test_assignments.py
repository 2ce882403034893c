"""Images of assigners: every positive prior is drawn, every rule has its figure in docs/, and it is the code's."""

from __future__ import annotations

import io
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from torso.inference.draw import PRIOR_COLOUR, TRUTH_COLOUR, class_colour
from torso.parts import find, names
from torso.report.assignments import NAMES, RULES, Positives, Scene, draw_priors, figure, jpeg, photograph, positives
from torso.training.assigners._base import Assigner

DOCS = Path(__file__).parents[2] / "docs"


@cache
def scene() -> Scene:
    pytest.importorskip("sklearn", reason="the photograph comes with scikit-learn")
    return photograph()


@cache
def found(name: str) -> Positives:
    return positives(RULES[name], scene())


@pytest.mark.parametrize("name", RULES)
def test_every_positive_prior_is_drawn(name: str) -> None:
    here = found(name)
    assert sorted(set(here.target.tolist())) == list(range(len(scene().boxes))), "a truth has no prior"
    pixels = np.asarray(draw_priors(scene(), here))
    centers = ((here.boxes[:, :2] + here.boxes[:, 2:]) / 2).round().long()
    near = [pixels[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].reshape(-1, 3) for x, y in centers.tolist()]
    drawn = [bool((one == PRIOR_COLOUR).all(-1).any()) for one in near if len(one)]
    assert drawn
    assert all(drawn)


def largest_difference(a: bytes, b: bytes) -> float:
    """Of two images, the mean over a square of 16 px where they differ most: decoders differ by 1 or so."""
    first, second = (np.asarray(Image.open(io.BytesIO(x)), dtype=np.float32)[:416] for x in (a, b))
    assert first.shape == second.shape
    squares = np.abs(first - second).mean(-1).reshape(26, 16, 40, 16)
    return float(squares.mean((1, 3)).max())


def test_one_prior_fewer_is_another_image() -> None:
    here = found("ssd")
    fewer = Positives(here.boxes[1:], here.target[1:], None)
    assert largest_difference(jpeg(draw_priors(scene(), here)), jpeg(draw_priors(scene(), fewer))) > 4


def test_truth_priors_and_predictions_never_share_a_colour() -> None:
    used = [TRUTH_COLOUR, PRIOR_COLOUR, *(class_colour(k) for k in range(len(NAMES)))]
    assert len(set(used)) == len(used)
    pixels = np.asarray(figure(RULES["task_aligned"], scene()))
    for colour in used:
        assert (pixels == colour).all(-1).sum() > 20, colour


@pytest.mark.parametrize("name", RULES)
def test_the_figures_in_the_docs_are_these(name: str) -> None:
    path = DOCS / "figures" / "assigners" / f"{name}.jpg"
    assert path.stat().st_size < 100_000
    difference = largest_difference(path.read_bytes(), jpeg(figure(RULES[name], scene())))
    assert difference < 4, "draw them again: python -m torso.report.assignments docs/figures/assigners"


def test_every_rule_of_dense_heads_stands_in_one_familys_page() -> None:
    pages = [page.read_text(encoding="utf-8") for page in sorted((DOCS / "assigners").glob("*.md"))]
    shown = [name for page in pages for name in re.findall(r"\(\.\./figures/assigners/(\w+)\.jpg\)", page)]
    assert sorted(shown) == sorted(RULES)
    rules = {n for n in names("assigners") if issubclass(find(n, "assigners"), Assigner)}
    assert rules == set(RULES), "draw the new rule: add it to RULES of torso.report.assignments"


def test_predictions_belong_to_rules_that_look_at_them() -> None:
    asks = {name for name in RULES if found(name).predicted is not None}
    assert asks == {"paa", "simota", "task_aligned", "yolo_v2", "yolo_v3"}
    for name in asks:
        predicted = found(name).predicted
        assert predicted is not None
        assert torch.isfinite(predicted).all()
