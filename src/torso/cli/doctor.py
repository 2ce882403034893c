"""`torso doctor`: a data set looked at before training; the exit status says whether training may start."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from torso.cli._bounds import check_holdout
from torso.cli._flags import Parser, UsageError


def add_arguments(parser: Parser) -> None:
    """Of `torso doctor`."""
    parser.add_argument("data", metavar="DIR", help="a folder in COCO, Pascal VOC or YOLO layout; found by looking")
    parser.add_argument("--split", action="append", metavar="NAME", help="only this split; may come several times")
    parser.add_argument(
        "--files",
        choices=("list", "header", "decode"),
        default="header",
        help="how deep to look: which files exist, the header of each (default), or every pixel",
    )
    parser.add_argument(
        "--holdout", type=float, default=0.0, metavar="SHARE", help="without a val split, this share of train is val"
    )
    parser.add_argument("--json", action="store_true", help="as JSON, with every finding")
    parser.epilog = "Exit status: 0 training may start, 1 it may not. Nothing is ever written into the data set."


def run(args: argparse.Namespace) -> int:
    """Print the report."""
    if not Path(args.data).is_dir():
        raise UsageError(f"{args.data}: no such folder; the folder of a data set was wanted: check the path")
    check_holdout(args.holdout or None)  # 0: nothing is held out
    from torso.data.doctor import examine

    report = examine(args.data, args.split, files=args.files, holdout=args.holdout)
    print(json.dumps(report.as_json(), indent=1) if args.json else "\n".join(report.lines()))
    return 0 if report.may_train else 1
