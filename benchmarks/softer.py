"""What the KL loss and variance voting bring: RetinaNet or FCOS on bccd with plain loss and with KL, several seeds.

    python benchmarks/softer.py --data DATA --out DIR [--models retinanet] [--seeds 0 1 2] [--jobs 6] [--limit 540]

DATA as in accuracy.py: bccd/ (COCO form) and weights/tf_efficientnet_lite0_in1k_timm.safetensors.

Every case has the same pretrained EfficientNet-Lite0, images, order, augmentation, optimiser, schedule and seeds.
"own" is the recipe's box loss. "plain" is smooth L1 on codes with beta 1, which is what the KL loss is where every
sigma is 1: "plain" and "kl" differ in nothing but the uncertainty. Both have RetinaNet's codes in the units of Fast
R-CNN (weights 10, 10, 5, 5), as the KL paper has: with weights of 1 errors are small against a sigma of 1, and the
gradient of the KL loss, which grows as 1 / sigma, would outweigh the class loss.

A trained model is evaluated under every suppression on the same weights, hard and soft with and without voting: the
candidates of an image are computed once. Trainings run side by side in processes of their own; finished ones are not
run again, stopped ones go on from their last checkpoint, so the command can be repeated until all are done. The table
gives mean and spread over seeds of AP, AP50, AP75 and AP90 (percent), and each row's difference from hard NMS of the
first loss, paired by seed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _harness import device_name, save, write_json
from _seeds import half_width, lite0, parser, rate, resumed, run, side_by_side, to_device, to_original

SIZE_HW = tuple(map(int, os.environ.get("SOFTER_SIZE", "480 640").split()))  # smaller only to try the script
CLASSES = 3
NUMBERS = ("AP", "AP50", "AP75", "AP90")
LOSSES = ("own", "plain", "kl")
SUPPRESSIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "nms 0.5": ("nms", {"iou_threshold": 0.5}),
    "nms 0.6": ("nms", {"iou_threshold": 0.6}),
    "soft linear": ("soft_nms", {"method": "linear", "iou_threshold": 0.5}),
    "soft gaussian": ("soft_nms", {"method": "gaussian"}),
    "diou 0.5": ("diou_nms", {"iou_threshold": 0.5}),
    "matrix gaussian": ("matrix_nms", {}),
    "fusion 0.6": ("weighted_fusion", {"iou_threshold": 0.6, "score": "max"}),
    "nms 0.5 + voting (paper)": ("softer_nms", {"method": "hard"}),
    "nms 0.5 + voting (seed)": ("softer_nms", {"method": "hard", "voting": "seed"}),
    "soft linear + voting (paper)": ("softer_nms", {"method": "linear"}),
    "soft gaussian + voting (paper)": ("softer_nms", {"method": "gaussian"}),
    "soft gaussian + voting (seed)": ("softer_nms", {"method": "gaussian", "voting": "seed"}),
}
FIRST = "nms 0.5"


def build(name: str, loss: str, weights: Path, device: str, box_weight: float) -> tuple[Any, Any]:
    """The detector with pretrained body and its criterion; box_weight is for plain and kl."""
    from torso.backbones.timm import Timm
    from torso.inputs.letterbox import Letterbox
    from torso.parts import find, part
    from torso.training.losses.kl import KLLoss
    from torso.training.losses.smooth_l1 import SmoothL1Loss

    recipe = find(name, "recipes")(num_classes=CLASSES)
    model = recipe.get("model").with_args(
        backbone=part(Timm, name="tf_efficientnet_lite0", frozen_norm=True), input=part(Letterbox, size_hw=SIZE_HW)
    )
    model = model.with_args(head=model.get("head").with_args(uncertainty=loss == "kl"))
    criterion = recipe.get("criterion")
    if loss != "own":
        if name == "retinanet":
            model = model.override("head.coder.weights", (10.0, 10.0, 5.0, 5.0))
        box = part(KLLoss) if loss == "kl" else part(SmoothL1Loss, beta=1.0)
        criterion = criterion.override("box.loss", box).override("box.weight", box_weight)
    built, trained_by = model.build(), criterion.build()
    trained_by.check(built)
    built.backbone.load_pretrained(str(weights))
    return built.to(device), trained_by.to(device)


# ------------------------------------------------------------------------------------------------------ one training


def train_one(case: str, seed: int, args: argparse.Namespace) -> None:
    """Train, evaluate under every suppression, write the result."""
    import torch

    from torso.data.dataset import DetectionDataset
    from torso.data.doctor import examine
    from torso.data.loader import train_loader
    from torso.data.sampler import EpochSampler
    from torso.data.transforms.horizontal_flip import HorizontalFlip
    from torso.data.transforms.letterbox import Letterbox
    from torso.training.criteria._base import loss_of

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    stem, device = Path(args.out) / "runs" / f"{case}-{seed}", args.device
    model, criterion = build(*case.split("-"), lite0(args.data), device, args.box_weight)
    splits = examine(Path(args.data) / "bccd").splits
    train, val = splits["train"].annotations, splits["val"].annotations
    dataset = DetectionDataset(train, [HorizontalFlip(), Letterbox(size_hw=SIZE_HW)], seed=seed)
    sampler = EpochSampler(size=len(dataset), batch_size=args.batch, seed=seed)
    per_epoch = min(len(sampler), args.steps or len(sampler))
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=args.lr, weight_decay=1e-4)
    state = resumed(stem.with_suffix(".pt"), model, optimiser, device)
    first, losses = state.get("epoch", 0), state.get("losses", [])
    sampler.set_epoch(first)
    step, last = first * per_epoch, args.epochs * per_epoch
    loader = train_loader(dataset, sampler, workers=args.workers)
    for epoch in range(first, args.epochs):
        model.train()
        for number, window in enumerate(loader):
            if number >= per_epoch:
                break
            for group in optimiser.param_groups:
                group["lr"] = rate(step, last, args)
            batch = to_device(window[0], device)
            with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
                loss = loss_of(criterion(model, batch.images, batch.targets))[0]
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 35.0)
            optimiser.step()
            step += 1
            if step % 10 == 0:
                losses.append([step, float(loss.detach())])
        if (epoch + 1) % args.every == 0 or epoch + 1 == args.epochs:
            state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "epoch": epoch + 1}
            save(stem.with_suffix(".pt"), state | {"losses": losses})
    scores, spread = evaluate(model, val, args)
    result = {"case": case, "seed": seed, "steps": step, "losses": losses, "scores": scores, "spread": spread}
    write_json(stem.with_suffix(".json"), result, indent=None)


def evaluate(model: Any, val: Any, args: argparse.Namespace) -> tuple[dict[str, dict[str, float]], float | None]:
    """The numbers of every suppression that the model's candidates allow, and the median sigma (px) of good ones."""
    import torch

    from torso.evaluation.coco import run_coco
    from torso.evaluation.detection import DetectionEvaluator
    from torso.parts import named

    model.eval()
    sure = model.head.has_uncertainty
    ways = {k: v for k, v in SUPPRESSIONS.items() if sure or v[0] != "softer_nms"}
    built = {k: named(kind, "suppression").with_args(**how).build() for k, (kind, how) in ways.items()}
    evaluators = {k: DetectionEvaluator(val) for k in ways}
    sigmas = []
    for rows, images, candidates in candidates_of(model, val, args):
        if candidates.variance is not None:
            sigmas.append(candidates.variance[candidates.scores > 0.5].sqrt().flatten().cpu())
        for key, suppression in built.items():
            found = suppression(candidates)
            for row, detections in zip(rows, to_original(found, images, val.class_names), strict=True):
                evaluators[key].add(row, detections)
    scores = {}
    for key, evaluator in evaluators.items():
        run = run_coco(evaluator.truth, evaluator.results(), range(len(evaluator.truth.image_ids)))
        precision = run.eval["precision"][..., 0, -1]  # of 10 IoUs, 101 recalls and the classes
        scores[key] = {
            name: float(part[part > -1].mean()) if (part > -1).any() else 0.0
            for name, part in zip(NUMBERS, (precision, precision[0], precision[5], precision[8]), strict=True)
        }
    sigma = torch.cat(sigmas) if sigmas else torch.zeros(0)
    return scores, float(sigma.median()) if len(sigma) else None


def candidates_of(model: Any, val: Any, args: argparse.Namespace) -> Iterator[tuple[list[int], Any, Any]]:
    """Rows of the data set, images and candidates, batch by batch."""
    import torch

    from torso.data.dataset import DetectionDataset
    from torso.data.loader import eval_loader
    from torso.data.transforms.letterbox import Letterbox

    loader = eval_loader(DetectionDataset(val, [Letterbox(size_hw=SIZE_HW)]), args.batch, workers=args.workers)
    with torch.no_grad(), torch.autocast(args.device, torch.bfloat16, enabled=args.device == "cuda"):
        for number, batch in enumerate(loader):
            images = to_device(batch, args.device).images
            empty = args.steps and number >= args.steps  # trying the script: the rest of the images found nothing
            candidates = model.candidates(images)
            yield batch.index.tolist(), images, candidates._replace(scores=candidates.scores * (not empty))


# ------------------------------------------------------------------------------------------------------ the driver


def drive(args: argparse.Namespace) -> None:
    """Run what is not done, so many at once, until the limit; then report on what there is."""
    folder = Path(args.out) / "runs"
    cases = [(f"{m}-{loss}", s) for s in args.seeds for m in args.models for loss in args.losses]
    side_by_side(cases, folder, args)
    report(cases, folder, args)


def report(cases: list[tuple[str, int]], folder: Path, args: argparse.Namespace) -> None:
    """softer.md and softer.json."""
    import torch

    results = [json.loads(p.read_text()) for c, s in cases if (p := folder / f"{c}-{s}.json").is_file()]
    lines = []
    for model in args.models:
        lines += table(model, [r for r in results if r["case"].startswith(f"{model}-")], args)
    device = device_name(args.device)
    done = f"{len(results)} of {len(cases)} trainings done"
    head = f"{device}, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}, {done}, `{' '.join(sys.argv)}`\n"
    text = head + "\n".join(lines) + "\n"
    Path(args.out, "softer.md").write_text(text)
    write_json(Path(args.out, "softer.json"), {"command": sys.argv, "results": results}, indent=None)
    print(text)


def table(model: str, results: list[dict[str, Any]], args: argparse.Namespace) -> list[str]:
    """Of one model: a row a loss and suppression."""
    by_key = {(r["case"].split("-")[1], r["seed"]): r for r in results}
    base = args.losses[0]
    lines = [
        f"\n## {model}\n",
        f"Percent, mean ± standard deviation over seeds; the difference is from {base}, {FIRST}, paired by seed, with "
        "its 95 % interval.\n",
        "| loss | suppression | seeds | " + " | ".join(NUMBERS) + " | difference in AP | in AP75 | in AP90 |",
        "|---|---|---|" + "---|" * (len(NUMBERS) + 3),
    ]
    for loss in args.losses:
        mine = {seed: r["scores"] for (other, seed), r in by_key.items() if other == loss}
        for way in SUPPRESSIONS:
            seeds = [s for s in sorted(mine) if way in mine[s]]
            if not seeds:
                continue
            cells = [spread([100 * mine[s][way][n] for s in seeds]) for n in NUMBERS]
            for n in ("AP", "AP75", "AP90"):
                pairs = [s for s in seeds if (base, s) in by_key]
                cells.append(interval([100 * (mine[s][way][n] - by_key[base, s]["scores"][FIRST][n]) for s in pairs]))
            lines.append(f"| {loss} | {way} | {len(seeds)} | " + " | ".join(cells) + " |")
    sigmas = [r["spread"] for r in results if r["spread"] is not None]
    if sigmas:
        lines.append(f"\nMedian sigma of candidates above 0.5, px, each seed: {', '.join(f'{s:.2f}' for s in sigmas)}")
    return lines


def spread(values: list[float]) -> str:
    """Mean and standard deviation."""
    return f"{statistics.mean(values):.2f}" + (f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else "")


def interval(values: list[float]) -> str:
    """Mean of paired differences and the half width of its 95 % interval."""
    if not values:
        return "-"
    mean = f"{statistics.mean(values):+.2f}"
    if len(values) < 2:
        return mean
    return f"{mean} ± {half_width(values):.2f}"


def main() -> None:
    p = parser(__doc__, out="benchmarks/results/softer", models=("retinanet", "fcos"), seeds=3, every=3)
    p.add_argument("--losses", nargs="+", default=list(LOSSES), choices=LOSSES)
    p.add_argument(
        "--steps", type=int, default=0, help="of an epoch, and batches evaluated; 0: all (trying the script)"
    )
    p.add_argument("--box-weight", type=float, default=1.0, help="of the box term of plain and kl")
    run(p.parse_args(), train_one, drive)


if __name__ == "__main__":
    main()
