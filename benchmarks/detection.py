"""torso beside torchvision in one run: a training step and end-to-end prediction of the same detectors.

    python benchmarks/detection.py --out benchmarks/results/h200 [--cases train:retinanet infer16:fcos ...]

This file holds the workloads alone; how they are run and measured is _harness.py's. Every case runs in a process of its
own. All of them prepare (build, compile, warm up) side by side, then each is timed alone, one after the other, so that
compiling costs little and timing is undisturbed. What is timed:
  train: the whole step on images that lie on the device: normalisation, forward, loss, backward, SGD with momentum;
  inferB: B uint8 images on the device to final boxes, scores and labels on the host.
Both sides: ResNet-50 with frozen BatchNorm and the first stage frozen, 80 classes (torchvision wants 81 with its
background), random weights, the same images and boxes. torchvision runs in its best eager setting: bf16 autocast,
channels_last, no resizing. "torchvision" is its own model with its FrozenBatchNorm2d; "torchvision-mended" has
BatchNorm in eval mode in that place, which computes the same and is much faster under autocast. ssd300 (a VGG without
norms, all of it trained, on both sides) is shown images of 300 x 300: `--cases train:ssd300 --train-batch 32`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _harness as harness
from _publishing import publish_beside

MODELS = ("retinanet", "fcos", "faster_rcnn")
SIZES = {"ssd300": (300, 300)}
"""Of models that see one size alone; the others are shown --size."""
PEERS = {"x torchvision": "torchvision", "x mended": "torchvision-mended"}


def cases_of(names: list[str]) -> list[str]:
    """ "train:retinanet" -> one case a side and setting: mode:model:side."""
    out = []
    for name in names:
        mode, model = name.split(":")
        sides = ["torchvision", "torchvision-mended", "torso"]
        if name == "ssd300":
            sides.remove("torchvision-mended")  # a VGG has no norms
        sides += ["torso-eager", "torso-graphs"] if mode == "train" else []
        out += [f"{mode}:{model}:{side}" for side in sides]
    return out


# ---------------------------------------------------------------------------------------------------- the workload


def random_batch(batch: int, size_hw: tuple[int, int], device: str) -> Any:
    """uint8 [B, 3, H, W] noise, boxes [B, 20, 4] and labels: 8 to 20 boxes, sides log-uniform between 16 and 512 px."""
    import torch

    g = torch.Generator().manual_seed(0)
    h, w = size_hw
    pixels = torch.randint(0, 256, (batch, 3, h, w), dtype=torch.uint8, generator=g)
    low, high = 16.0, min(512.0, 0.8 * min(h, w))
    side = low * (high / low) ** torch.rand(batch, 20, 2, generator=g)
    corner = torch.rand(batch, 20, 2, generator=g) * (torch.tensor([float(w), float(h)]) - side)
    boxes = torch.cat([corner, corner + side], -1)
    labels = torch.randint(0, 80, (batch, 20), generator=g)
    count = torch.randint(8, 21, (batch,), generator=g)
    return pixels.to(device), boxes, labels, count


# ---------------------------------------------------------------------------------------------------- torchvision


def torchvision_model(name: str, size_hw: tuple[int, int], mended: bool) -> Any:
    from torch import nn
    from torchvision.models import detection as tv
    from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
    from torchvision.models.resnet import resnet50
    from torchvision.ops import FrozenBatchNorm2d
    from torchvision.ops.feature_pyramid_network import LastLevelP6P7

    if name == "ssd300":
        return tv.ssd300_vgg16(weights=None, weights_backbone=None, num_classes=81, _skip_resize=True)
    body = resnet50(norm_layer=nn.BatchNorm2d if mended else FrozenBatchNorm2d)
    extra = {"min_size": min(size_hw), "max_size": max(size_hw), "_skip_resize": True}
    if name == "faster_rcnn":
        return tv.FasterRCNN(_resnet_fpn_extractor(body, 3), num_classes=81, **extra)
    pyramid = _resnet_fpn_extractor(body, 3, returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(256, 256))
    return {"retinanet": tv.RetinaNet, "fcos": tv.FCOS}[name](pyramid, num_classes=81, **extra)


def freeze_norms(model: Any) -> None:
    from torch import nn

    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.eval().requires_grad_(False)


def torchvision_case(
    mode: str, name: str, batch: int, size_hw: tuple[int, int], device: str, mended: bool
) -> Callable[[], Any]:
    import torch

    torch.manual_seed(0)
    model = torchvision_model(name, size_hw, mended).to(device)
    if device == "cuda":
        model = model.to(memory_format=torch.channels_last)
    pixels, boxes, labels, count = random_batch(batch, size_hw, device)
    images = list(pixels.float().div(255))
    cast = torch.autocast(device, torch.bfloat16, enabled=device == "cuda")
    if mode == "train":
        boxes, labels = boxes.to(device), labels.to(device) + 1
        targets = [{"boxes": boxes[i, :n], "labels": labels[i, :n]} for i, n in enumerate(count)]
        model.train()
        freeze_norms(model)
        optimiser = sgd(model, device)

        def step() -> Any:
            with cast:
                loss = sum(model(images, targets).values())
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            return loss.detach()

        return step
    model.eval()

    @torch.no_grad()
    def predict() -> Any:
        with cast:
            found = model([x.float().div(255) for x in pixels])
        return [{k: v.cpu() for k, v in d.items()} for d in found]

    return predict


def sgd(model: Any, device: str) -> Any:
    import torch

    trained = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.SGD(trained, lr=1e-4, momentum=0.9, weight_decay=1e-4, fused=device == "cuda")


# ---------------------------------------------------------------------------------------------------- torso


def torso_recipe(name: str) -> tuple[Any, Any]:
    """The model and the criterion of a zoo member, as Parts."""
    from torso.parts import find

    recipe = find(name, "recipes")(num_classes=80)
    model = recipe.get("model")
    if name == "retinanet":
        model = model.override("neck.extra", "conv_p5")  # torchvision's P6; the paper's is larger
    return model, recipe.get("criterion")


def torso_case(
    mode: str, name: str, batch: int, size_hw: tuple[int, int], device: str, compiled: bool, graphs: bool
) -> Callable[[], Any]:
    import torch

    from torso.types import Images

    torch.manual_seed(0)
    model, criterion = torso_recipe(name)
    model = model.build().to(device)
    pixels, boxes, labels, count = random_batch(batch, size_hw, device)
    size = torch.tensor([list(map(float, size_hw))] * batch, device=device)
    images = Images(pixels, size, torch.tensor([[1.0, 1.0, 0.0, 0.0]] * batch, device=device))
    if mode == "train":
        return torso_step(model, criterion, images, boxes, labels, count, device, compiled, graphs)
    from torso.inference.runtime import Runtime

    on_gpu = device == "cuda"
    runtime = Runtime(model.eval(), compile=compiled and on_gpu, graphs=on_gpu and compiled)

    def predict() -> Any:
        found = runtime(images)
        return found.boxes.cpu(), found.scores.cpu(), found.labels.cpu()

    return predict


def torso_step(
    model: Any,
    criterion: Any,
    images: Any,
    boxes: Any,
    labels: Any,
    count: Any,
    device: str,
    compiled: bool,
    graphs: bool,
) -> Callable[[], Any]:
    import torch

    from torso.data.targets import Targets
    from torso.layers.compiling import compiled as compile_whole
    from torso.training.criteria._base import loss_of

    batch = len(count)
    rows = 32
    padded = torch.zeros(batch, rows, 4)
    padded[:, :20] = boxes
    padded_labels = torch.zeros(batch, rows, dtype=torch.int64)
    padded_labels[:, :20] = labels
    valid = torch.arange(rows) < count[:, None]
    targets = Targets(
        padded.to(device), padded_labels.to(device), valid.to(device), torch.zeros_like(valid, device=device)
    )
    criterion = criterion.build().to(device)
    model.train()
    if device == "cuda":
        model = model.to(memory_format=torch.channels_last)

    def forward(images: Any, targets: Any) -> Any:
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            terms = criterion(model, images, targets)
        return loss_of(terms)[0]

    if compiled:
        forward = compile_whole(forward, graphs=graphs)
    optimiser = sgd(model, device)

    def step() -> Any:
        loss = forward(images, targets)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        return loss.detach()

    return step


# ---------------------------------------------------------------------------------------------------- the run


def worker(case: str, args: argparse.Namespace) -> None:
    """One case in this process."""
    mode, name, side = case.split(":")
    device = args.device
    batch = args.train_batch if mode == "train" else int(mode.removeprefix("infer"))
    size_hw = SIZES.get(name, tuple(args.size))

    def make() -> Callable[[], Any]:
        if side.startswith("torchvision"):
            return torchvision_case(mode, name, batch, size_hw, device, side == "torchvision-mended")
        compiled = side.startswith("torso") and side != "torso-eager" and device == "cuda"
        return torso_case(mode, name, batch, size_hw, device, compiled, side == "torso-graphs")

    watched = side.startswith("torso") and device == "cuda" and mode == "train"
    harness.time_case(
        case, make, {"batch": batch, "size_hw": size_hw}, Path(args.out) / "cases", args,
        only_prepare=args.only_prepare, also=harness.synchronisations if watched else None,
    )  # fmt: skip


def run_cases(cases: dict[str, argparse.Namespace], args: argparse.Namespace) -> list[dict[str, Any]]:
    """Each case with its own arguments: results in order."""
    told = ("out", "device", "size", "repeats", "train_batch")
    commands = {case: [__file__, "--worker", case, *harness.flags(own, *told)] for case, own in cases.items()}
    return harness.run_cases(commands, Path(args.out) / "cases", args, fill=[c for c in cases if "torso" in c])


def drive(args: argparse.Namespace) -> None:
    cases = {c: args for c in cases_of(args.cases) if c.rpartition(":")[2] in args.sides}
    results = run_cases(cases, args)
    publish_beside(Path(args.out), "detection", results, args.device, PEERS, ("kernels", "synchronises"))


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", default="benchmarks/results/local")
    p.add_argument("--cases", nargs="+", default=[f"{m}:{n}" for m in ("train", "infer16", "infer1") for n in MODELS])
    sides = ["torchvision", "torchvision-mended", "torso-eager", "torso", "torso-graphs"]
    p.add_argument("--sides", nargs="+", default=sides)
    p.add_argument("--device", default="cuda")
    p.add_argument("--size", nargs=2, type=int, default=[800, 1344])
    p.add_argument("--train-batch", type=int, default=16)
    p.add_argument("--repeats", type=int, default=15)
    p.add_argument("--limit", type=float, default=540.0, help="seconds after which what is left is killed")
    serial = "prepare one after the other: small machines; on a GPU cuDNN then chooses its kernels undisturbed"
    p.add_argument("--serial", action="store_true", help=serial)
    p.add_argument("--only-prepare", action="store_true", help=argparse.SUPPRESS)
    harness.add_after(p)
    p.add_argument("--worker")
    args = p.parse_args()
    if args.worker:
        worker(args.worker, args)
    else:
        drive(args)


if __name__ == "__main__":
    main()
