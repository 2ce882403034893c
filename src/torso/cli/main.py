"""The command line: one verb a file, imported when it is called, so that help and mistakes cost no import of torch.

Exit status: 0 done, 1 failed (the doctor: training may not start), 2 the arguments are wrong, 130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from torso.cli import _allow
from torso.cli._flags import Parser, UsageError
from torso.cli._remedies import sentence
from torso.parts import PartError, nearest

VERBS = {
    "train": "train a model on a folder of images and boxes",
    "eval": "evaluate a checkpoint: COCO's twelve numbers, AP of each class, VOC AP",
    "predict": "find objects in images, folders or videos; draw them and write COCO results",
    "show": "what a model is made of: maps, parameters, FLOPs, and its recipe as YAML",
    "parts": "list the parts that models are composed of, and their arguments",
    "anchors": "fit anchor shapes to a data set, and say what a model's own can reach",
    "doctor": "look at a data set before training: what is there, what is wrong, what will be dropped",
    "demo": "build a small data set, train on it, evaluate it and draw what was found",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status and prints one sentence for a user's mistake."""
    args = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in args
    args = [a for a in args if a != "--debug"]
    try:
        return _run(args)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `torso parts | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        told = explain(error)
        if debug or told is None:
            raise
        verb = f"torso {args[0]}" if args and args[0] in VERBS else "torso"
        print(f"{verb}: {told}", file=sys.stderr)
        return 2 if isinstance(error, UsageError | PartError) else 1


def explain(error: Exception) -> str | None:
    """The sentence of an error that the user can do something about; None for one of ours, which needs a traceback."""
    if type(error).__name__ == "OutOfMemoryError":  # torch's, named so that torch need not be imported to ask
        return "the device ran out of memory; lower --batch-size (and raise --accumulate), or the input size"
    if isinstance(error, ModuleNotFoundError):  # a broken installation; a missing extra comes as an ImportError of ours
        return None
    if isinstance(error, ValueError | OSError | ImportError):
        return sentence(error)
    return None


def _run(args: list[str]) -> int:
    if not args or args[0] in ("-h", "--help", "help"):
        print(_help())
        return 0 if args else 2
    verb = args[0]
    if verb in ("-V", "--version"):
        from torso import __version__

        print(f"torso {__version__}")
        return 0
    if verb not in VERBS:
        raise UsageError(f"no verb is called {verb!r}; {nearest(verb, VERBS)}")
    module = importlib.import_module(f"torso.cli.{verb}")
    parser = Parser(prog=f"torso {verb}", description=VERBS[verb][0].upper() + VERBS[verb][1:] + ".")
    module.add_arguments(parser)
    try:
        parsed = parser.parse(args[1:])
    except SystemExit as stop:  # --help
        return int(stop.code or 0)
    with _allow.allowed(parsed):
        status: int = module.run(parsed)
    return status


def _help() -> str:
    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {line}" for verb, line in VERBS.items()]
    return "\n".join(
        [
            "torso composes object detectors: any backbone, neck, head, assigner, loss and suppression.",
            "",
            "usage: torso VERB ...      (torso VERB --help says more)",
            "",
            *lines,
            "",
            "  --version  the version;  --debug  show the traceback of an error",
        ]
    )
