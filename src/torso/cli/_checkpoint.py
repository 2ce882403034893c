"""What `eval` and `predict` share: a checkpoint opened on a device, its suppression and input changed by flags."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torso.cli import _allow
from torso.cli import _views as views
from torso.cli._bounds import check_values
from torso.cli._flags import Parser, UsageError
from torso.cli._remedies import sentence
from torso.parts import names, nearest

if TYPE_CHECKING:
    from torso.weights import Bundle

_SLOTS = ("suppression", "input")


def add_arguments(parser: Parser) -> None:
    """CHECKPOINT and how it is run."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="model.safetensors or a .ckpt of a run, or its folder")
    parser.add_argument("--suppression", metavar="NAME", help=", ".join(names("suppression")))
    parser.add_argument("--input", metavar="NAME", help=f"{', '.join(names('inputs'))}; not given: as in training")
    parser.add_argument("--batch-size", type=int, default=1, metavar="B", help="images or tiles at once (1)")
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto (CUDA where there is one), cpu, cuda:1")
    of_weights = "of the network's weights; auto is bf16 on CUDA, else 32; 16 is float16"
    parser.add_argument("--precision", choices=("auto", "32", "bf16", "16"), default="auto", help=of_weights)
    views.add_arguments(parser)
    _allow.add_argument(parser)
    parser.dotted = _SLOTS
    parser.epilog = "Dotted flags: --suppression.iou_threshold=0.5 --input.size_hw=512,512 (see `torso parts`)."


def check(args: argparse.Namespace) -> Path:
    """The file that CHECKPOINT means; refuses what can be refused before anything heavy is imported."""
    for slot, kind in (("suppression", "suppression"), ("input", "inputs")):
        chosen: str | None = getattr(args, slot)
        if chosen is None or _allow.check_name(f"--{slot}", chosen):
            continue
        if chosen.replace("-", "_") not in names(kind):
            raise UsageError(f"--{slot}: no {slot} is called {chosen!r}; {nearest(chosen, names(kind))}")
    views.check(args)
    check_values("torso.inference.predictor", "Predictor", {"batch_size": args.batch_size})
    path = Path(args.checkpoint)
    if path.is_dir():
        path = path / "model.safetensors"
        if not path.is_file():
            raise UsageError(f"{args.checkpoint} holds no model.safetensors; name a run's folder or a checkpoint file")
    if not path.is_file():
        raise UsageError(f"no checkpoint at {path}; a .safetensors or .ckpt file of torso was wanted: check the path")
    return path


def open_checkpoint(args: argparse.Namespace) -> tuple[Any, Bundle]:
    """The model on its device, in eval mode, and what its file says."""
    path = check(args)
    from torso.weights import load, read

    bundle = read(path)
    model = load(path)
    if args.suppression is not None or args.input is not None or args.dotted:
        _change(model, bundle, args)
    model.input = views.looked_at(model.input, args)
    return model.to(_device(args.device)), bundle._replace(state={})


def _change(model: Any, bundle: Bundle, args: argparse.Namespace) -> None:
    from torso.compose import swap_model
    from torso.parts import Part

    if args.suppression is not None and not hasattr(model, "suppression"):
        raise UsageError(f"--suppression: a {type(model).__name__} suppresses nothing; leave it out")
    try:
        part = swap_model(Part.from_dict(bundle.model), suppression=args.suppression, input=args.input)
        for path, value in args.dotted.items():
            part = part.override(path, value)
        model.input = part.get("input").build()
        if part.accepts("suppression"):
            model.suppression = part.get("suppression").build()
            model.suppression.check(model.head)
    except ValueError as error:
        raise UsageError(sentence(error)) from error


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(name).type
    except RuntimeError:
        raise UsageError(f"--device {name}: 'auto', 'cpu', 'cuda' or 'cuda:1' were wanted") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"--device {name}: torch finds no CUDA device here; take --device cpu")
    return name
