"""Boxes follow the pixels: rectangles are drawn, the image is transformed, and the rectangles are found again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from data.builders import draw
from PIL import Image

from torso.data.dataset import sample_rng, to_item
from torso.data.objects import Objects
from torso.data.sample import Sample, Transform
from torso.data.to_input import ToInput
from torso.data.transforms.horizontal_flip import HorizontalFlip
from torso.data.transforms.iou_crop import IoUCrop
from torso.data.transforms.letterbox import Letterbox
from torso.data.transforms.mixup import MixUp
from torso.data.transforms.mosaic import Mosaic
from torso.data.transforms.photometric import Photometric
from torso.data.transforms.resize_short import ResizeShort
from torso.data.transforms.scale_jitter import ScaleJitter
from torso.data.transforms.vertical_flip import VerticalFlip
from torso.data.transforms.zoom_out import ZoomOut
from torso.inputs.letterbox import Letterbox as LetterboxInput
from torso.inputs.short_side import ShortSide
from torso.parts import find, names, part

IMAGES = draw(12, seed=3, most=4)


def sample_of(number: int) -> Sample:
    drawn = IMAGES[number % len(IMAGES)]
    return Sample(
        image=drawn.image,
        objects=Objects(
            drawn.boxes.astype(np.float32), drawn.labels.astype(np.int64), np.zeros(len(drawn.labels), dtype=np.bool_)
        ),
        index=number,
        image_id=number + 1,
    )


def another(rng: np.random.Generator) -> Sample:
    return sample_of(int(rng.integers(len(IMAGES))))


def looks_like(pixels: np.ndarray, label: int) -> np.ndarray:
    """Where pixels [..., 3] have the colour of a label (its channel far above the others)."""
    ours = pixels[..., label].astype(int)
    rest = np.delete(pixels, label, axis=-1).astype(int).max(axis=-1)
    return ours - rest > 75


def assert_boxes_on_pixels(sample: Sample, slack: float = 1.6) -> None:
    """Every box is filled with its colour, and ends where the colour ends (or the image does)."""
    pixels = np.asarray(sample.image)
    height, width = sample.size_hw
    for box, label in zip(sample.boxes, sample.labels, strict=True):
        x1, y1, x2, y2 = box.tolist()
        assert 0 <= x1 < x2 <= width
        assert 0 <= y1 < y2 <= height
        inner = pixels[int(np.ceil(y1 + slack)) : int(y2 - slack), int(np.ceil(x1 + slack)) : int(x2 - slack)]
        assert looks_like(inner, label).all(), (box, label)
        left, right = int(x1 - slack) - 1, int(np.ceil(x2 + slack))
        above, below = int(y1 - slack) - 1, int(np.ceil(y2 + slack))
        my, mx = int((y1 + y2) / 2), int((x1 + x2) / 2)
        outside = [(my, left), (my, right), (above, mx), (below, mx)]
        inside = [pixels[y, x] for y, x in outside if 0 <= y < height and 0 <= x < width]
        assert not any(looks_like(pixel, label) for pixel in inside), (box, label)


GEOMETRIC: dict[str, Transform] = {
    "horizontal_flip": HorizontalFlip(probability=1.0),
    "vertical_flip": VerticalFlip(probability=1.0),
    "letterbox": Letterbox(size_hw=(70, 120)),
    "letterbox, enlarging": Letterbox(size_hw=(200, 200)),
    "resize_short": ResizeShort(short_sides=(60, 90, 130), longest=170),
    "scale_jitter": ScaleJitter(size_hw=(100, 100), low=0.4, high=2.0, min_visible=0.0),
    "iou_crop": IoUCrop(),
    "zoom_out": ZoomOut(probability=1.0),
    "to_input": ToInput(ShortSide(short=60, longest=100), 1),
}


@pytest.mark.parametrize("name", GEOMETRIC)
@pytest.mark.parametrize("number", range(6))
def test_boxes_follow_the_pixels(name: str, number: int) -> None:
    before = sample_of(number)
    after = GEOMETRIC[name](before, sample_rng(0, number, 0), another)
    assert_boxes_on_pixels(after)
    scale, offset = np.array(after.to_original[:2]), np.array(after.to_original[2:])
    back = (after.boxes.reshape(-1, 2, 2) * scale + offset).reshape(-1, 4)
    back = np.concatenate([np.minimum(back[:, :2], back[:, 2:]), np.maximum(back[:, :2], back[:, 2:])], axis=1)
    for box, label in zip(back, after.labels, strict=True):
        home = before.boxes[before.labels == label]
        inside = ((box[:2] >= home[:, :2] - 1e-3) & (box[2:] <= home[:, 2:] + 1e-3)).all(axis=1)
        assert inside.any(), "the way back must lead into the original box"
    if name not in ("scale_jitter", "iou_crop"):
        np.testing.assert_allclose(back, before.boxes, atol=1e-3)


@pytest.mark.parametrize("number", range(6))
def test_chain_keeps_boxes_on_pixels(number: int) -> None:
    """A chain as training has it; to_original goes back through all of it."""
    before = sample_of(number)
    rng = sample_rng(1, 0, number)
    sample = before
    for transform in (IoUCrop(), HorizontalFlip(), VerticalFlip(), Letterbox(size_hw=(150, 150))):
        sample = transform(sample, rng, another)
    assert_boxes_on_pixels(sample, slack=2.5)
    x, y = (sample.boxes[:, :2] + sample.boxes[:, 2:]).T / 2
    sx, sy, ox, oy = sample.to_original
    original = np.asarray(before.image)
    for px, py, label in zip(x * sx + ox, y * sy + oy, sample.labels, strict=True):
        assert looks_like(original[int(py), int(px)], label)


@pytest.mark.parametrize("number", range(6))
def test_mosaic(number: int) -> None:
    sample = Mosaic(size_hw=(160, 200), min_visible=0.0, min_side=3.0)(
        sample_of(number), sample_rng(2, 0, number), another
    )
    assert sample.size_hw == (160, 200) == sample.canvas_hw
    assert len(sample.boxes) > 2
    assert_boxes_on_pixels(sample)


def test_mixup_keeps_the_boxes_of_both() -> None:
    first, second = sample_of(0), sample_of(1)
    mixed = MixUp()(first, sample_rng(0, 0, 0), lambda rng: second)
    assert len(mixed.boxes) == len(first.boxes) + len(second.boxes)
    np.testing.assert_array_equal(mixed.boxes, np.concatenate([first.boxes, second.boxes]))
    a, b, both = (np.asarray(s.image).astype(int) for s in (first, second, mixed))
    assert (both >= np.minimum(a, b) - 1).all()
    assert (both <= np.maximum(a, b) + 1).all()
    alone = MixUp(alpha=0.01, min_share=0.4)(first, sample_rng(0, 0, 1), lambda rng: second)
    assert len(alone.boxes) in (len(first.boxes), len(second.boxes))


def flat(*colour: int) -> Sample:
    return replace(sample_of(0), image=Image.new("RGB", (8, 8), colour))


def test_photometric_changes_what_it_says() -> None:
    off = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0, "probability": 1.0}
    bright = [
        Photometric(**{**off, "brightness": 0.2})(flat(100, 100, 100), sample_rng(0, 0, i), another) for i in range(40)
    ]
    levels = np.array([np.asarray(sample.image)[0, 0] for sample in bright])
    assert (levels[:, 0] == levels[:, 1]).all()
    assert 49 <= levels.min() < 60
    assert 140 < levels.max() <= 151
    hues = [Photometric(**{**off, "hue": 0.5})(flat(150, 80, 90), sample_rng(0, 0, i), another) for i in range(40)]
    colours = np.array([np.asarray(sample.image)[0, 0] for sample in hues]).astype(float)
    assert np.abs(colours @ (0.299, 0.587, 0.114) - 102.07).max() < 1, "hue leaves the luma"
    assert len({int(colour.argmax()) for colour in colours}) == 3, "reddish becomes greenish and bluish as well"
    pale = [
        Photometric(**{**off, "saturation": 0.9})(flat(150, 80, 90), sample_rng(0, 0, i), another) for i in range(40)
    ]
    spread = np.array([np.ptp(np.asarray(sample.image)[0, 0]) for sample in pale])
    assert spread.min() < 20 < 100 < spread.max(), "from nearly grey to nearly twice as vivid"
    for one in ("saturation", "hue"):
        grey = Photometric(**{**off, one: 0.5})(flat(90, 90, 90), sample_rng(0, 0, 0), another)
        assert (np.asarray(grey.image) == 90).all()
    sample = sample_of(0)
    assert Photometric(probability=0.0)(sample, sample_rng(0, 0, 0), another) is sample


def test_boxes_are_clipped_and_dropped_by_the_stated_rule() -> None:
    sample = replace(
        sample_of(0),
        objects=Objects(
            np.array([[-10, 0, 30, 10], [-95, 0, 5, 10], [20, 20, 20.5, 40], [130, 0, 140, 9]], np.float32),
            np.arange(4),
            np.zeros(4, dtype=np.bool_),
        ),
    )
    assert sample.clipped().labels.tolist() == [0]
    assert sample.clipped().boxes.tolist() == [[0, 0, 30, 10]]
    assert sample.clipped(min_visible=0.0).labels.tolist() == [0, 1]
    assert sample.clipped(min_side=0.1, min_visible=0.0).labels.tolist() == [0, 1, 2]


def with_crowd(boxes: list[list[float]], crowd: list[bool]) -> Sample:
    """Labels number the boxes."""
    objects = Objects(np.array(boxes, np.float32), np.arange(len(boxes)), np.array(crowd, np.bool_))
    return replace(sample_of(0), objects=objects)


def test_a_crowd_stays_as_long_as_any_of_it_is_seen() -> None:
    """Without it what is left would be taught as background."""
    width = float(sample_of(0).image.width)
    boxes: list[list[float]] = [[-999, 0, 0.5, 50], [-40, 0, 0, 50], [width - 0.25, 0, width + 90, 9]]
    assert with_crowd(boxes, [True, True, True]).clipped().labels.tolist() == [0, 2]
    assert with_crowd(boxes, [True, True, True]).clipped().boxes[0].tolist() == [0, 0, 0.5, 50]
    assert with_crowd(boxes, [False, False, False]).clipped().labels.tolist() == []


@pytest.mark.parametrize(
    "transform", [IoUCrop(overlaps=(0.0,)), ScaleJitter(size_hw=(40, 40), low=1.5), Mosaic(size_hw=(64, 64))]
)
@pytest.mark.parametrize("seed", range(20))
def test_what_shows_of_a_crowd_is_marked_in_a_crop(transform: Transform, seed: int) -> None:
    """The crowd is the image's left part, which is white; no white pixel may be left without it."""
    height, width = sample_of(0).size_hw
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2] = 255
    boxes = [[0, 0, width // 2, height], [width * 0.7, height * 0.4, width * 0.8, height * 0.5]]
    sample = replace(with_crowd(boxes, [True, False]), image=Image.fromarray(pixels))
    empty = sample.keep(np.zeros(2, np.bool_))
    black = replace(empty, image=Image.new("RGB", (width, height)))
    after = transform(sample, sample_rng(5, 0, seed), lambda rng: black)
    left = np.asarray(after.image).min(axis=2) > 250
    for x1, y1, x2, y2 in np.floor(after.boxes[after.crowd] + (-1, -1, 2, 2)).astype(int).tolist():
        left = left.copy()
        left[max(y1, 0) : y2, max(x1, 0) : x2] = False
    assert not left.any()


def test_a_crowd_does_not_make_a_window_good() -> None:
    """Windows are chosen for what can be learnt from them: only an object gives the overlap, and a centre."""
    height, width = sample_of(0).size_hw
    crop = IoUCrop(overlaps=(0.7,), min_scale=0.9)
    whole = [0.0, 0.0, float(width), float(height)]
    alone = with_crowd([whole], [True])
    tiny = with_crowd([whole, [10, 10, 14, 14]], [True, False])
    object_ = with_crowd([whole], [False])
    for seed in range(10):
        assert crop(alone, sample_rng(5, 0, seed), another) is alone
        assert crop(tiny, sample_rng(5, 0, seed), another) is tiny
        assert crop(object_, sample_rng(5, 0, seed), another) is not object_


def test_fitting_does_not_undo_a_jitter_of_scale() -> None:
    """An image jittered to half of its canvas is still half of the model's input after the fit."""
    half = ScaleJitter(size_hw=(100, 100), low=0.5, high=0.5)(sample_of(0), sample_rng(0, 0, 0), another)
    fitted = ToInput(LetterboxInput(size_hw=(200, 200)), 8)(half, sample_rng(0, 0, 0), another)
    assert fitted.canvas_hw == (200, 200)
    assert max(fitted.size_hw) == 100
    assert_boxes_on_pixels(fitted, slack=2.5)


def test_mosaic_and_mixup_draw_from_the_set_alone_by_their_generator() -> None:
    for transform in (Mosaic(size_hw=(64, 64)), MixUp()):
        one, two, other = (transform(sample_of(0), sample_rng(4, epoch, 7), another) for epoch in (1, 1, 2))
        assert one.image.tobytes() == two.image.tobytes() != other.image.tobytes()
        np.testing.assert_array_equal(one.boxes, two.boxes)


@pytest.mark.parametrize("name", names("transforms"))
def test_every_transform(name: str) -> None:
    """Configured as a part, repeatable, leaves its input alone, takes an image without boxes, fits the tensors; one
    that asks for other images says so."""
    transform = part(find(name, "transforms")).build()
    assert isinstance(transform, Transform)
    asked = []
    transform(sample_of(2), sample_rng(9, 0, 5), lambda rng: asked.append(1) or another(rng))
    assert bool(asked) == transform.mixes
    for sample in (sample_of(2), sample_of(2).keep(np.zeros(len(sample_of(2).boxes), dtype=np.bool_))):
        pixels, boxes = sample.image.tobytes(), sample.boxes.copy()
        one, two = (transform(sample, sample_rng(9, 0, 5), another) for _ in range(2))
        assert one.image.tobytes() == two.image.tobytes()
        np.testing.assert_array_equal(one.boxes, two.boxes)
        assert sample.image.tobytes() == pixels
        np.testing.assert_array_equal(sample.boxes, boxes)
        item = to_item(one)
        assert item.pixels.shape == (3, *one.size_hw)
        assert item.objects is one.objects
        assert len(one.boxes) == len(one.labels) == len(one.crowd)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: HorizontalFlip(probability=1.5), "HorizontalFlip.probability: expected a number from 0 to 1, got 1.5"),
        (lambda: Letterbox(size_hw=(0, 5)), "Letterbox.size_hw: expected 2 values"),
        (lambda: ResizeShort(short_sides=()), "ResizeShort.short_sides: expected a list of"),
        (lambda: ScaleJitter(low=2.0, high=1.0), "ScaleJitter.high: expected a number of at least low"),
        (lambda: IoUCrop(min_scale=2.0), "IoUCrop.min_scale: expected"),
        (lambda: Photometric(hue=2.0), "Photometric.hue: expected a number from 0 to 0.5"),
        (lambda: ZoomOut(largest=0.5), "ZoomOut.largest: expected a number of at least 1"),
        (lambda: Mosaic(fill=300), "Mosaic.fill: expected a whole number from 0 to 255"),
        (lambda: MixUp(alpha=0.0), "MixUp.alpha: expected a number above 0"),
    ],
)
def test_wrong_values(make: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()  # type: ignore[operator]
