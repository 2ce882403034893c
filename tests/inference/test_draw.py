"""Drawing: everything stays in the image, kinds never share a colour, the input is left alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from torso.inference.detections import Detections
from torso.inference.draw import (
    PRIOR_COLOUR,
    TRUTH_COLOUR,
    Truth,
    _Canvas,
    class_colour,
    draw,
    side_by_side,
)
from torso.types import Priors

NAMES = ("cat", "a class with a very long name", "bird")
BOXES = torch.tensor([[10.0, 10, 60, 50], [-20.0, -20, 30, 400], [80.0, 40, 119, 99]])


def found() -> Detections:
    return Detections(BOXES, torch.tensor([0.9, 0.6, 0.3]), torch.tensor([0, 1, 2]), NAMES)


def colours(image: Image.Image) -> set[tuple[int, ...]]:
    return {tuple(pixel) for pixel in np.asarray(image).reshape(-1, 3).tolist()}


def grey(width: int = 120, height: int = 100) -> Image.Image:
    return Image.new("RGB", (width, height), (90, 90, 90))


def test_each_kind_has_its_own_colour() -> None:
    palette = {class_colour(label) for label in range(200)}
    assert len(palette) == 16
    assert TRUTH_COLOUR not in palette
    assert PRIOR_COLOUR not in palette
    classes = {class_colour(label) for label in range(3)}
    assert colours(draw(grey(), found())) >= classes
    truth = colours(draw(grey(), truth=Truth(BOXES, torch.tensor([0, 1, 2]), NAMES)))
    assert TRUTH_COLOUR in truth
    assert not truth & classes
    priors = colours(draw(grey(), priors=BOXES))
    assert PRIOR_COLOUR in priors
    assert TRUTH_COLOUR not in priors


def test_truth_is_dashed_and_predictions_are_solid() -> None:
    box = torch.tensor([[20.0, 20, 380, 380]])
    one = Detections(box, torch.tensor([0.5]), torch.tensor([0]), NAMES)
    solid = np.asarray(draw(grey(480, 480), one, labels=False))[20, 30:370]
    dashed = np.asarray(draw(grey(480, 480), truth=Truth(box), labels=False))[20, 30:370]
    assert (solid == class_colour(0)).all()
    share = (dashed == TRUTH_COLOUR).all(axis=1).mean()
    assert 0.3 < share < 0.8


@pytest.mark.parametrize("size", [(24, 24), (120, 100), (2000, 60), (1333, 800)])
def test_labels_stay_inside_the_image(size: tuple[int, int]) -> None:
    canvas = _Canvas(grey(*size), 448, 1.0, None)
    scale = torch.tensor([size[0] / 120, size[1] / 100]).repeat(2)
    canvas.predictions(Detections(BOXES * scale, found().scores, found().labels, ("a", "bb", "ccc")), labels=True)
    canvas.truth(Truth(BOXES * scale, torch.tensor([0, 1, 2]), ("a", "bb", "ccc")), labels=True)
    image = canvas.finish()
    assert len(canvas.taken) == 6
    for x1, y1, x2, y2 in canvas.taken:
        assert x1 >= 0
        assert y1 >= 0
        assert x2 <= image.width
        assert y2 <= image.height


def test_lines_and_letters_grow_with_the_image_and_tiny_ones_are_enlarged() -> None:
    small, large = _Canvas(grey(640, 480), 448, 1.0, None), _Canvas(grey(4000, 3000), 448, 1.0, None)
    assert large.line > 3 * small.line
    assert large.font.size > 3 * small.font.size
    assert _Canvas(grey(640, 480), 448, 2.0, None).font.size == pytest.approx(2 * small.font.size, abs=1)
    assert draw(grey(), found()).size == (480, 400)
    assert draw(grey(), found(), min_side=0).size == (120, 100)
    assert draw(grey(640, 480), found()).size == (640, 480)


def test_labels_do_not_cover_each_other_where_there_is_room() -> None:
    same = torch.tensor([[200.0, 200, 300, 300]]).repeat(4, 1)
    canvas = _Canvas(grey(640, 480), 448, 1.0, None)
    canvas.predictions(Detections(same, torch.linspace(0.9, 0.5, 4), torch.zeros(4).long(), NAMES), labels=True)
    canvas.finish()
    for n, (ax1, ay1, ax2, ay2) in enumerate(canvas.taken):
        for bx1, by1, bx2, by2 in canvas.taken[:n]:
            assert ax1 >= bx2 or bx1 >= ax2 or ay1 >= by2 or by1 >= ay2


def test_nothing_given_is_changed() -> None:
    image, detections = grey(640, 480), found()
    before = image.tobytes(), detections.boxes.clone()
    draw(image, detections, truth=Truth(BOXES), priors=BOXES)
    assert image.tobytes() == before[0]
    assert torch.equal(detections.boxes, before[1])


def test_priors_of_the_type_are_drawn_as_their_boxes() -> None:
    stride = torch.tensor([[8.0, 8.0]])
    priors = Priors(torch.tensor([[50.0, 50.0]]), torch.tensor([[40.0, 20.0]]), stride, ((1, 1, 1),))
    assert draw(grey(), priors=priors).tobytes() == draw(grey(), priors=priors.boxes).tobytes()


def test_masks_tint_the_image() -> None:
    masks = torch.zeros(1, 100, 120, dtype=torch.bool)
    masks[0, 30:60, 30:60] = True
    one = Detections(torch.tensor([[30.0, 30, 60, 60]]), torch.tensor([0.5]), torch.tensor([0]), NAMES, masks=masks)
    pixels = np.asarray(draw(grey(), one, labels=False, min_side=0))
    assert pixels[45, 45, 0] > 120
    assert pixels[80, 80].tolist() == [90, 90, 90]


def test_nothing_to_draw_and_crowd_truth() -> None:
    assert draw(grey(640, 480), Detections.empty(NAMES)).tobytes() == grey(640, 480).tobytes()
    crowd = Truth(BOXES[:1], torch.tensor([0]), NAMES, torch.tensor([True]))
    assert draw(grey(), truth=crowd).tobytes() != draw(grey(), truth=crowd._replace(crowd=None)).tobytes()


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match="was wanted"):
        draw(torch.zeros(2, 3, 4, 4))


def test_a_size_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="size: expected a number above 0"):
        draw(grey(), size=0)


def test_side_by_side() -> None:
    assert side_by_side([grey(10, 20), grey(30, 5)], gap=4).size == (44, 20)
    with pytest.raises(ValueError, match="at least one"):
        side_by_side([])
