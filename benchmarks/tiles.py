"""Tiles on large images: AP with and without them, on images made of DeepPCB boards.

    python benchmarks/tiles.py --data DATA --out DIR [--grid 3] [--steps 600] [--seeds 0] [--workers 16] [--trained ...]

DATA holds deeppcb/ (github.com/tangsanli5201/DeepPCB as COCO: train.json, val.json, images/) and, if the backbone is
to start pretrained, weights/tf_efficientnet_lite0_in1k_timm.safetensors. The boards of each split, 640 x 640 px with
small defects, are laid edge to edge into images of grid x grid boards, written into DIR/images as a COCO data set.

Two models of one recipe (FCOS, EfficientNet-Lite0, FPN, inputs of 640 x 640 px) get the same number of steps of the
same batch: one sees whole images, shrunk to the input, the other sees tiles of 640 px (and the shrunken whole among
them). Each is then evaluated on val in every way. What is finished is not done again, and a training that was
stopped goes on from its last checkpoint, so the command can be repeated until all is there: DIR/tiles.json, tiles.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _harness import device_name, machine, write_json
from PIL import Image

TRAINED = ("whole", "tiles")
STATS = ("AP", "AP50", "APs", "APm", "AR100", "ARs")


# ------------------------------------------------------------------------------------------------------ the images


def build_images(source: Path, target: Path, grid: int, rounds: int) -> None:
    """Both splits; train's boards are laid `rounds` times, each time in another order. target appears when complete."""
    if target.is_dir():
        return
    unfinished = target.with_name(target.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    (unfinished / "images").mkdir(parents=True)
    for split, times in (("train", rounds), ("val", 1)):
        truth = json.loads((source / f"{split}.json").read_text())
        made = lay(truth, source / "images", unfinished / "images", split, grid, times)
        (unfinished / f"{split}.json").write_text(json.dumps(made))
    unfinished.rename(target)


def lay(truth: dict[str, Any], source: Path, target: Path, split: str, grid: int, times: int) -> dict[str, Any]:
    """Images of grid x grid boards with the boards' annotations; boards that fill no image are left over."""
    boxes: dict[int, list[dict[str, Any]]] = {}
    for one in truth["annotations"]:
        boxes.setdefault(one["image_id"], []).append(one)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for turn in range(times):
        order = np.random.default_rng([grid, turn]).permutation(len(truth["images"]))
        for first in range(0, len(order) - grid * grid + 1, grid * grid):
            boards = [truth["images"][i] for i in order[first : first + grid * grid]]
            number, side = len(images) + 1, max(max(b["height"], b["width"]) for b in boards)
            image = Image.new("L", (grid * side, grid * side))
            for place, board in enumerate(boards):
                x, y = place % grid * side, place // grid * side
                with Image.open(source / board["file_name"]) as file:
                    image.paste(file.convert("L"), (x, y))
                for one in boxes.get(board["id"], []):
                    left, top, width, height = one["bbox"]
                    moved = {"bbox": [left + x, top + y, width, height], "image_id": number, "segmentation": []}
                    annotations.append({**one, **moved, "id": len(annotations) + 1})
            name = f"{split}_{number:03d}.png"
            image.save(target / name)
            images.append({"id": number, "file_name": name, "height": image.height, "width": image.width})
    return {"images": images, "annotations": annotations, "categories": truth["categories"]}


# ------------------------------------------------------------------------------------------------------ the trainings


def recipe_of(trained: str, seed: int, args: argparse.Namespace) -> Any:
    from torso.inputs._stack import tiled_part
    from torso.inputs.letterbox import Letterbox
    from torso.parts import part
    from torso.training.compose_recipe import compose_recipe

    size_hw = (args.tile, args.tile)
    policy = part(Letterbox, size_hw=size_hw)
    weights = Path(args.data, "weights", "tf_efficientnet_lite0_in1k_timm.safetensors")
    own = {"pretrained": str(weights), "backbone.frozen_norm": True} if weights.is_file() else {}
    return compose_recipe(
        "fcos",
        backbone=args.backbone,
        input=tiled_part(policy, size_hw=size_hw, overlap=0.2) if trained == "tiles" else policy,
        overrides={
            **(own if args.backbone == "tf_efficientnet_lite0" else {}),
            "optimizer": "adamw", "lr": 5e-4, "lr_batch": None, "schedule": "cosine", "warmup_steps": args.steps // 10,
            "weight_decay": 0.05, "clip_norm": 10.0, "steps": args.steps, "batch_size": args.batch_size, "seed": seed,
            "compile": "no",
        },
    )  # fmt: skip


def train_one(trained: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Its weight file and seconds; goes on where an earlier call was stopped."""
    from torso.engine.train import train

    folder = args.out / "runs" / f"{trained}-{seed}"
    done = folder / "done.json"
    if done.is_file():
        return json.loads(done.read_text())
    checkpoint = folder / "checkpoints" / "last.ckpt"
    more = {"resume": checkpoint}
    if not checkpoint.is_file():
        shutil.rmtree(folder, ignore_errors=True)  # ours, and nothing in it to go on from
        more = {"recipe": recipe_of(trained, seed, args), "run_dir": folder}
    result = train(
        data=args.out / "images", workers=args.workers, eval_every=1_000_000, eval_batch_size=args.batch_size,
        checkpoint_every=max(args.steps // 4, 1), progress=False, devices=1, **more,
    )  # fmt: skip
    if result.interrupted:
        raise SystemExit(143)
    record = {"weights": str(folder / "model.safetensors"), "seconds": result.seconds["train"]}
    done.write_text(json.dumps(record))
    return record


# ------------------------------------------------------------------------------------------------------ the looks


def looks(tile: int, grid: int) -> dict[str, Callable[[], Any]]:
    """Name and input policy of every way of looking; the names are the rows of the table."""
    from torso.inputs._stack import stacked
    from torso.inputs.letterbox import Letterbox
    from torso.inputs.tiles import Tiles

    own = Letterbox(size_hw=(tile, tile))
    full = Letterbox(size_hw=(tile * grid, tile * grid))

    def tiles(**arguments: Any) -> Callable[[], Any]:
        return lambda: stacked(own, tiles=Tiles(size_hw=(tile, tile), **arguments))

    return {
        "whole, shrunk": lambda: own,
        "whole, its own pixels": lambda: full,
        "tiles, overlap 0.2, union": tiles(),
        "tiles, overlap 0.2, suppression": tiles(merge="suppression"),
        "tiles, overlap 0.2, union, no whole": tiles(whole=False),
        "tiles, no overlap, union": tiles(overlap=0.0),
    }


def evaluate_part(trained: str, seed: int, weights: str, args: argparse.Namespace) -> None:
    """A row for each way of looking, in evaluated.json beside the run."""
    import torch

    from torso.data.layout import open_dataset
    from torso.evaluation.run import Settings, evaluate
    from torso.weights import load

    file = args.out / "runs" / f"{trained}-{seed}" / "evaluated.json"
    rows: list[dict[str, Any]] = json.loads(file.read_text()) if file.is_file() else []
    truth, device = open_dataset(args.out / "images", "val"), "cuda" if torch.cuda.is_available() else "cpu"
    for name, policy in looks(args.tile, args.grid).items():
        if any(row["look"] == name for row in rows):
            continue
        model = load(weights).to(device)
        model.input = policy()
        start = time.monotonic()
        scores = evaluate(model, truth, Settings(batch_size=args.batch_size, workers=args.workers))
        seconds = (time.monotonic() - start) / len(truth)
        numbers = {stat: getattr(scores, stat) for stat in STATS}
        rows.append({"trained": trained, "seed": seed, "look": name, "seconds_a_image": seconds, **numbers})
        write_json(file, rows, indent=None)  # another call may be reading
        print(f"{trained} seed {seed}, {name}: AP {100 * scores.AP:.1f}, small {100 * scores.APs:.1f}", flush=True)


def report(args: argparse.Namespace) -> None:
    """tiles.json and tiles.md of all that was evaluated."""
    import torch

    files = [args.out / "runs" / f"{trained}-{seed}" / "evaluated.json" for seed in args.seeds for trained in TRAINED]
    rows: list[dict[str, Any]] = [row for file in files if file.is_file() for row in json.loads(file.read_text())]
    truth = json.loads((args.out / "images" / "val.json").read_text())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    where = device_name(device)
    found = {"machine": machine(device), "command": sys.argv, "device": where, "rows": rows}
    write_json(args.out / "tiles.json", found)
    small = sum(a["bbox"][2] * a["bbox"][3] < 32**2 for a in truth["annotations"])
    side = truth["images"][0]["width"]
    lines = [
        f"{len(truth['images'])} images of {args.grid} x {args.grid} boards ({side} px a side), "
        f"{len(truth['annotations'])} defects, {small} of them small; {args.steps} steps of {args.batch_size}, "
        f"inputs of {args.tile} px, {len(args.seeds)} seed(s), {where}. Percent, mean over seeds (least..most of AP).",
        "",
        "| trained on | looks at | AP | " + " | ".join(STATS[1:]) + " | s an image |",
        "|---|---|" + "---|" * (len(STATS) + 1),
    ]
    for trained in TRAINED:
        for name in looks(args.tile, args.grid):
            own = [row for row in rows if (row["trained"], row["look"]) == (trained, name)]
            if not own:
                continue
            aps = [100 * row["AP"] for row in own]
            means = [f"{100 * statistics.mean(row[stat] for row in own):.1f}" for stat in STATS[1:]]
            seconds = f"{statistics.mean(row['seconds_a_image'] for row in own):.2f}"
            spread = f"{statistics.mean(aps):.1f} ({min(aps):.1f}..{max(aps):.1f})"
            lines.append(f"| {trained} | {name} | {spread} | " + " | ".join([*means, seconds]) + " |")
    (args.out / "tiles.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--grid", type=int, default=3, help="boards a side")
    parser.add_argument("--rounds", type=int, default=4, help="images made of each training board")
    parser.add_argument("--tile", type=int, default=640, help="px; smaller only to try the script")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--trained", nargs="+", choices=TRAINED, default=list(TRAINED), help="one, to run both at once")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0", help="another only to try the script")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    build_images(Path(args.data, "deeppcb"), args.out / "images", args.grid, args.rounds)
    for seed in args.seeds:
        for trained in args.trained:
            record = train_one(trained, seed, args)
            evaluate_part(trained, seed, record["weights"], args)
            report(args)


if __name__ == "__main__":
    main()
