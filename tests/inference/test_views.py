"""Prediction over tiles, scales and mirrored images, with toys whose answer is known, and with a real detector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import nn

from torso.backbones.timm import Timm
from torso.inference.predictor import Predictor
from torso.inference.views import joined, mapped
from torso.inputs._base import Input
from torso.inputs.letterbox import Letterbox
from torso.inputs.pyramid import Pyramid
from torso.inputs.tiles import Tiles
from torso.models.detector import Detector
from torso.necks.fpn import FPN
from torso.parts import part
from torso.suppression._base import Suppression
from torso.suppression.nms import NMS
from torso.suppression.soft_nms import SoftNMS
from torso.types import Candidates, Images
from torso.zoo.fcos import FCOSHead

ROWS = 30


class Blobs(nn.Module):
    """Finds every bright region, once as it is and once, less sure, a pixel off: NMS must remove that one."""

    has_third_stage = False

    def __init__(self, policy: Input | None = None, suppression: Suppression | None = None) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, 3, 1, 1), persistent=False)
        self.input = policy or Letterbox(size_hw=(64, 64))
        self.suppression = suppression or NMS()
        self.multiple, self.names = 32, ("spot",)
        self.shapes: list[tuple[int, ...]] = []

    def candidates(self, images: Images) -> Candidates:
        self.shapes.append(tuple(images.pixels.shape))
        boxes = torch.zeros(len(images.pixels), ROWS, 4)
        scores = torch.zeros(len(images.pixels), ROWS)
        for row, pixels in enumerate(images.pixels):
            regions = ndimage.find_objects(ndimage.label(pixels[0].numpy() > 128)[0])
            found = [[s[1].start, s[0].start, s[1].stop, s[0].stop] for s in regions]
            for number, box in enumerate(torch.tensor(found).float().view(-1, 4)):
                boxes[row, 2 * number], scores[row, 2 * number] = box, 0.9 - number / 100
                boxes[row, 2 * number + 1], scores[row, 2 * number + 1] = box + 1, 0.4
        empty = torch.zeros(boxes.shape[:2], dtype=torch.int64)
        return Candidates(boxes, scores, empty, empty)

    def detect(self, images: Images) -> Candidates:
        return self.suppression(self.candidates(images))


def make_image(width: int, height: int, *boxes: tuple[int, int, int, int]) -> Image.Image:
    image = Image.new("RGB", (width, height))
    for box in boxes:
        image.paste((255, 255, 255), box)
    return image


def boxes_of(model: Any, image: Image.Image, **settings: Any) -> list[list[float]]:
    found = Predictor(model, **settings)([image])[0]
    return sorted(found.boxes.tolist())


@pytest.mark.parametrize("merge", ["union", "suppression"])
@pytest.mark.parametrize("batch_size", [1, 3, 50])
def test_an_object_inside_one_tile_is_found_as_in_the_full_image(merge: Any, batch_size: int) -> None:
    image = make_image(150, 150, (5, 6, 20, 30), (90, 95, 100, 100), (120, 3, 140, 9))
    full = boxes_of(Blobs(Letterbox(size_hw=(150, 150))), image)
    assert full == [[5, 6, 20, 30], [90, 95, 100, 100], [120, 3, 140, 9]]
    tiles = Tiles(size_hw=(64, 64), overlap=0.2, whole=False, merge=merge)
    assert boxes_of(Blobs(), image, tiles=tiles, batch_size=batch_size) == full


@pytest.mark.parametrize("whole", [False, True])
def test_an_object_cut_by_a_seam_comes_back_as_one_box(whole: bool) -> None:
    tiles = Tiles(size_hw=(64, 64), overlap=0.25, whole=whole)  # tiles at 0, 48, 96 ...
    side = [(40, 10, 76, 30)]  # across the seam of the first two tiles
    corner = [(38, 38, 75, 75)]  # across four
    for cut in (side, corner):
        found = Predictor(Blobs(), tiles=tiles)([make_image(160, 160, *cut)])[0]
        assert len(found) == 1
        assert torch.allclose(found.boxes[0], torch.tensor(cut[0]).float(), atol=3 if whole else 0.01)


def test_one_larger_than_every_tile_comes_from_the_whole_image() -> None:
    large = (10, 20, 140, 130)
    (found,) = boxes_of(Blobs(), make_image(160, 160, large), tiles=64)
    assert np.allclose(found, large, atol=3)


def test_suppression_in_place_of_union_leaves_pieces() -> None:
    tiles = Tiles(size_hw=(64, 64), overlap=0.25, whole=False, merge="suppression")
    assert len(boxes_of(Blobs(), make_image(112, 64, (30, 10, 90, 30)), tiles=tiles)) == 2


def test_a_image_smaller_than_a_tile_is_predicted_as_it_is() -> None:
    image = make_image(40, 60, (4, 5, 20, 30))
    for merge in ("union", "suppression"):
        model = Blobs()
        tiled = Predictor(model, tiles=Tiles(size_hw=(64, 64), merge=merge))([image])[0]
        assert torch.equal(tiled.boxes, Predictor(Blobs())([image])[0].boxes)
        assert model.shapes == [(1, 3, 64, 64)]


def test_tiles_of_several_images_run_together() -> None:
    model = Blobs()
    images = [make_image(110 + i, 64, (i, i, 9 + i, 9 + i)) for i in range(3)]
    tiles = Tiles(size_hw=(64, 64), overlap=0.2)
    found = Predictor(model, tiles=tiles, batch_size=4)(images)
    assert [f.boxes[0].tolist() for f in found] == [[i, i, 9 + i, 9 + i] for i in range(3)]
    assert [shape[0] for shape in model.shapes] == [4, 4, 1], "two tiles and the whole of each"


def test_a_large_image_has_room_for_more_than_one_tiles_objects() -> None:
    spots = [(8 + 32 * (i % 8), 8 + 32 * (i // 8), 12 + 32 * (i % 8), 12 + 32 * (i // 8)) for i in range(64)]
    for merge in ("union", "suppression"):
        tiles = Tiles(size_hw=(64, 64), overlap=0.0, whole=False, merge=merge)
        model = Blobs(suppression=NMS(max_detections=4, iou_threshold=0.3))
        assert len(boxes_of(model, make_image(256, 256, *spots), tiles=tiles)) == 64


def test_an_object_and_its_mirror_image() -> None:
    image = make_image(64, 64, (4, 8, 20, 40), (44, 8, 60, 40))
    found = boxes_of(Blobs(), image, pyramid=Pyramid(scales=(1.0,), flip=True))
    mirrored = sorted([64 - x2, y1, 64 - x1, y2] for x1, y1, x2, y2 in found)
    assert found == mirrored == [[4, 8, 20, 40], [44, 8, 60, 40]]


def test_scales_bring_their_boxes_back() -> None:
    image = make_image(64, 48, (4, 8, 24, 40))
    found = Predictor(Blobs(), pyramid=(0.5, 1.0, 2.0))([image])[0]
    assert len(found) == 1
    assert torch.allclose(found.boxes[0], torch.tensor([4.0, 8, 24, 40]), atol=2)


def test_a_scale_answers_only_for_its_range() -> None:
    image = make_image(64, 64, (4, 8, 10, 14), (20, 20, 60, 60))
    small = Pyramid(scales=(1.0,), ranges=((0.0, 16.0),))
    assert boxes_of(Blobs(), image, pyramid=small) == [[4, 8, 10, 14]]
    parted = Pyramid(scales=(1.0, 2.0), ranges=((16.0, 1e5), (0.0, 16.0)))
    assert len(boxes_of(Blobs(), image, pyramid=parted)) == 2


def test_both_together() -> None:
    tiles, pyramid = Tiles(size_hw=(64, 64), overlap=0.25), Pyramid(scales=(1.0, 2.0), flip=True)
    (box,) = Predictor(Blobs(), tiles=tiles, pyramid=pyramid)([make_image(160, 100, (40, 10, 76, 30))])[0].boxes
    assert torch.allclose(box, torch.tensor([40.0, 10, 76, 30]), atol=3)


@pytest.fixture(scope="module")
def detector() -> Detector:
    torch.manual_seed(0)
    return Detector(
        backbone=part(Timm, name="test_resnet"),
        neck=part(FPN, channels=16, finest=8, coarsest=32),
        head=part(FCOSHead, num_classes=2, finest=8, coarsest=32, channels=32, tower=1, score_threshold=0.0),
        input=part(Letterbox, size_hw=(96, 96)),
    ).eval()


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (80, 110, 3), dtype=np.uint8)


def test_one_scale_without_flip_is_the_plain_prediction(detector: Detector, noise: np.ndarray) -> None:
    plain = detector.predict(noise)
    for settings in ({"pyramid": (1.0,)}, {"tiles": 110}, {"tiles": 110, "pyramid": (1.0,)}):
        again = detector.predict(noise, **settings)
        assert torch.equal(plain.boxes, again.boxes)
        assert torch.equal(plain.scores, again.scores)
    assert len(plain) == 100


@pytest.mark.parametrize("make", [NMS, SoftNMS])
def test_the_answer_is_suppression_of_the_concatenation(
    detector: Detector, noise: np.ndarray, make: Callable[[], Suppression]
) -> None:
    pyramid = Pyramid(scales=(0.5, 1.0), flip=True, inner=part(Letterbox, size_hw=(96, 96)))
    before = detector.suppression
    detector.suppression = make()
    got = Predictor(detector, pyramid=pyramid, batch_size=2)([noise])[0]
    parts = []
    for view in pyramid.views((80, 110), detector.multiple):
        shown = Image.fromarray(noise).resize(view.size_hw[::-1], Image.Resampling.BILINEAR)
        pixels = torch.zeros(1, 3, *view.canvas_hw)
        content = torch.from_numpy(np.array(shown)).permute(2, 0, 1)
        pixels[0, :, : view.size_hw[0], : view.size_hw[1]] = content.flip(-1) if view.flipped else content
        images = Images(pixels, torch.tensor([view.size_hw]).float(), torch.zeros(1, 4))
        with torch.no_grad():
            parts.append(mapped(detector.candidates(images), view, (80, 110)))
    wanted = detector.suppression(joined(parts))
    detector.suppression = before
    assert torch.allclose(got.scores, wanted.scores[0][: len(got)], atol=1e-5)
    assert torch.allclose(got.boxes, wanted.boxes[0][: len(got)], atol=1e-2)


def test_tiles_in_any_batch(detector: Detector, noise: np.ndarray) -> None:
    one, many = (Predictor(detector, tiles=48, batch_size=size)([noise])[0] for size in (1, 5))
    assert len(one) == len(many) > 100
    assert torch.allclose(one.scores, many.scores, atol=1e-5)


def test_views_come_together_without_levels() -> None:
    """One object, on another level of the larger view: kept once, though a single view would keep both."""
    box, score, zero = torch.tensor([[[8.0, 8, 40, 40]]]), torch.tensor([[0.9]]), torch.zeros(1, 1, dtype=torch.int64)
    parts = [Candidates(box, score - 0.1 * level, zero, zero, None, zero + level) for level in (0, 1)]
    kept = NMS()(joined(parts))
    assert (kept.scores > 0).sum() == 1
    one_view = joined(parts)._replace(level=torch.tensor([[0, 1]]))
    assert (NMS()(one_view).scores > 0).sum() == 2
