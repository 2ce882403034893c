"""What the parity tests share: torchvision models with random weights, in float64, and batches for both sides."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from torso.data.targets import Targets
from torso.models.detector import Detector
from torso.training.criteria._base import Terms, loss_of
from torso.types import Candidates, Images

# unequal images of one shorter side, which torchvision's transform leaves as they are; the batch is padded to 96x128
SIZES = ((64, 100), (64, 65), (96, 64))
SIDE = 64


def randomised(model: nn.Module, seed: int, *, gain: float = 1.0) -> nn.Module:
    """Every weight and statistic drawn, so that no term, norm or bias hides behind its initial value; float64."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() > 1:
                nn.init.kaiming_normal_(p, nonlinearity="relu")
                p.mul_(gain)
            else:
                p.copy_(torch.rand_like(p) * 0.5 + (0.5 if name.endswith("weight") else -0.25))
        for name, b in model.named_buffers():
            if name.endswith("running_var"):
                b.copy_(torch.rand_like(b) + 0.5)
            elif name.endswith("running_mean"):
                b.copy_(torch.randn_like(b) * 0.1)
    return model.double()


def exact_normalisation(model: Detector) -> Detector:
    """float64 with the constants in float64 too, not float32's nearest."""
    model = model.double().eval()
    model.mean.copy_(torch.tensor(model.backbone.mean, dtype=torch.float64).view(1, 3, 1, 1) * 255)
    model.std.copy_(torch.tensor(model.backbone.std, dtype=torch.float64).view(1, 3, 1, 1) * 255)
    return model


def make_images(seed: int, sizes: Sequence[tuple[int, int]] = SIZES) -> list[Tensor]:
    """[3, h, w] float64 in 0..1, as torchvision takes them."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(3, h, w, generator=generator, dtype=torch.float64) for h, w in sizes]


def batch_of(images: Sequence[Tensor]) -> Images:
    """The same images as torso takes them: 0..255, one padded tensor (of noise: padding must not matter)."""
    height, width = (-(-max(i.shape[d] for i in images) // 32) * 32 for d in (1, 2))
    pixels = torch.full((len(images), 3, height, width), 77.0, dtype=torch.float64)
    for row, image in zip(pixels, images, strict=True):
        row[:, : image.shape[1], : image.shape[2]] = image * 255
    size_hw = torch.tensor([i.shape[1:] for i in images], dtype=torch.float64)
    return Images(pixels, size_hw, torch.tensor([[1.0, 1.0, 0.0, 0.0]]).expand(len(images), 4))


def objects(
    counts: Sequence[int], classes: int, seed: int, sizes: Sequence[tuple[int, int]] = SIZES, *, smallest: float = 2.0
) -> list[dict[str, Tensor]]:
    """torchvision's targets: so many random boxes an image, of all sizes, many overlapping."""
    generator = torch.Generator().manual_seed(seed)
    out = []
    for count, (h, w) in zip(counts, sizes, strict=True):
        limit = torch.tensor([w, h], dtype=torch.float64)
        wh = smallest + (limit - smallest) * torch.rand(count, 2, generator=generator, dtype=torch.float64) ** 2
        xy = (limit - wh) * torch.rand(count, 2, generator=generator, dtype=torch.float64)
        labels = torch.randint(0, classes, (count,), generator=generator)
        out.append({"boxes": torch.cat([xy, xy + wh], 1), "labels": labels})
    return out


def padded(targets: Sequence[dict[str, Tensor]]) -> Targets:
    """The same target as torso takes it: padded to one length, the padding full of what must never be read."""
    most = max(1, *(len(t["labels"]) for t in targets)) + 2
    boxes = torch.full((len(targets), most, 4), 31.0, dtype=torch.float64)
    boxes[..., 2:] = 63.0  # a box that would match, were it not for `valid`
    labels = torch.zeros(len(targets), most, dtype=torch.int64)
    valid = torch.zeros(len(targets), most, dtype=torch.bool)
    for i, t in enumerate(targets):
        n = len(t["labels"])
        boxes[i, :n], labels[i, :n], valid[i, :n] = t["boxes"], t["labels"], True
    return Targets(boxes, labels, valid, torch.zeros_like(valid))


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference over the largest magnitude."""
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.abs().max())


def assert_same_detections(ours: Candidates, theirs: Sequence[dict[str, Tensor]], *, at_least: int) -> None:
    """The same boxes with the same labels and scores, image by image, and the same order of scores."""
    for i, want in enumerate(theirs):
        filled = ours.scores[i] > 0
        scores, boxes, labels = (x[i][filled].double() for x in (ours.scores, ours.boxes, ours.labels))
        assert len(scores) == len(want["scores"]) >= at_least
        torch.testing.assert_close(scores, want["scores"].sort(descending=True).values, rtol=1e-6, atol=1e-7)
        same = (boxes[:, None] - want["boxes"]).abs().amax(-1) < 1e-3
        same &= (labels[:, None] == want["labels"]) & ((scores[:, None] - want["scores"]).abs() < 1e-6)
        for row in range(len(scores)):  # one partner each; boxes cut to nothing at the border may have several
            partners = same[row].nonzero()
            assert len(partners), f"image {i}: nothing in torchvision's detections is {boxes[row]}, {labels[row]}"
            same[:, partners[0]] = False


def their_maps(theirs: nn.Module, images: Sequence[Tensor]) -> tuple[ImageList, list[Tensor]]:
    """torchvision's padded batch and the pyramid that it makes of it."""
    with torch.no_grad():
        batch = theirs.transform(images)[0]
        return batch, list(theirs.backbone(batch.tensors).values())


def assert_same_losses(
    terms: Terms, want: dict[str, Tensor], names: dict[str, str], leaves: Sequence[Tensor], *, objects: int
) -> None:
    """Every term (names: ours to theirs) and the gradients of their sum at the raw outputs that both were made of."""
    total, shares = loss_of(terms)
    for name, their_name in names.items():
        torch.testing.assert_close(shares[name], want[their_name], rtol=1e-6, atol=1e-12)
        assert float(want[their_name].detach()) > 0 or not objects
    ours_d = torch.autograd.grad(total, leaves)
    theirs_d = torch.autograd.grad(sum(want.values()), leaves, allow_unused=True, materialize_grads=True)
    for mine, other in zip(ours_d, theirs_d, strict=True):
        assert float((mine - other).abs().max()) <= 1e-5 * float(other.abs().max())


def spread_scores(layer: nn.Conv2d, features: Callable[[], Tensor]) -> None:
    """Shift and scale an output layer so that its values on the given features have mean -1 and deviation 1.5."""
    with torch.no_grad():
        values = features()
        layer.weight.mul_(1.5 / values.std())
        assert layer.bias is not None
        layer.bias.copy_((layer.bias - values.mean()) * 1.5 / values.std() - 1)


CROWDS = pytest.mark.parametrize(
    "counts", [(3, 1, 5), (4, 0, 2), (0, 0, 0), (130, 7, 101)], ids=["few", "one empty", "all empty", "crowded"]
)
