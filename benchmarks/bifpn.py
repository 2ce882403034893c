"""EfficientDet-D0 here beside effdet 0.4.1 in one run: a whole training step and end-to-end prediction.

    python benchmarks/bifpn.py --out benchmarks/results/h200 [--cases train infer16 infer1] [--model d0] [--sides ...]

As in detection.py, which lends images, optimiser and our side: every case in a process of its own, prepared side by
side, timed alone.
Both sides: tf_efficientnet backbone, BatchNorm in training mode, stochastic depth 0.2, 80 classes, random weights, the
same images and boxes, bf16 autocast, channels_last, SGD with momentum.
  effdet: eager, its anchor labels made beforehand and not timed, as its training script has them made by the loader;
  effdet-labels: the same with the labels made in the step, where ours are;
  effdet-compiled: network and loss by torch.compile, labels made beforehand: its best setting that we know;
  torso-eager, torso, torso-graphs: the step from pixels to updated weights, labels within; compiled; as CUDA graphs;
  torso-shifts: torso, with depthwise 3x3 convolutions written as nine shifted products that the compiler fuses.
inferB: effdet's DetBenchPredict (compiled: its network), and Runtime here (compiled, recorded as a CUDA graph).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import _harness as harness
import detection
from _publishing import publish_beside

SIDES = ("effdet", "effdet-labels", "effdet-compiled", "torso-eager", "torso", "torso-graphs", "torso-shifts")
PEERS = {"x effdet": "effdet", "x effdet-compiled": "effdet-compiled"}
MEAN_STD = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def cases_of(modes: list[str], model: str, sides: list[str]) -> list[str]:
    """mode:model:side; labels and CUDA graphs of the step are of training alone."""
    return [
        f"{mode}:{model}:{side}"
        for mode in modes
        for side in sides
        if mode == "train" or side not in ("effdet-labels", "torso-graphs")
    ]


# ---------------------------------------------------------------------------------------------------- effdet


def effdet_model(name: str, size_hw: tuple[int, int], device: str) -> Any:
    from effdet import EfficientDet, get_efficientdet_config

    config = get_efficientdet_config(f"tf_efficientdet_{name}")
    config.num_classes, config.image_size = 80, size_hw
    model = EfficientDet(config, pretrained_backbone=False).to(device)
    if device == "cuda":
        import torch

        model = model.to(memory_format=torch.channels_last)
    return model


def effdet_case(
    mode: str, name: str, batch: int, size_hw: tuple[int, int], device: str, side: str
) -> Callable[[], Any]:
    import torch
    from effdet import DetBenchPredict, DetBenchTrain

    torch.manual_seed(0)
    model = effdet_model(name, size_hw, device)
    pixels, boxes, labels, count = detection.random_batch(batch, size_hw, device)
    mean, std = (torch.tensor(v, device=device)[:, None, None] for v in MEAN_STD)
    cast = torch.autocast(device, torch.bfloat16, enabled=device == "cuda")

    def normalised() -> Any:
        x = (pixels.float() / 255 - mean) / std
        return x.to(memory_format=torch.channels_last) if device == "cuda" else x

    if mode == "train":
        bench = DetBenchTrain(model, create_labeler=True).to(device).train()
        target = effdet_targets(bench, boxes, labels, count, device, made=side != "effdet-labels")
        if side == "effdet-compiled":
            bench.model, bench.loss_fn = torch.compile(bench.model), torch.compile(bench.loss_fn)
        optimiser = detection.sgd(bench, device)

        def step() -> Any:
            with cast:
                loss = bench(normalised(), target)["loss"]
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            return loss.detach()

        return step
    predictor = DetBenchPredict(model).to(device).eval()
    if side == "effdet-compiled":
        predictor.model = torch.compile(predictor.model)

    @torch.no_grad()
    def predict() -> Any:
        with cast:
            return predictor(normalised()).cpu()

    return predict


def effdet_targets(bench: Any, boxes: Any, labels: Any, count: Any, device: str, *, made: bool) -> dict[str, Any]:
    """Boxes as it takes them (y, x order, classes from 1), or its labels of them."""
    yxyx = [b[:n, [1, 0, 3, 2]].to(device) for b, n in zip(boxes, count, strict=True)]
    classes = [c[:n].to(device) + 1 for c, n in zip(labels, count, strict=True)]
    if not made:
        return {"bbox": yxyx, "cls": classes}
    cls, box, positives = bench.anchor_labeler.batch_label_anchors(yxyx, classes)
    bench.anchor_labeler = None
    made_labels = {f"label_cls_{i}": c for i, c in enumerate(cls)} | {f"label_bbox_{i}": b for i, b in enumerate(box)}
    return {**made_labels, "label_num_positives": positives}


# ---------------------------------------------------------------------------------------------------- torso


def torso_case(mode: str, name: str, batch: int, size_hw: tuple[int, int], device: str, side: str) -> Callable[[], Any]:
    if side == "torso-shifts":
        from torso.layers.separable import SeparableConv2d

        SeparableConv2d.forward = lambda self, x: self.pointwise(by_shifts(x, self.depthwise.weight))  # type: ignore[method-assign]
    compiled = side != "torso-eager" and device == "cuda"
    return detection.torso_case(
        mode, f"efficientdet_{name}", batch, size_hw, device, compiled, compiled and side == "torso-graphs"
    )


def by_shifts(x: Any, weight: Any) -> Any:
    """A depthwise 3x3 convolution as a sum of nine shifted products."""
    import torch.nn.functional as F

    h, w = x.shape[-2:]
    padded, weight = F.pad(x, (1, 1, 1, 1)), weight.to(x.dtype)
    terms = [
        padded[..., dy : dy + h, dx : dx + w].float() * weight[:, 0, dy, dx][:, None, None].float()
        for dy in range(3)
        for dx in range(3)
    ]
    return sum(terms[1:], terms[0]).to(x.dtype)


# ---------------------------------------------------------------------------------------------------- the run


def worker(case: str, args: argparse.Namespace) -> None:
    """One case in this process."""
    mode, name, side = case.split(":")
    batch, size_hw = args.train_batch if mode == "train" else int(mode.removeprefix("infer")), (args.size, args.size)
    side_of = effdet_case if side.startswith("effdet") else torso_case
    make = partial(side_of, mode, name, batch, size_hw, args.device, side)
    harness.time_case(case, make, {"batch": batch, "size_hw": size_hw}, Path(args.out) / "bifpn-cases", args)


def drive(args: argparse.Namespace) -> None:
    told, cases = ("out", "device", "size", "repeats", "train_batch"), cases_of(args.cases, args.model, args.sides)
    commands = {case: [__file__, "--worker", case, *harness.flags(args, *told)] for case in cases}
    files = Path(args.out) / "bifpn-cases"
    results = harness.run_cases(commands, files, args)
    results.sort(key=lambda r: harness.file_of(files, r["case"], "json"))
    publish_beside(Path(args.out), "bifpn", results, args.device, PEERS, ("kernels",))


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", default="benchmarks/results/local")
    p.add_argument("--cases", nargs="+", default=["train", "infer16", "infer1"])
    p.add_argument("--model", default="d0")
    p.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    p.add_argument("--device", default="cuda")
    p.add_argument("--size", type=int, default=512, help="pixels a side; the model's own is 512 for d0")
    p.add_argument("--train-batch", type=int, default=16)
    p.add_argument("--repeats", type=int, default=15)
    p.add_argument("--limit", type=float, default=540.0, help="seconds after which what is left is killed")
    p.add_argument("--serial", action="store_true", help="prepare one after the other (small machines)")
    harness.add_after(p)
    p.add_argument("--worker")
    args = p.parse_args()
    if args.worker:
        worker(args.worker, args)
    else:
        drive(args)


if __name__ == "__main__":
    main()
