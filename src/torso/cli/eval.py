"""`torso eval`: COCO's twelve numbers of a checkpoint on a split, AP of each class, VOC AP on request."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from torso.cli import _checkpoint as checkpoint
from torso.cli._bounds import check_holdout
from torso.cli._flags import Parser, UsageError


def add_arguments(parser: Parser) -> None:
    """Of `torso eval`."""
    checkpoint.add_arguments(parser)
    parser.add_argument("--data", required=True, metavar="DIR", help="a folder in COCO, Pascal VOC or YOLO layout")
    parser.add_argument("--split", default="val", metavar="NAME", help="of the data set (val)")
    parser.add_argument("--holdout", type=float, default=0.2, metavar="SHARE", help="as in train: 0.2")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes that read images (0)")
    parser.add_argument("--voc", action="store_true", help="Pascal VOC AP at IoU 0.5 too, both rules")
    parser.add_argument("--drop-unknown", action="store_true", help="leave out classes that the data set lacks")
    parser.add_argument("--json", action="store_true", help="as JSON, scores 0..1")


def run(args: argparse.Namespace) -> int:
    """Evaluate and print."""
    checkpoint.check(args)
    check_holdout(args.holdout)
    if not Path(args.data).is_dir():
        raise UsageError(f"--data {args.data}: no such folder; the folder of a data set was wanted")
    from torso.engine.task import EvalSettings, task_of

    model, _ = checkpoint.open_checkpoint(args)
    settings = EvalSettings(batch_size=args.batch_size, workers=args.workers, precision=args.precision)
    options = {name: True for name in ("voc", "drop_unknown") if getattr(args, name)}
    report = task_of(type(model)).evaluate_folder(
        model, args.data, args.split, holdout=args.holdout, settings=settings, options=options
    )
    if args.json:
        print(json.dumps(report.record, indent=1))
        return 0
    head = f"{args.checkpoint} on {args.split} of {args.data}, in percent:"
    print("\n".join([*report.notes, head, *report.lines]))
    return 0
