"""`torso eval`: COCO's twelve numbers of a checkpoint on a split, AP of each class, VOC AP on request."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torso.cli import _checkpoint as checkpoint
from torso.cli._bounds import check_holdout
from torso.cli._flags import Parser, UsageError

if TYPE_CHECKING:
    from torso.data.annotations import Annotations
    from torso.evaluation.proposals import ProposalScores
    from torso.evaluation.voc import VocScores


def add_arguments(parser: Parser) -> None:
    """Of `torso eval`."""
    checkpoint.add_arguments(parser)
    parser.add_argument("--data", required=True, metavar="DIR", help="a folder in COCO, Pascal VOC or YOLO layout")
    parser.add_argument("--split", default="val", metavar="NAME", help="of the data set (val)")
    parser.add_argument("--holdout", type=float, default=0.2, metavar="SHARE", help="as in train: 0.2")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes that read pictures (0)")
    parser.add_argument("--voc", action="store_true", help="Pascal VOC AP at IoU 0.5 too, both rules")
    parser.add_argument("--drop-unknown", action="store_true", help="leave out classes that the data set lacks")
    parser.add_argument("--json", action="store_true", help="as JSON, scores 0..1")


def run(args: argparse.Namespace) -> int:
    """Judge and print."""
    checkpoint.check(args)
    check_holdout(args.holdout)
    if not Path(args.data).is_dir():
        raise UsageError(f"--data {args.data}: no such folder; the folder of a data set was wanted")
    from torso.evaluation.run import Settings, collect

    truth, notes = open_split(args.data, args.split, args.holdout)
    model, bundle = checkpoint.open_checkpoint(args)
    proposer = bundle.model["head"]["part"] == "heads.rpn"
    if proposer:
        from torso.data.splits import as_objects

        truth = as_objects(truth)
    settings = Settings(
        batch_size=args.batch_size, workers=args.workers, precision=args.precision, drop_unknown=args.drop_unknown
    )
    found = collect(model, truth, settings)
    scores, results = found.compute(), found.results()
    voc = _voc(truth, results) if args.voc else {}
    recall = _recall(truth, results) if proposer else None
    if args.json:
        extra = {"voc": {name: _finite(one.to_dict()) for name, one in voc.items()}} if voc else {}
        extra |= _recall_json(recall) if recall else {}
        print(json.dumps({"notes": notes, **scores.to_dict(), **extra}, indent=1))
        return 0
    print("\n".join([*notes, f"{args.checkpoint} on {args.split} of {args.data}, in percent:", str(scores)]))
    for name, one in voc.items():
        classes = "  ".join(f"{c.name} {100 * c.AP:.1f}" for c in one.per_class if c.objects)
        print(f"VOC {name} mAP50 {100 * one.mAP:.1f}  {classes}")
    if recall is not None:
        print("proposals  " + "  ".join(f"AR@{k} {100 * v:.1f}" for k, v in recall.average_recall.items()))
    return 0


def open_split(data: str, split: str, holdout: float) -> tuple[Annotations, list[str]]:
    """What of a split can be judged on, and a line on what was left out. ValueError where nothing is."""
    from torso.data.clean import clean
    from torso.data.layout import open_dataset

    kept, findings = clean(open_dataset(data, split, holdout=holdout))
    refused = [f.text for f in findings if f.action == "refused"]
    if refused:
        raise ValueError(refused[0])
    dropped = sum(f.action == "dropped" for f in findings)
    return kept, [f"{dropped} pictures or boxes dropped (torso doctor {data} says which)"] if dropped else []


def _voc(truth: Annotations, results: Any) -> dict[str, VocScores]:
    from torso.evaluation.voc import evaluate_voc

    return {
        "2010 (area)": evaluate_voc(truth, results),
        "2007 (11 points)": evaluate_voc(truth, results, eleven_points=True),
    }


def _finite(value: Any) -> Any:
    """None for NaN, which JSON does not have: a class without objects."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _recall(truth: Annotations, results: Any) -> ProposalScores:
    from torso.evaluation.proposals import evaluate_proposals

    return evaluate_proposals(truth, results)


def _recall_json(recall: ProposalScores) -> dict[str, Any]:
    at = {f"{iou:g}@{k}": value for (iou, k), value in recall.recall.items()}
    return {"proposals": {"average_recall": dict(recall.average_recall), "recall": at}}
