"""`torso train`: the doctor's look, the run, and a page that shows what came of it."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from torso.cli import _model_flags as model_flags
from torso.cli._bounds import check_holdout, check_values
from torso.cli._flags import Parser, UsageError

if TYPE_CHECKING:
    from torso.parts import Part
    from torso.training.recipes.recipe import Recipe

ENDED_BY_SIGNAL = 143


def add_arguments(parser: Parser) -> None:
    """Of `torso train`."""
    parser.add_argument("--data", metavar="DIR", help="a folder in COCO, Pascal VOC or YOLO layout; found by looking")
    parser.add_argument("--out", metavar="DIR", help="of the run; runs/MODEL, or the first free of runs/MODEL-2, ...")
    parser.add_argument("--resume", metavar="RUN|CKPT", help="go on with a run: its folder or a checkpoint of it")
    parser.add_argument("--init", metavar="CKPT", help="start from a detector; what fits by name and shape is taken")
    parser.add_argument("--holdout", type=float, metavar="SHARE", help="of train, where there is no val (0.2)")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N images of each split")
    parser.add_argument("--devices", default="auto", metavar="N", help="how many devices (auto)")
    parser.add_argument("--accelerator", default="auto", choices=("auto", "cpu", "gpu"), help="where to train (auto)")
    parser.add_argument("--workers", type=int, metavar="N", help="processes that read images; one a core, 8 at most")
    parser.add_argument("--eval-every", type=int, default=1, metavar="EPOCHS", help="evaluate on val so often (1)")
    parser.add_argument(
        "--eval-batch-size", type=int, default=8, metavar="B", help="images at once when evaluating (8)"
    )
    parser.add_argument("--checkpoint-every", type=int, metavar="STEPS", help="three minutes if not given")
    parser.add_argument("--log-every", type=int, default=20, metavar="STEPS", help="a row of metrics.csv (20)")
    model_flags.add_arguments(parser, optional=True)


def run(args: argparse.Namespace) -> int:
    """Check, train, report."""
    _check_numbers(args)
    resume, recipe = _resume(args), None
    if args.model is not None:
        model_flags.check_names(args)
    if args.data is None and resume is None:
        raise UsageError("--data DIR is missing; the folder of a data set was wanted")
    if args.data is not None and not Path(args.data).is_dir():
        raise UsageError(f"--data {args.data}: no such folder; the folder of a data set was wanted")
    if args.init is not None and not Path(args.init).is_file():
        raise UsageError(f"--init {args.init}: no such file; a checkpoint (.safetensors or .ckpt) of torso was wanted")
    if args.model is not None:
        recipe = model_flags.compose(args)
    source = _source(args, resume)
    from torso.engine.task import task_of

    wanted = recipe or _kept_recipe(resume)
    task = task_of(wanted.get("model"))
    looked = task.inspect(source.folder, wanted, holdout=source.holdout)
    _say("\n".join(looked.lines))
    if looked.splits is None:
        return 1
    return _train(args, recipe, looked.splits, source.limit, resume)


class _Source(NamedTuple):
    """Where the data lies and how it is cut."""

    folder: str
    holdout: float
    limit: int | None


def _train(
    args: argparse.Namespace, recipe: Part[Recipe] | None, splits: Any, limit: int | None, resume: Path | None
) -> int:
    from torso.cli._finish import finish
    from torso.engine.train import train

    name = None if args.model is None else Path(args.model).stem.rpartition(":")[2]
    result = train(
        recipe,
        splits,
        run_dir=args.out or (f"runs/{name}" if resume is None else None),
        resume=resume,
        init=args.init,
        devices=int(args.devices) if args.devices.isdigit() else args.devices,
        accelerator=args.accelerator,
        workers=args.workers,
        limit=limit,
        eval_every=args.eval_every,
        eval_batch_size=args.eval_batch_size,
        log_every=args.log_every,
        checkpoint_every=args.checkpoint_every,
    )
    if result.interrupted:
        return ENDED_BY_SIGNAL
    if _is_main():
        finish(result, splits, limit=limit, command=shlex.join(["torso", *sys.argv[1:]]))
    return 0


def _resume(args: argparse.Namespace) -> Path | None:
    """The checkpoint to go on from; flags that would be ignored with it are refused."""
    if args.resume is None:
        if args.model is None:
            raise UsageError("a model is missing: torso train MODEL --data DIR, or --resume RUN to go on with one")
        return None
    given = model_flags.given(args)
    given += [flag for flag in ("--holdout", "--limit") if getattr(args, flag[2:]) is not None]
    if args.model is None and given:
        raise UsageError(f"with --resume the recipe is the run's own; leave out {', '.join(given)}, or use --init")
    if args.init is not None or args.out is not None:
        raise UsageError("--resume goes on in the run's own folder with its own weights; leave out --init and --out")
    path = Path(args.resume)
    path = path / "checkpoints" / "last.ckpt" if path.is_dir() else path
    if not path.is_file():
        raise UsageError(f"--resume {args.resume}: no checkpoint at {path}; name a run's folder or a .ckpt of it")
    return path


def _check_numbers(args: argparse.Namespace) -> None:
    """Numbers of the run, refused before anything is read or made."""
    check_values("torso.engine.run_folder", "RunOptions", vars(args))
    check_values("torso.engine.train", "train", {"workers": args.workers, "limit": args.limit})
    check_holdout(args.holdout)
    if args.devices != "auto" and not (args.devices.isdigit() and int(args.devices) >= 1):
        raise UsageError(f"--devices {args.devices} came; auto or how many devices was wanted")


def _source(args: argparse.Namespace, resume: Path | None) -> _Source:
    """The data that the flags name; a resumed run keeps its cut of the data wherever the folder now lies."""
    given = _Source(args.data, 0.2 if args.holdout is None else args.holdout, args.limit)
    if resume is None:
        return given
    origin = _origin(resume)
    if args.data is not None:
        return given if origin is None else origin._replace(folder=args.data)
    if origin is None:
        raise UsageError(f"{resume} does not say where its data lay; give --data DIR")
    return origin


def _origin(checkpoint: Path) -> _Source | None:
    """The data that a run was started on, where it was a folder."""
    from torso.engine.checkpoint_file import KEY, load_checkpoint

    origin: dict[str, Any] | None = load_checkpoint(checkpoint)[KEY]["origin"]
    return None if origin is None else _Source(**origin)


def _kept_recipe(checkpoint: Path | None) -> Part[Recipe]:
    """The recipe of the run to be resumed."""
    from torso.engine.checkpoint_file import KEY, load_checkpoint
    from torso.parts import Part

    assert checkpoint is not None, "a model or a run to resume is there: _resume has looked"
    return Part.from_dict(load_checkpoint(checkpoint)[KEY]["recipe"])


def _is_main() -> bool:
    """Lightning starts the same command once a device; one of them speaks."""
    return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "RANK", "SLURM_PROCID"))


def _say(text: str) -> None:
    if _is_main():
        print(text, flush=True)
