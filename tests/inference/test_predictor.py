"""The predictor: boxes come back in original pixels, in order, whatever the batch; the model is left as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from torso.backbones.timm import Timm
from torso.inference.detections import Detections
from torso.inference.predictor import Predictor, evaluating
from torso.inputs.letterbox import Letterbox
from torso.inputs.short_side import ShortSide
from torso.models.detector import Detector
from torso.necks.fpn import FPN
from torso.parts import part
from torso.types import Candidates, Images
from torso.zoo.fcos import FCOSHead


class BrightBox(nn.Module):
    """Finds the tight box of bright pixels of each image, at input size, and counts how it was called."""

    has_third_stage = False

    def __init__(self, policy: Any = None, variance: bool = False) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, 3, 1, 1), persistent=False)
        self.input = policy or Letterbox(size_hw=(64, 64))
        self.multiple, self.names, self.variance = 32, ("dark", "bright"), variance
        self.shapes: list[tuple[int, ...]] = []
        self.modes: list[bool] = []

    def detect(self, images: Images) -> Candidates:
        self.shapes.append(tuple(images.pixels.shape))
        self.modes.append(self.training)
        boxes = torch.stack([self._box(p) for p in images.pixels])
        count = len(boxes)
        rows = torch.stack([boxes, torch.zeros_like(boxes), boxes], dim=1)
        scores = torch.tensor([0.9, 0.375, 0.0]).repeat(count, 1)
        labels = torch.tensor([1, 0, 0]).repeat(count, 1)
        spread = torch.ones_like(rows) if self.variance else None
        return Candidates(rows, scores, labels, torch.zeros(count, 3, dtype=torch.long), spread)

    @staticmethod
    def _box(pixels: Tensor) -> Tensor:
        y, x = (pixels[0] > 128).nonzero().unbind(1)
        return torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1]).float()


def make_image(width: int, height: int, box: tuple[int, int, int, int]) -> Image.Image:
    image = Image.new("RGB", (width, height))
    image.paste((255, 255, 255), box)
    return image


def test_boxes_come_back_in_original_pixels() -> None:
    model = BrightBox(variance=True)
    found = Predictor(model)([make_image(128, 256, (32, 64, 96, 192))])[0]  # the letterbox shrinks it four times
    assert torch.allclose(found.boxes[0], torch.tensor([32.0, 64.0, 96.0, 192.0]), atol=4)
    assert found.image_size_hw == (256, 128)
    assert found.names == ("dark", "bright")
    assert found.class_name(0) == "bright"
    assert len(found) == 2, "the row of score 0 is empty and must not come back"
    assert found.variance is not None
    assert torch.allclose(found.variance, torch.full((2, 4), 16.0)), "px^2 grow with the square of the scale"


@pytest.mark.parametrize(("threshold", "count"), [(0.0, 2), (0.375, 2), (0.5, 1), (1.0, 0)])
def test_score_threshold_leaves_out_what_is_below(threshold: float, count: int) -> None:
    assert len(Predictor(BrightBox(), score_threshold=threshold)([make_image(64, 64, (8, 8, 32, 32))])[0]) == count


def test_order_is_kept_when_shapes_are_mixed() -> None:
    model = BrightBox(ShortSide(short=64, longest=128))
    sizes = [(64, 64), (128, 64), (64, 64), (64, 128), (64, 64), (128, 64), (64, 64)]
    images = [make_image(w, h, (i, i, i + 20, i + 30)) for i, (w, h) in enumerate(sizes)]
    found = Predictor(model, batch_size=2)(images)
    assert [f.boxes[0].tolist() for f in found] == [[i, i, i + 20, i + 30] for i in range(7)]
    assert sorted(model.shapes) == sorted([(2, 3, 64, 64), (2, 3, 64, 64), (2, 3, 64, 128), (1, 3, 128, 64)]), (
        "images of one shape run together, and no batch mixes shapes"
    )


def test_stream_reads_lazily_and_waits_only_so_long() -> None:
    read: list[int] = []

    def sources() -> Iterator[Image.Image]:
        for i in range(60):
            read.append(i)
            yield make_image(128, 64, (1, 1, 9, 9)) if i == 0 else make_image(64, 64, (1, 1, 9, 9))

    stream = Predictor(BrightBox(ShortSide(short=64, longest=128)), batch_size=2).stream(sources())
    next(stream)
    assert len(read) < 20, "one image of a rare shape must not hold back all others"
    assert len(list(stream)) == 59


def test_every_kind_of_source(tmp_path: Path) -> None:
    image = make_image(64, 64, (8, 8, 32, 40))
    image.save(tmp_path / "a.png")
    array = np.asarray(image)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    found = Predictor(BrightBox(), batch_size=5)([tmp_path / "a.png", str(tmp_path / "a.png"), image, array, tensor])
    assert [f.boxes[0].tolist() for f in found] == [[8, 8, 32, 40]] * 5
    assert [f.path for f in found] == [tmp_path / "a.png", str(tmp_path / "a.png"), None, None, None]
    assert Predictor(BrightBox())([]) == []


def test_unreadable_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"bad\.jpg: not an image"):
        Predictor(BrightBox())([tmp_path / "bad.jpg"])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"batch_size": 0}, "batch_size: expected a whole number of at least 1, got 0"),
        ({"score_threshold": 1.5}, "1.5"),
        ({"device": "gpu"}, "'gpu'"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Predictor(BrightBox(), **settings)


def test_modes_are_restored_module_by_module() -> None:
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.BatchNorm2d(2), nn.Dropout()))
    model[1][0].eval()
    with evaluating(model):
        assert not any(m.training for m in model.modules())
    assert [m.training for m in model.modules()] == [True, True, True, False, True]


@pytest.fixture(scope="module")
def detector() -> Detector:
    torch.manual_seed(0)
    return Detector(
        backbone=part(Timm, name="test_resnet"),
        neck=part(FPN, channels=16, finest=8, coarsest=32),
        head=part(FCOSHead, num_classes=2, finest=8, coarsest=32, channels=32, tower=1, score_threshold=0.0),
        input=part(Letterbox, size_hw=(96, 96)),
    )


def test_a_real_detector_gives_the_same_in_any_batch(detector: Detector) -> None:
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 255, (60 + 20 * i, 90, 3), dtype=np.uint8) for i in range(3)]
    detector.train()
    before = {k: v.clone() for k, v in detector.state_dict().items()}
    alone = Predictor(detector)(images)
    again = Predictor(detector)(images)
    together = Predictor(detector, batch_size=3)(images)
    assert detector.training
    assert all(torch.equal(v, before[k]) for k, v in detector.state_dict().items()), "BatchNorm must not have learnt"
    for a, b, c in zip(alone, again, together, strict=True):
        assert len(a) > 0
        assert torch.equal(a.boxes, b.boxes)
        assert torch.equal(a.scores, b.scores)
        assert torch.allclose(a.scores, c.scores, atol=1e-5)
        assert not a.boxes.is_inference()


def test_predict_of_the_model_takes_one_or_many(detector: Detector) -> None:
    image = np.zeros((50, 70, 3), dtype=np.uint8)
    one = detector.predict(image)
    many = detector.predict([image, image], batch_size=2)
    assert one.image_size_hw == (50, 70)
    assert isinstance(many, list)
    assert len(many) == 2


def test_bf16_works_on_a_copy(detector: Detector) -> None:
    Predictor(detector, precision="bf16")([np.zeros((50, 70, 3), dtype=np.uint8)])
    assert all(p.dtype == torch.float32 for p in detector.parameters())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a CUDA device")
def test_graphs_find_what_eager_finds(detector: Detector) -> None:
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 255, (96, 96, 3), dtype=np.uint8) for _ in range(5)]
    eager = Predictor(detector, device="cuda", precision="32", batch_size=2)(images)
    graphed = Predictor(detector, device="cuda", precision="32", batch_size=2, graphs=True)(images)
    for a, b in zip(eager, graphed, strict=True):
        assert torch.allclose(a.scores, b.scores, atol=1e-4)
        assert _partners(a, b).all()
        assert _partners(b, a).all()


def _partners(a: Detections, b: Detections) -> torch.Tensor:
    """Whether each row of a is in b. Random weights give scores closer than two kernels' rounding, whose rows may stand
    in either order, and at the limit of rows in one of the two alone: those are left out.
    """
    near = (a.boxes[:, None] - b.boxes).abs().amax(-1) < 1e-2
    alike = near & ((a.scores[:, None] - b.scores).abs() < 1e-4) & (a.labels[:, None] == b.labels)
    return alike.any(1) | (a.scores < a.scores.min() + 1e-4)
