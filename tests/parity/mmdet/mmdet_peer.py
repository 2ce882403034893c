"""mmdetection as a reference: its compiled operations replaced, weights copied by key, inputs in both forms.

Skips whoever imports it where mmdetection is absent: `make parity` runs these tests in an environment of their own.
"""

from __future__ import annotations

import importlib.util
import re
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

if importlib.util.find_spec("mmengine") is None or importlib.util.find_spec("mmcv") is None:
    pytest.skip("mmdetection is not installed here; `make parity` builds its environment", allow_module_level=True)


class _CompiledOps(types.ModuleType):
    """Stands in for mmcv's extension module: NMS by torchvision, everything else fails when called."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*args: Any, **kwargs: Any) -> Any:
            raise NotImplementedError(f"mmcv's compiled operation {name} is not available in the parity environment")

        return missing

    @staticmethod
    def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
        assert offset == 0
        return torchvision.ops.nms(boxes, scores, iou_threshold)


sys.modules.setdefault("mmcv._ext", _CompiledOps("mmcv._ext"))

from mmengine.config import ConfigDict  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402

from torso.data.targets import Targets  # noqa: E402
from torso.types import Candidates, FeatureSpec, Images  # noqa: E402

__all__ = ["ConfigDict", "InstanceData"]

CLASSES = 7
SIZE_HW = (256, 320)
TOLERANCE = 1e-5
"""Relative to the largest magnitude of the reference."""


def randomise(module: nn.Module, seed: int = 0) -> None:
    """Weights that make every output vary: initialisations of heads give nearly constant ones."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in module.named_parameters():
            noise = torch.randn(p.shape, generator=g, dtype=p.dtype)
            if p.dim() > 1:
                p.copy_(noise * (1.5 / p[0].numel()) ** 0.5)
            else:
                p.copy_((1.0 if name.endswith("weight") or "scale" in name else 0.0) + 0.1 * noise)
        for name, b in module.named_buffers():
            if name.endswith("running_mean"):
                b.copy_(torch.randn(b.shape, generator=g) * 0.1)
            elif name.endswith("running_var"):
                b.copy_(torch.rand(b.shape, generator=g) + 0.5)


def copy_weights(
    peer: nn.Module, ours: nn.Module, keys: Sequence[tuple[str, str]], *, constants: Sequence[str] = ()
) -> None:
    """Every tensor of the peer under its name here; keys are (pattern, replacement), applied in order, all of them.

    constants: names of tensors of the peer that nothing learns.
    """
    state: dict[str, Tensor] = {}
    stacked: dict[str, list[Tensor]] = {}
    for key, value in peer.state_dict().items():
        if key in constants:
            continue
        for pattern, replacement in keys:
            key = re.sub(pattern, replacement, key)
        if value.dim() == 0 and key == "scale":  # one factor a level there, one vector here
            stacked.setdefault(key, []).append(value)
        else:
            state[key] = value
    ours.load_state_dict({**state, **{k: torch.stack(v) for k, v in stacked.items()}}, strict=True)


def difference(ours: Tensor, peer: Tensor) -> float:
    """Largest difference, relative to the largest magnitude of the reference."""
    assert ours.shape == peer.shape, (ours.shape, peer.shape)
    if not peer.numel():
        return 0.0
    scale = peer.detach().abs().max().clamp(min=1e-12)
    return float((ours.detach().double() - peer.detach().double()).abs().max() / scale)


def assert_equal(what: str, ours: Tensor, peer: Tensor, tolerance: float = TOLERANCE) -> None:
    worst = difference(ours, peer)
    print(f"parity {what}: {worst:.1e}")  # read into docs/parity.md with pytest -s
    assert worst <= tolerance, f"{what}: relative difference {worst:.3e} is above {tolerance}"


def flat(maps: Iterable[Tensor], values: int) -> Tensor:
    """mmdetection's [B, A * values, h, w] a level as our [B, N, values]."""
    return torch.cat([m.permute(0, 2, 3, 1).reshape(m.shape[0], -1, values) for m in maps], dim=1)


def pyramid(channels: int, strides: Sequence[int], batch: int = 2, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    g = torch.Generator().manual_seed(1)
    return [
        torch.randn(batch, channels, -(-SIZE_HW[0] // s), -(-SIZE_HW[1] // s), generator=g, dtype=dtype)
        for s in strides
    ]


def specs(channels: int, strides: Sequence[int]) -> list[FeatureSpec]:
    return [FeatureSpec(channels, (s, s)) for s in strides]


def images(batch: int = 2, dtype: torch.dtype = torch.float64) -> Images:
    pixels = torch.rand(batch, 3, *SIZE_HW, generator=torch.Generator().manual_seed(2), dtype=dtype) * 255
    size = torch.tensor(SIZE_HW, dtype=torch.float32).expand(batch, 2)
    return Images(pixels, size, torch.tensor([[1.0, 1.0, 0.0, 0.0]]).expand(batch, 4))


def metas(batch: int = 2) -> list[dict[str, Any]]:
    meta = {
        "img_shape": SIZE_HW,
        "pad_shape": SIZE_HW,
        "batch_input_shape": SIZE_HW,
        "scale_factor": (1.0, 1.0),
        "border": (0, 0, 0, 0),
    }
    return [dict(meta) for _ in range(batch)]


def _boxes(g: torch.Generator, count: int, longest: float, spread: float) -> Tensor:
    """Boxes about places within `spread` (a share of the image) of its middle, inside the image."""
    height, width = SIZE_HW
    size_wh = torch.rand(count, 2, generator=g) * longest + 4
    place = (torch.rand(count, 2, generator=g) - 0.5) * spread + 0.5
    corner = place * (torch.tensor([width, height]) - size_wh).clamp(min=0)
    boxes = torch.cat([corner, corner + size_wh], dim=1)
    return torch.minimum(boxes, torch.tensor([width, height, width, height], dtype=torch.float32))


def target_sets() -> Mapping[str, tuple[Targets, list[InstanceData]]]:
    """Sets of targets of two images, padded (with invalid and crowd rows between) and as mmdetection has them."""
    counts = {"few": (6, 3), "one empty": (0, 5), "both empty": (0, 0), "crowded": (70, 45), "clustered": (40, 12)}
    sets = {}
    for i, (name, count) in enumerate(counts.items()):
        g = torch.Generator().manual_seed(10 + i)
        longest, spread = (60.0, 0.3) if name == "clustered" else (160.0, 1.0)
        boxes = [_boxes(g, n, longest, spread) for n in count]
        labels = [torch.randint(0, CLASSES, (n,), generator=g) for n in count]
        peers = [InstanceData(bboxes=b, labels=k) for b, k in zip(boxes, labels, strict=True)]
        sets[name] = (_padded(boxes, labels), peers)
    return sets


def _padded(boxes: list[Tensor], labels: list[Tensor]) -> Targets:
    """A crowd row first and padding last: both must be ignored."""
    rows = max(len(b) for b in boxes) + 3
    out = Targets(
        torch.zeros(len(boxes), rows, 4),
        torch.zeros(len(boxes), rows, dtype=torch.long),
        torch.zeros(len(boxes), rows, dtype=torch.bool),
        torch.zeros(len(boxes), rows, dtype=torch.bool),
    )
    for i, (b, k) in enumerate(zip(boxes, labels, strict=True)):
        out.boxes[i, 0] = torch.tensor([10.0, 10.0, 200.0, 200.0])
        out.valid[i, : len(b) + 1] = True
        out.crowd[i, 0] = True
        out.boxes[i, 1 : len(b) + 1], out.labels[i, 1 : len(b) + 1] = b, k
    return out


def assert_detections(what: str, found: Candidates, peers: Sequence[InstanceData]) -> None:
    """The same boxes, scores and labels in the same order."""
    for i, peer in enumerate(peers):
        count = int((found.scores[i] > 0).sum())
        assert count == len(peer.scores), f"{what}: {count} detections here, {len(peer.scores)} there"
        assert_equal(f"{what}, scores", found.scores[i, :count], peer.scores)
        assert_equal(f"{what}, boxes", found.boxes[i, :count], peer.bboxes)
        assert torch.equal(found.labels[i, :count], peer.labels), what
