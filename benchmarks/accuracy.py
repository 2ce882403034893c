"""Accuracy beside torchvision: RetinaNet and FCOS of both sides on bccd, one schedule, several seeds.

    python benchmarks/accuracy.py --data DATA --out DIR [--seeds 0 1 2 3] [--jobs 6]

DATA holds bccd/ (github.com/Shenggan/BCCD_Dataset as COCO: train.json, val.json, images/) and
weights/tf_efficientnet_lite0_in1k_timm.safetensors (timm's keys;
torso.backbones._efficientnet_lite0.write_weights makes it).

Both sides get the same pretrained EfficientNet-Lite0, the same images in the same order with the same augmentation
(torso's data pipeline), the same optimiser (AdamW) and schedule, frozen BatchNorm, bf16 autocast on CUDA, and the same
score threshold; each keeps its own head, assignment, loss and post-processing, which is what is compared. Where
torchvision departs from a paper, torso takes the same setting: L1 and P6 from P5 (RetinaNet), centre sampling and GIoU
(FCOS). Trainings run side
by side in processes of their own; a finished one is not run again and a stopped one goes on from its last checkpoint,
so the command can be repeated until all are done. AP is measured on the val split every few epochs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from _harness import device_name, save, write_json
from _seeds import half_width, lite0, parser, rate, resumed, run, side_by_side, to_device

SIZE_HW = tuple(map(int, os.environ.get("ACCURACY_SIZE", "480 640").split()))  # smaller only to try the script
CLASSES = 3
SCORE = 0.05
PAIRS = {"retinanet": ("torso-retinanet", "torchvision-retinanet"), "fcos": ("torso-fcos", "torchvision-fcos")}


# ------------------------------------------------------------------------------------------------------ the two sides


class Torso:
    """A torso detector with its own recipe's criterion."""

    def __init__(self, name: str, weights: Path, device: str) -> None:
        from torso.backbones.timm import Timm
        from torso.inputs.letterbox import Letterbox
        from torso.parts import find, part
        from torso.training.losses.iou import GIoULoss
        from torso.training.losses.l1 import L1Loss

        recipe = find(name, "recipes")(num_classes=CLASSES)
        model = recipe.get("model").with_args(
            backbone=part(Timm, name="tf_efficientnet_lite0", frozen_norm=True), input=part(Letterbox, size_hw=SIZE_HW)
        )
        criterion = recipe.get("criterion")
        if name == "retinanet":  # what torchvision has: L1, and P6 made of P5
            criterion = criterion.override("box.loss", part(L1Loss))
            model = model.override("neck.extra", "conv_p5")
        else:  # what torchvision has: centre sampling and GIoU, the authors' later improvements
            criterion = criterion.override("assigner.radius", 1.5).override("box.loss", part(GIoULoss))
        self.model = model.build()
        self.model.backbone.load_pretrained(str(weights))
        self.model = self.model.to(device)
        self.criterion = criterion.build().to(device)

    def loss(self, batch: Any) -> Any:
        from torso.training.criteria._base import loss_of

        return loss_of(self.criterion(self.model, batch.images, batch.targets))[0]

    def detect(self, batch: Any) -> list[dict[str, Any]]:
        found = self.model.detect(batch.images)
        scale, offset = batch.images.to_original[:, None, :2], batch.images.to_original[:, None, 2:]
        boxes = (found.boxes.unflatten(-1, (2, 2)) * scale[:, :, None] + offset[:, :, None]).flatten(-2)
        return [
            {"boxes": b[s > 0], "scores": s[s > 0], "labels": c[s > 0]}
            for b, s, c in zip(boxes, found.scores, found.labels, strict=True)
        ]


class Torchvision:
    """torchvision's detector on the same timm backbone and its own FPN with P6 and P7."""

    def __init__(self, name: str, weights: Path, device: str) -> None:
        import torch
        from torch import nn
        from torchvision.models import detection as tv
        from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelP6P7

        from torso.backbones.timm import Timm

        class Pyramid(nn.Module):
            out_channels = 256

            def __init__(self) -> None:
                super().__init__()
                self.body = Timm(name="tf_efficientnet_lite0", frozen_norm=True)
                self.body.load_pretrained(str(weights))
                self.fpn = FeaturePyramidNetwork([40, 112, 320], 256, LastLevelP6P7(256, 256))

            def forward(self, x: Any) -> Any:
                maps = self.body(x)[2:]
                return self.fpn({str(i): m for i, m in enumerate(maps)})

        cls = {"retinanet": tv.RetinaNet, "fcos": tv.FCOS}[name]
        self.model = cls(
            Pyramid(), num_classes=CLASSES + 1, image_mean=[0.5] * 3, image_std=[0.5] * 3, score_thresh=SCORE,
            detections_per_img=100, min_size=min(SIZE_HW), max_size=max(SIZE_HW), _skip_resize=True,
        ).to(device)  # fmt: skip
        self.torch = torch

    def _images(self, batch: Any) -> list[Any]:
        return [
            p[:, : int(h), : int(w)].float() / 255
            for p, (h, w) in zip(batch.images.pixels, batch.images.size_hw.tolist(), strict=True)
        ]

    def loss(self, batch: Any) -> Any:
        t = batch.targets
        targets = [{"boxes": t.boxes[i][v], "labels": t.labels[i][v] + 1} for i, v in enumerate(t.valid)]
        return sum(self.model(self._images(batch), targets).values())

    def detect(self, batch: Any) -> list[dict[str, Any]]:
        found = self.model(self._images(batch))
        maps = batch.images.to_original
        out = []
        for d, m in zip(found, maps, strict=True):
            real = d["labels"] > 0  # its sigmoid heads have a column for background too
            boxes = d["boxes"][real] * m[[0, 1, 0, 1]] + m[[2, 3, 2, 3]]
            out.append({"boxes": boxes, "scores": d["scores"][real], "labels": d["labels"][real] - 1})
        return out


# ------------------------------------------------------------------------------------------------------ one training


def train_one(case: str, seed: int, args: argparse.Namespace) -> None:
    import torch

    from torso.data.dataset import DetectionDataset
    from torso.data.doctor import examine
    from torso.data.loader import train_loader
    from torso.data.sampler import EpochSampler
    from torso.data.transforms.horizontal_flip import HorizontalFlip
    from torso.data.transforms.letterbox import Letterbox

    torch.set_num_threads(1)
    device, folder = args.device, Path(args.out) / "runs"
    stem = folder / f"{case}-{seed}"
    torch.manual_seed(seed)
    kind, name = case.split("-")
    side = {"torso": Torso, "torchvision": Torchvision}[kind](name, lite0(args.data), device)
    model = side.model
    if device == "cuda":
        model.to(memory_format=torch.channels_last)
    splits = examine(Path(args.data) / "bccd").splits
    train, val = splits["train"].annotations, splits["val"].annotations
    dataset = DetectionDataset(train, [HorizontalFlip(), Letterbox(size_hw=SIZE_HW)], seed=seed)
    sampler = EpochSampler(size=len(dataset), batch_size=args.batch, seed=seed)
    steps = args.epochs * len(sampler)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=args.lr, weight_decay=1e-4)
    state = resumed(stem.with_suffix(".pt"), model, optimiser, device)
    first, curve, losses = state.get("epoch", 0), state.get("curve", []), state.get("losses", [])
    sampler.set_epoch(first)
    loader = train_loader(dataset, sampler, workers=args.workers)
    step = first * len(sampler)
    for epoch in range(first, args.epochs):
        model.train()
        for window in loader:
            for group in optimiser.param_groups:
                group["lr"] = rate(step, steps, args)
            batch = to_device(window[0], device)
            torch.manual_seed(seed * 1_000_003 + step)
            with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
                loss = side.loss(batch)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 35.0)
            optimiser.step()
            step += 1
            if step % 10 == 0:
                losses.append([step, float(loss.detach())])
        if (epoch + 1) % args.every == 0 or epoch + 1 == args.epochs:
            curve.append([epoch + 1, evaluate(side, val, args)])
            state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "epoch": epoch + 1}
            save(stem.with_suffix(".pt"), state | {"curve": curve, "losses": losses})
    result = {"case": case, "seed": seed, "steps": step, "curve": curve, "losses": losses, "final": curve[-1][1]}
    write_json(stem.with_suffix(".json"), result, indent=None)


def evaluate(side: Any, val: Any, args: argparse.Namespace) -> dict[str, float]:
    import torch

    from torso.data.dataset import DetectionDataset
    from torso.data.loader import eval_loader
    from torso.data.transforms.letterbox import Letterbox
    from torso.evaluation.detection import STATS, DetectionEvaluator
    from torso.inference.detections import Detections

    side.model.eval()
    evaluator = DetectionEvaluator(val)
    loader = eval_loader(DetectionDataset(val, [Letterbox(size_hw=SIZE_HW)]), args.batch, workers=args.workers)
    with torch.no_grad(), torch.autocast(args.device, torch.bfloat16, enabled=args.device == "cuda"):
        for batch in loader:
            for row, found in zip(batch.index.tolist(), side.detect(to_device(batch, args.device)), strict=True):
                order = found["scores"].argsort(descending=True)
                picked = {k: v[order].cpu().float() for k, v in found.items()}
                evaluator.add(
                    row, Detections(picked["boxes"], picked["scores"], picked["labels"].long(), val.class_names)
                )
    return dict(zip(STATS, map(float, evaluator.compute().stats), strict=True))


# ------------------------------------------------------------------------------------------------------ the driver


def drive(args: argparse.Namespace) -> None:
    folder = Path(args.out) / "runs"
    cases = [(c, s) for s in args.seeds for m in args.models for c in PAIRS[m]]
    side_by_side(cases, folder, args)
    report(cases, folder, args)


def report(cases: list[tuple[str, int]], folder: Path, args: argparse.Namespace) -> None:
    import torch

    results = [json.loads(p.read_text()) for c, s in cases if (p := folder / f"{c}-{s}.json").is_file()]
    ap = {(r["case"], r["seed"]): 100 * r["final"]["AP"] for r in results}
    lines = ["| model | AP of each seed | mean | sd | AP50 mean |", "|---|---|---|---|---|"]
    for case in dict.fromkeys(c for c, _ in cases):
        mine = [r for r in results if r["case"] == case]
        if mine:
            values = [100 * r["final"]["AP"] for r in mine]
            spread = f"{statistics.stdev(values):.2f}" if len(values) > 1 else "-"
            ap50 = statistics.mean(100 * r["final"]["AP50"] for r in mine)
            each = ", ".join(f"{v:.2f}" for v in values)
            lines.append(f"| {case} | {each} | {statistics.mean(values):.2f} | {spread} | {ap50:.2f} |")
    for model in args.models:
        ours, peer = PAIRS[model]
        d = [ap[ours, s] - ap[peer, s] for s in args.seeds if (ours, s) in ap and (peer, s) in ap]
        if len(d) > 1:
            half = half_width(d)
            each = ", ".join(f"{x:+.2f}" for x in d)
            low, high = statistics.mean(d) - half, statistics.mean(d) + half
            lines.append(
                f"\n{model}, torso - torchvision, paired over {len(d)} seeds: {statistics.mean(d):+.2f} AP "
                f"(95 % interval {low:+.2f} to {high:+.2f}; each {each})"
            )
    device = device_name(args.device)
    head = f"{device}, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}, `{' '.join(sys.argv)}`\n\n"
    text = head + "\n".join(lines) + "\n"
    Path(args.out, "accuracy.md").write_text(text)
    write_json(Path(args.out, "accuracy.json"), {"command": sys.argv, "results": results}, indent=None)
    print(text)


def main() -> None:
    p = parser(__doc__, out="benchmarks/results/accuracy", models=list(PAIRS), seeds=4, every=6)
    p.set_defaults(models=list(PAIRS))
    run(p.parse_args(), train_one, drive)


if __name__ == "__main__":
    main()
