"""`torso demo`: a small data set made, learned from, evaluated and shown, in minutes on a CPU, without a download."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from torso.cli._flags import Parser, UsageError

if TYPE_CHECKING:
    from torso.parts import Part
    from torso.training.recipes.recipe import Recipe


def add_arguments(parser: Parser) -> None:
    """Of `torso demo`."""
    parser.add_argument("--out", default="demo", metavar="DIR", help="data, run and report go there (demo)")
    parser.add_argument("--epochs", type=int, metavar="N", help="fewer are faster and worse")
    parser.add_argument("--images", nargs=2, type=int, default=(400, 100), metavar=("TRAIN", "VAL"), help="400 100")
    parser.add_argument("--workers", type=int, metavar="N", help="processes that read images")


def run(args: argparse.Namespace) -> int:
    """Make, train, report."""
    if args.epochs is not None and args.epochs < 1:
        raise UsageError(f"--epochs {args.epochs} came; at least 1 was wanted")
    from torso.backbones._efficientnet_lite0 import write_weights
    from torso.cli._finish import finish
    from torso.data.digits import build_digits
    from torso.data.splits import open_splits
    from torso.engine.train import train

    start = time.monotonic()
    data = Path(args.out) / "data"
    build_digits(data, train=args.images[0], val=args.images[1], size_hw=(192, 192), height_px=(24, 84))
    made = time.monotonic()
    print(f"data set  {data}: handwritten digits on photographs ({made - start:.0f} s)", flush=True)
    recipe = demo_recipe(write_weights(Path(args.out) / "backbone.safetensors"))
    if args.epochs is not None:
        recipe = recipe.with_args(epochs=args.epochs)
    splits = open_splits(data)
    result = train(
        recipe,
        splits,
        run_dir=Path(args.out) / "run",
        workers=args.workers,
        log_every=10,
        eval_every=4,
    )
    if result.interrupted or result.scores is None:
        return 1
    page = finish(result, splits, command="torso demo")
    seconds = result.seconds
    print(
        f"\nAP50 {result.scores.AP50:.3f}, AP {result.scores.AP:.3f} on images not learned from\n"
        f"{seconds['train']:.0f} s of training, {seconds['evaluate']:.0f} s of evaluating, "
        f"{time.monotonic() - start:.0f} s in all; look at {page}"
    )
    return 0


def demo_recipe(weights: Path | None = None) -> Part[Recipe]:
    """A small FCOS on EfficientNet-Lite0, images of 192 px: what two CPU cores can train in five minutes.

    weights: of the backbone, in timm's keys. The first stages and all BatchNorms keep theirs: little is learned there
    from 400 images, and their backward pass is the dearest on a CPU.
    """
    from torso.backbones.timm import Timm
    from torso.inputs.letterbox import Letterbox
    from torso.models.detector import Detector
    from torso.necks.fpn import FPN
    from torso.parts import part
    from torso.suppression.nms import NMS
    from torso.training.assigners.atss import ATSSAssigner
    from torso.training.criteria.dense import DenseCriterion
    from torso.training.losses.focal import FocalLoss
    from torso.training.losses.iou import GIoULoss
    from torso.training.recipes.recipe import Recipe
    from torso.training.terms.box import BoxTerm
    from torso.training.terms.classification import ClassificationTerm
    from torso.zoo.fcos import FCOSHead

    model = part(
        Detector,
        backbone=part(Timm, name="tf_efficientnet_lite0", frozen_stride=4, frozen_norm=True),
        neck=part(FPN, channels=48, finest=8, coarsest=32, norm="bn"),
        head=part(FCOSHead, num_classes=10, finest=8, coarsest=32, channels=48, tower=2, quality="box"),
        suppression=part(NMS, iou_threshold=0.6),
        input=part(Letterbox, size_hw=(192, 192)),
    )
    criterion = part(
        DenseCriterion,
        assigner=part(ATSSAssigner),
        cls=part(ClassificationTerm, loss=part(FocalLoss)),
        box=part(BoxTerm, loss=part(GIoULoss), weighting="quality", weight=2.0),
    )
    return part(
        Recipe,
        model=model,
        criterion=criterion,
        epochs=14,
        batch_size=8,
        optimizer="adamw",
        lr=2e-3,
        lr_batch=None,
        weight_decay=0.02,
        warmup_steps=30,
        schedule="cosine",
        clip_norm=10.0,
        ema=0.98,
        pretrained=None if weights is None else str(weights),
    )
