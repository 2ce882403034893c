"""EfficientDet beside effdet 0.4.1: weights copied by name, the same image, features and raw outputs compared."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torso.models.detector import Detector
from torso.parts import find
from torso.types import Images
from torso.zoo.efficientdet import effdet_to_torso

if importlib.util.find_spec("effdet") is None:
    pytest.skip("effdet is not installed here; `make parity` builds its environment", allow_module_level=True)

from effdet import EfficientDet, get_efficientdet_config
from effdet.anchors import Anchors, decode_box_outputs

TOLERANCE = 1e-5
PARAMETERS = {"d0": (3_880_067, 196_281)}  # whole, neck; with 90 outputs


def randomise(module: nn.Module) -> None:
    """Edge weights, norms and their statistics that matter: initialisations give ones and zeros."""
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in module.named_parameters():
            if p.dim() == 1:
                noise = torch.rand(p.shape, generator=g, dtype=p.dtype)
                p.copy_(noise - 0.2 if name.endswith("edge_weights") else p + 0.2 * (noise - 0.5))
        for name, b in module.named_buffers():
            if name.endswith("running_mean"):
                b.copy_(0.1 * torch.randn(b.shape, generator=g))
            elif name.endswith("running_var"):
                b.copy_(0.7 + 0.6 * torch.rand(b.shape, generator=g))


def pair(name: str, size_hw: tuple[int, int] | None = None) -> tuple[nn.Module, Detector, Any]:
    torch.manual_seed(0)
    config = get_efficientdet_config(f"tf_efficientdet_{name}")
    if size_hw is not None:
        config.image_size = size_hw
    peer = EfficientDet(config, pretrained_backbone=False).double().eval()
    randomise(peer)
    ours = find(f"efficientdet_{name}", "zoo")(num_classes=90).build().double().eval()
    ours.load_state_dict(effdet_to_torso(peer.state_dict()), strict=True)
    return peer, ours, config


def check(what: str, ours: Tensor, peer: Tensor) -> None:
    assert ours.shape == peer.shape, (what, ours.shape, peer.shape)
    worst = float((ours - peer).detach().abs().max() / peer.detach().abs().max())
    print(f"parity {what}: {worst:.1e}")  # read into docs/parity.md with pytest -s
    assert worst <= TOLERANCE, f"{what}: relative difference {worst:.3e}"


def batch(size_hw: tuple[int, int], count: int = 1) -> tuple[Tensor, Images]:
    """Normalised pixels for the peer's network, and the images that give them here."""
    pixels = torch.rand(count, 3, *size_hw, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    size = torch.tensor(size_hw, dtype=torch.float64).expand(count, 2)
    return pixels, Images(pixels, size, torch.tensor([[1.0, 1.0, 0.0, 0.0]]).expand(count, 4))


def boxes_of(maps: list[Tensor], values: int) -> Tensor:
    """effdet's [B, A * values, h, w] a level as [B, N, values], anchors in its order."""
    return torch.cat([m.permute(0, 2, 3, 1).reshape(len(m), -1, values) for m in maps], dim=1)


def by_shape(rows: Tensor) -> Tensor:
    """[B, N, V] with anchors by scale, then shape -> by shape, then scale."""
    return rows.reshape(len(rows), -1, 3, 3, rows.shape[-1]).transpose(2, 3).reshape(rows.shape)


# unequal sides and odd maps (96 x 160 has 3 x 5, 2 x 3, 1 x 2) find what a square power of two hides; d6 sums plainly
CASES = [("d0", (512, 512)), ("d0", (96, 160)), ("d1", (288, 224)), ("d6", (128, 128))]


@pytest.mark.parametrize(("name", "size_hw"), CASES)
def test_features_and_raw_outputs(name: str, size_hw: tuple[int, int]) -> None:
    peer, ours, config = pair(name, size_hw)
    pixels, images = batch(size_hw)
    with torch.no_grad():
        theirs = peer.backbone(pixels)
        mine = ours.backbone(pixels)
        for i, (a, b) in enumerate(zip(mine[-3:], theirs, strict=True)):
            check(f"{name} {size_hw} backbone C{i + 3}", a, b)
        theirs, mine = peer.fpn(list(theirs)), ours.neck[0](mine)
        for i, (a, b) in enumerate(zip(mine, theirs, strict=True)):
            check(f"{name} {size_hw} BiFPN P{i + 3}", a, b)
        raw = ours.head(mine, images)
        logits, codes = (boxes_of(net(list(theirs)), v) for net, v in ((peer.class_net, 90), (peer.box_net, 4)))
    check(f"{name} {size_hw} logits", raw.logits, by_shape(logits))
    check(f"{name} {size_hw} codes", raw.codes, by_shape(codes)[..., [1, 0, 3, 2]])
    if any(s % 128 for s in size_hw):
        return  # effdet takes the stride from the image where a map was rounded up
    anchors = Anchors.from_config(config).boxes.double()
    yxyx = by_shape(anchors[None])
    check(f"{name} {size_hw} anchors", raw.priors.boxes[None].double(), yxyx[..., [1, 0, 3, 2]])
    decoded = decode_box_outputs(codes[0], anchors, output_xyxy=True)
    check(f"{name} {size_hw} boxes", ours.head.coder.decode(raw.codes, raw.priors), by_shape(decoded[None]))


def test_parameters_and_training_mode() -> None:
    """Batch statistics, and the gradient of every parameter, through the neck and the head."""
    peer, ours, _ = pair("d0", (128, 128))
    whole, neck = PARAMETERS["d0"]
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in peer.parameters()) == whole
    assert sum(p.numel() for p in ours.neck.parameters()) == sum(p.numel() for p in peer.fpn.parameters()) == neck
    pixels, images = batch((128, 128), count=2)
    with torch.no_grad():
        maps = ours.backbone(pixels)
    peer.train()
    ours.train()
    theirs = peer.fpn(list(maps[-3:]))
    raw = ours.head(ours.neck[0](maps), images)
    logits = by_shape(boxes_of(peer.class_net(theirs), 90))
    codes = by_shape(boxes_of(peer.box_net(theirs), 4))[..., [1, 0, 3, 2]]
    check("training logits", raw.logits, logits)
    g = torch.Generator().manual_seed(2)
    by = [torch.randn(t.shape, generator=g, dtype=t.dtype) for t in (logits, codes)]
    ((logits * by[0]).sum() + (codes * by[1]).sum()).backward()
    ((raw.logits * by[0]).sum() + (raw.codes * by[1]).sum()).backward()
    wanted = effdet_to_torso({k: p.grad for k, p in peer.named_parameters() if p.grad is not None})
    mine = {k: p.grad for k, p in ours.named_parameters() if p.grad is not None}
    assert set(mine) == set(wanted)
    largest = max(float(g.abs().max()) for g in wanted.values())
    worst = max(float((mine[k] - wanted[k]).abs().max()) for k in mine) / largest
    print(f"parity gradients of {len(mine)} parameters: {worst:.1e}")
    assert worst <= TOLERANCE
