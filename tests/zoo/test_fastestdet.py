"""FastestDet's published weights in torso's parts: no tensor lost, the published function, and AP on real images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from torso.data.clean import clean
from torso.data.layout import open_dataset
from torso.evaluation.run import Settings, collect
from torso.models.detector import Detector
from torso.types import DensePredictions, Images
from torso.weights import load, save
from torso.zoo.fastestdet import COCO_NAMES, fastestdet_model, fastestdet_to_torso

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def published(shared_data: Path) -> State:
    (file,) = (shared_data / "weights" / "fastestdet").glob("weight_AP05*.pth")
    state: State = torch.load(file, map_location="cpu", weights_only=True)
    return state


@pytest.fixture(scope="module")
def model(published: State) -> Detector:
    made = fastestdet_model().build()
    made.load_state_dict(fastestdet_to_torso(published))
    made.names = COCO_NAMES
    return made.eval()


def plain(state: State, bgr: Tensor) -> Tensor:
    """[B, 85, h, w] (objectness, box, classes; raw) of [B, 3, H, W] in 0..1, blue first: the network by its tensors."""

    def layer(x: Tensor, conv: str, norm: str, *, stride: int = 1, relu: bool = True) -> Tensor:
        w = state[f"{conv}.weight"]
        groups = x.shape[1] // w.shape[1]
        x = F.conv2d(x, w, None, stride, w.shape[-1] // 2, groups=groups)
        stored = (state[f"{norm}.{n}"] for n in ("running_mean", "running_var", "weight", "bias"))
        x = F.batch_norm(x, *stored)
        return x.relu() if relu else x

    def branch(x: Tensor, name: str, stride: int) -> Tensor:
        x = layer(x, f"{name}.0", f"{name}.1")
        x = layer(x, f"{name}.3", f"{name}.4", stride=stride, relu=False)
        return layer(x, f"{name}.5", f"{name}.6")

    x = layer(bgr, "backbone.first_conv.0", "backbone.first_conv.1", stride=2)
    x = F.max_pool2d(x, 3, 2, 1)
    maps = []
    for stage, blocks in ((2, 4), (3, 8), (4, 4)):
        for block in range(blocks):
            name = f"backbone.stage{stage}.{block}"
            if block == 0:
                side = layer(x, f"{name}.branch_proj.0", f"{name}.branch_proj.1", stride=2, relu=False)
                side = layer(side, f"{name}.branch_proj.2", f"{name}.branch_proj.3")
                x = torch.cat([side, branch(x, f"{name}.branch_main", 2)], 1)
            else:
                b, c, h, w = x.shape
                pairs = x.reshape(b, c // 2, 2, h, w)
                x = torch.cat([pairs[:, :, 0], branch(pairs[:, :, 1], f"{name}.branch_main", 1)], 1)
        maps.append(x)
    gathered = torch.cat([F.avg_pool2d(maps[0], 3, 2, 1), maps[1], F.interpolate(maps[2], scale_factor=2)], 1)
    x = layer(gathered, "SPP.Conv1x1.conv1x1.0", "SPP.Conv1x1.conv1x1.1")
    chains = []
    for length in (1, 2, 3):
        y = x
        for i in range(length):
            y = layer(y, f"SPP.S{length}.{3 * i}", f"SPP.S{length}.{3 * i + 1}")
        chains.append(y)
    x = (x + layer(torch.cat(chains, 1), "SPP.output.0", "SPP.output.1", relu=False)).relu()
    x = layer(x, "detect_head.conv1x1.conv1x1.0", "detect_head.conv1x1.conv1x1.1")
    outputs = []
    for name in ("obj", "reg", "cls"):
        head = f"detect_head.{name}_layers.conv5x5"
        outputs.append(layer(layer(x, f"{head}.0", f"{head}.1"), f"{head}.3", f"{head}.4", relu=False))
    return torch.cat(outputs, 1)


def test_the_network_is_what_its_tensors_say(model: Detector, published: State) -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(1, 3, 352, 352, generator=generator)
    size = torch.tensor([[352.0, 352.0]])
    with torch.no_grad():
        raw = model(Images(pixels * 255, size, torch.tensor([[1.0, 1.0, 0.0, 0.0]])))
        want = plain(published, pixels.flip(1)).permute(0, 2, 3, 1).reshape(1, 22 * 22, 85)
    assert isinstance(raw, DensePredictions)
    assert raw.quality is not None
    torch.testing.assert_close(raw.quality, want[..., 0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(raw.codes, want[..., 1:5], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(raw.logits, want[..., 5:], rtol=1e-4, atol=1e-4)


def test_a_box_is_where_its_formula_says(model: Detector) -> None:
    """Place (3, 2) of stride 16: x = (3 + tanh) * 16, w = sigmoid * 352; score = objectness^.6 * class^.4."""
    size = torch.tensor([[352.0, 352.0]])
    images = Images(torch.zeros(1, 3, 352, 352), size, torch.tensor([[1.0, 1.0, 0.0, 0.0]]))
    with torch.no_grad():
        raw = model(images)
    assert isinstance(raw, DensePredictions)
    row = 2 * 22 + 3
    codes, logits, quality = torch.zeros(1, 484, 4), torch.zeros(1, 484, 80), torch.full((1, 484), -20.0)
    codes[0, row] = torch.tensor([0.5, -0.5, -2.0, -3.0])
    logits[0, row, 7], quality[0, row] = 6.0, 1.0
    found = model.head.decode(raw._replace(codes=codes, logits=logits, quality=quality), images)
    t, s = torch.tanh(torch.tensor(0.5)), torch.sigmoid(torch.tensor([-2.0, -3.0])) * 352 / 2
    x, y = (3 + t) * 16, (2 - t) * 16
    want = torch.stack([x - s[0], y - s[1], x + s[0], y + s[1]]).clamp(0, 352)
    torch.testing.assert_close(found.boxes[0, 0], want)
    score = torch.tensor(1.0).sigmoid() ** 0.6 * logits[0, row].softmax(0)[7] ** 0.4
    torch.testing.assert_close(found.scores[0, 0], score)
    assert int(found.labels[0, 0]) == 7


def test_real_images(model: Detector, shared_data: Path) -> None:
    """0.2037 AP, 0.339 AP50 here; published 0.130, 0.253 on val2017. These 128 are of the images it was trained on,
    and have few classes each. Half a stride off costs 0.06, red for blue 0.05: bounds that see either.
    """
    target_boxes, _ = clean(open_dataset(shared_data / "coco128", "train"))
    assert target_boxes.class_names == COCO_NAMES
    scores = collect(model, target_boxes, Settings(batch_size=16, workers=0)).compute()
    assert abs(scores.AP - 0.2037) < 0.005
    assert abs(scores.AP50 - 0.3390) < 0.008


def test_a_zebra(model: Detector, shared_data: Path) -> None:
    (file,) = (shared_data / "coco128" / "images").rglob("000000000034.jpg")
    found = model.predict(file, score_threshold=0.5)
    assert [found.names[i] for i in found.labels] == ["zebra"]  # type: ignore[union-attr]


def test_it_becomes_a_file_of_torso(model: Detector, tmp_path: Path) -> None:
    save(tmp_path / "fastestdet.safetensors", model, fastestdet_model(), names=COCO_NAMES)
    again = load(tmp_path / "fastestdet.safetensors")
    assert again.names == COCO_NAMES
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), model.state_dict().values(), strict=True))


def test_other_tensors_are_refused(published: State) -> None:
    with pytest.raises(ValueError, match="not of FastestDet"):
        fastestdet_to_torso({**published, "extra.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match="whole state_dict"):
        fastestdet_to_torso({k: v for k, v in published.items() if "reg_layers" not in k})


def test_another_size_and_number_of_classes() -> None:
    small = fastestdet_model(num_classes=3, size_hw=(96, 160)).build().eval()
    pixels, size = torch.zeros(1, 3, 96, 160), torch.tensor([[96.0, 160.0]])
    with torch.no_grad():
        raw = small(Images(pixels, size, torch.tensor([[1.0, 1.0, 0.0, 0.0]])))
    assert isinstance(raw, DensePredictions)
    assert raw.logits.shape == (1, 60, 3)
    assert raw.priors.sizes_wh[0].tolist() == [160, 96]
