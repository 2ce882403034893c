"""Necks beside each other on bccd: the same backbone, head, images and number of steps, several seeds.

    python benchmarks/necks.py --data DATA --out DIR [--necks fpn pan ...] [--seeds 0 1 2] [--jobs 12] [--limit 540]

DATA is as in accuracy.py: bccd/ and weights/tf_efficientnet_lite0_in1k_timm.safetensors. Every neck stands between the
same pretrained EfficientNet-Lite0 (frozen BatchNorm) and the same RetinaNet head, is 128 wide and gives strides 8 to
128; only `none` ends at the backbone's 32, and the matrix gives 19 levels between them. Criterion: the recipe's. AdamW,
cosine, flips, bf16 autocast on CUDA, eager: compiling so many short trainings would take longer than running them.
Running statistics are kept as the training engine keeps them.

The decoded images lie in the device's memory, so a training needs little of the CPU; `--jobs` processes train side by
side on one device, each one case after the other. A finished case is not run again and a stopped one goes on from its
last checkpoint: repeat the command until all is there. A case that failed leaves DIR/runs/CASE.error and is run again.
Last, alone on the device, images/s: pixels to suppressed boxes with the trained weights, bf16, eager kernels replayed
as one CUDA graph (on the CPU 32 bits, no graph). Output: DIR/necks.json, necks.md, necks.svg.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import statistics
import time
import traceback
from pathlib import Path
from typing import Any

from _harness import add_after, await_device, save, settings_match, synchronise, write_json
from _necks_report import STATS, report
from _seeds import half_width, lite0, resumed, to_original

CLASSES = 3
WIDTH = 128
SETTINGS = ("size", "steps", "batch", "lr", "warmup", "device", "infer_batch")


def necks(width: int = WIDTH) -> dict[str, tuple[Any, ...]]:
    """The chains that are compared, all of one width; what a neck repeats is as small as it makes sense."""
    from torso.necks.asff import ASFF
    from torso.necks.bifpn import BiFPN
    from torso.necks.csp_pan import CSPPAN
    from torso.necks.fc_fpn import FCFPN
    from torso.necks.fpn import FPN
    from torso.necks.matrix import Matrix
    from torso.necks.nas_fpn import NASFPN
    from torso.necks.pan import PAN
    from torso.necks.sfam import SFAM
    from torso.parts import part

    same: dict[str, Any] = {"channels": width, "finest": 8, "coarsest": 128}
    return {
        "none": (),
        "fpn": (part(FPN, **same),),
        "pan": (part(PAN, **same),),
        "pan_concat": (part(PAN, form="concat", **same),),
        "csp_pan": (part(CSPPAN, widths=(width,) * 3, depth=1, **same),),
        "bifpn": (part(BiFPN, layers=3, **same),),
        "nas_fpn": (part(NASFPN, repeats=3, **same),),
        "fc_fpn": (part(FCFPN, repeats=3, **same),),
        "fpn+asff": (part(FPN, **same), part(ASFF, **same)),
        "sfam": (part(SFAM, tums=2, base=(width, 2 * width), squeezed=width // 2, **same),),
        "matrix": (part(Matrix, **same),),
    }


def recipe_of(neck: str, size_hw: tuple[int, int]) -> tuple[Any, Any]:
    """The model and the criterion, as Parts."""
    from torso.backbones.timm import Timm
    from torso.inputs.letterbox import Letterbox
    from torso.parts import find, part

    recipe = find("retinanet", "recipes")(num_classes=CLASSES)
    chain = necks()[neck]
    head = recipe.get("model").get("head").with_args(channels=WIDTH, coarsest=128 if chain else 32)
    model = recipe.get("model").with_args(
        backbone=part(Timm, name="tf_efficientnet_lite0", frozen_norm=True), neck=chain, head=head,
        input=part(Letterbox, size_hw=size_hw),
    )  # fmt: skip
    return model, recipe.get("criterion")


# ------------------------------------------------------------------------------------------------------ the images


def keep_images(args: argparse.Namespace) -> None:
    """Both splits decoded and resized once, as tensors in one file each."""
    from torso.data.collate import collate
    from torso.data.dataset import DetectionDataset
    from torso.data.doctor import examine
    from torso.data.transforms.letterbox import Letterbox

    for name, split in examine(Path(args.data) / "bccd").splits.items():
        file = images_file(args, name)
        if file.is_file():
            continue
        dataset = DetectionDataset(split.annotations, [Letterbox(size_hw=args.size)])
        batch = collate([dataset[0, i] for i in range(len(dataset))])
        save(file, {**batch.images._asdict(), **batch.targets._asdict(), "index": batch.index})


def images_file(args: argparse.Namespace, split: str) -> Path:
    return Path(args.out) / f"{split}-{args.size[0]}x{args.size[1]}.pt"


def load_images(args: argparse.Namespace, split: str) -> dict[str, Any]:
    import torch

    held: dict[str, Any] = torch.load(images_file(args, split), weights_only=True, map_location=args.device)
    if (held["size_hw"][:, 1] != args.size[1]).any():
        raise ValueError(f"flips want images as wide as the batch; {args.size[1]} px is too wide here")
    return held


def images_of(held: dict[str, Any], rows: Any) -> Any:
    from torso.types import Images

    return Images(held["pixels"][rows], held["size_hw"][rows], held["to_original"][rows])


def training_batch(held: dict[str, Any], rows: Any, flip: Any) -> tuple[Any, Any]:
    """Images and targets of these rows; those where flip is set are mirrored, all on the device."""
    import torch

    from torso.data.targets import Targets

    images, boxes = images_of(held, rows), held["boxes"][rows]
    width = images.pixels.shape[-1]
    mirrored = torch.stack([width - boxes[..., 2], boxes[..., 1], width - boxes[..., 0], boxes[..., 3]], -1)
    pixels = torch.where(flip[:, None, None, None], images.pixels.flip(-1), images.pixels)
    boxes = torch.where(flip[:, None, None], mirrored, boxes)
    labels, valid, crowd = (held[name][rows] for name in ("labels", "valid", "crowd"))
    return images._replace(pixels=pixels), Targets(boxes, labels, valid, crowd)


def schedule(size: int, args: argparse.Namespace, seed: int) -> tuple[Any, Any]:
    """[steps, batch] rows and flips of a whole training: a function of the seed alone, so the same for every neck."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    epochs = -(-args.steps * args.batch // (size - size % args.batch))
    order = torch.cat([torch.randperm(size, generator=generator)[: size - size % args.batch] for _ in range(epochs)])
    rows = order[: args.steps * args.batch].view(args.steps, args.batch)
    return rows, torch.rand(rows.shape, generator=generator) < 0.5


# ------------------------------------------------------------------------------------------------------ one training


def work(queue: Any, args: argparse.Namespace) -> None:
    """A process: one case after the other."""
    import torch

    torch.set_num_threads(1)
    train, val = (load_images(args, split) for split in ("train", "val"))
    while (case := queue.get()) is not None:
        stem = Path(args.out) / "runs" / case
        try:
            train_one(case, args, train, val)
            stem.with_suffix(".error").unlink(missing_ok=True)
        except Exception:  # one case's failure is its result, the others go on
            stem.with_suffix(".error").write_text(traceback.format_exc())
            print(f"{case}: FAILED, see {stem.with_suffix('.error')}", flush=True)


def train_one(case: str, args: argparse.Namespace, held: dict[str, Any], val: dict[str, Any]) -> None:
    """Train from where a checkpoint left it, evaluate, write one JSON."""
    import torch

    from torso.engine.running_stats import RunningStatistics
    from torso.training.criteria._base import loss_of

    neck, _, seed = case.rpartition("-")
    stem = Path(args.out) / "runs" / case
    torch.manual_seed(int(seed))
    model, criterion = built(neck, args)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=args.lr, weight_decay=1e-4, fused=True)
    state = resumed(stem.with_suffix(".pt"), model, optimiser, args.device)
    step, seconds, losses = state.get("step", 0), state.get("seconds", 0.0), state.get("losses", [])
    rows, flips = (x.to(args.device) for x in schedule(len(held["pixels"]), args, int(seed)))
    started = time.perf_counter() - seconds
    running = RunningStatistics(model.train())
    happens = torch.zeros((), device=args.device)
    while step < args.steps:
        for group in optimiser.param_groups:
            group["lr"] = args.lr * rate(step, args)
        images, targets = training_batch(held, rows[step], flips[step])
        running.snapshot()
        with torch.autocast(args.device, torch.bfloat16, enabled=args.device == "cuda"):
            loss = loss_of(criterion(model, images, targets))[0]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 35.0)
        optimiser.step()
        running.restore(happens)
        step += 1
        if step % 20 == 0:
            losses.append([step, float(loss.detach())])
        if step % args.every == 0 or step == args.steps:
            seconds = time.perf_counter() - started
            state = {"step": step, "seconds": seconds, "losses": losses}
            save(stem.with_suffix(".pt"), {"model": model.state_dict(), "optimiser": optimiser.state_dict(), **state})
    scores, classes = evaluate(model, val, args)
    result = {"case": case, "neck": neck, "seed": int(seed), "steps": step, "seconds": seconds, "losses": losses}
    write_json(stem.with_suffix(".json"), {**result, "scores": scores, "classes": classes}, indent=None)
    print(
        f"{case}: AP {100 * scores['AP']:.2f}, loss {losses[-1][1] if losses else math.nan:.3f}, {seconds:.0f} s",
        flush=True,
    )


def built(neck: str, args: argparse.Namespace) -> tuple[Any, Any]:
    """Model with the pretrained backbone, and criterion, on the device."""
    import torch

    model, criterion = (p.build() for p in recipe_of(neck, args.size))
    model.backbone.load_pretrained(str(lite0(args.data)))
    if args.device == "cuda":
        model.to(memory_format=torch.channels_last)
    return model.to(args.device), criterion.to(args.device)


def rate(step: int, args: argparse.Namespace) -> float:
    """Warm-up over a quarter of the steps at most, cosine to a hundredth."""
    warm = min(1.0, (step + 1) / min(args.warmup, max(args.steps // 4, 1)))
    return warm * (0.01 + 0.99 * (1 + math.cos(math.pi * step / args.steps)) / 2)


def evaluate(model: Any, held: dict[str, Any], args: argparse.Namespace) -> tuple[dict[str, float], dict[str, float]]:
    """The twelve numbers on val and each class's AP, 0 to 1."""
    import torch

    from torso.data.doctor import examine
    from torso.evaluation.detection import STATS as TWELVE
    from torso.evaluation.detection import DetectionEvaluator

    truth = examine(Path(args.data) / "bccd").splits["val"].annotations
    evaluator = DetectionEvaluator(truth)
    model.eval()
    for rows in torch.arange(len(held["pixels"]), device=args.device).split(args.batch):
        images = images_of(held, rows)
        with torch.no_grad(), torch.autocast(args.device, torch.bfloat16, enabled=args.device == "cuda"):
            found = model.detect(images)
        index = held["index"][rows].tolist()
        for row, detections in zip(index, to_original(found, images, truth.class_names), strict=True):
            evaluator.add(row, detections)
    found = evaluator.compute()
    classes = {one.name: float(one.AP) for one in found.per_class}
    return dict(zip(TWELVE, map(float, found.stats), strict=True)), classes


# ------------------------------------------------------------------------------------------------------ cost


def speed_of(neck: str, checkpoint: Path, held: dict[str, Any], args: argparse.Namespace) -> dict[str, float]:
    """Images a second from pixels on the device to suppressed boxes, with trained weights; median of the calls."""
    import torch

    from torso.inference.runtime import Runtime

    model, _ = built(neck, args)
    model.load_state_dict(torch.load(checkpoint, weights_only=True, map_location=args.device)["model"])
    on_gpu = args.device == "cuda"
    runtime = Runtime(model, graphs=on_gpu)
    images = images_of(held, torch.arange(args.infer_batch, device=args.device))
    times = []
    for i in range(args.repeats + 3):
        begun = time.perf_counter()
        runtime(images)
        synchronise(args.device)
        if i >= 3:
            times.append(time.perf_counter() - begun)
    middle = statistics.median(times)
    return {"images_per_second": args.infer_batch / middle, "ms": 1000 * middle, "ms_min": 1000 * min(times)}


def measure(args: argparse.Namespace) -> None:
    """Speed of every neck that has a finished training, once, in speed.json."""
    file = Path(args.out) / "speed.json"
    known = json.loads(file.read_text()) if file.is_file() else {}
    held = None
    for neck in args.necks:
        ready = [p for seed in args.seeds if (p := Path(args.out) / "runs" / f"{neck}-{seed}.pt").is_file()]
        if neck in known or not ready:
            continue
        held = held or load_images(args, "val")
        known[neck] = speed_of(neck, ready[0], held, args)
        write_json(file, known)


def counts_of(neck: str, size_hw: tuple[int, int]) -> dict[str, Any]:
    """Parameters and multiply-adds of one image, whole and of the neck alone."""
    from torso.summary import summarise

    whole = summarise(recipe_of(neck, size_hw)[0], size_hw)
    seen = [level for level in whole.stages[-2].levels if min(level.stride_yx) >= 8]  # by the head
    alone = [s for s in whole.stages if s.stage.startswith("neck")]
    return {
        "parameters": whole.parameters, "multiply_adds": whole.flops // 2, "levels": len(seen),
        "neck_parameters": sum(s.parameters for s in alone), "neck_multiply_adds": sum(s.flops for s in alone) // 2,
    }  # fmt: skip


def gather(args: argparse.Namespace) -> list[dict[str, Any]]:
    """One row a neck that has a finished training."""
    file = Path(args.out) / "speed.json"
    speeds = json.loads(file.read_text()) if file.is_file() else {}
    rows = []
    for neck in args.necks:
        files = [Path(args.out) / "runs" / f"{neck}-{seed}.json" for seed in args.seeds]
        runs = [json.loads(p.read_text()) for p in files if p.is_file()]
        if runs:
            each = {s: [100 * r["scores"][s] for r in runs] for s in STATS}
            means = {s: statistics.mean(v) for s, v in each.items()}
            rows.append(
                {"neck": neck, "seeds": [r["seed"] for r in runs], "each": each, "means": means,
                 "half": half_width(each["AP"]), "seconds": [r["seconds"] for r in runs],
                 **counts_of(neck, args.size), **speeds.get(neck, {})}
            )  # fmt: skip
    return rows


# ------------------------------------------------------------------------------------------------------ the driver


def drive(args: argparse.Namespace) -> None:
    deadline = time.monotonic() + args.limit
    runs = Path(args.out) / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    os.environ["OMP_NUM_THREADS"] = "1"
    settings_match(Path(args.out), {**{name: getattr(args, name) for name in SETTINGS}, "running statistics": "ramp"})
    keep_images(args)
    cases = [f"{neck}-{seed}" for seed in args.seeds for neck in sorted(args.necks, key=by_cost)]
    todo = [c for c in cases if not (runs / f"{c}.json").is_file()]
    left = train_all(todo, args, deadline)
    if left:
        print(f"time is up: {left} trainings are not finished; repeat the command to go on")
    else:
        await_device(args, math.inf)
        measure(args)
    report(gather(args), args)


def by_cost(neck: str) -> int:
    """The longest first, so that none of them is started last and keeps the others waiting."""
    order = ["matrix", "fpn+asff", "nas_fpn", "sfam", "fc_fpn", "bifpn", "csp_pan", "pan_concat", "pan", "fpn", "none"]
    return order.index(neck)


def train_all(todo: list[str], args: argparse.Namespace, deadline: float) -> int:
    """How many are left when the limit is reached."""
    if not todo:
        return 0
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=work, args=(queue, args)) for _ in range(min(args.jobs, len(todo)))]
    for case in [*todo, *([None] * len(processes))]:
        queue.put(case)
    for process in processes:
        process.start()
    while any(p.is_alive() for p in processes) and time.monotonic() < deadline:
        time.sleep(0.3)
    for process in processes:
        process.kill()
        process.join()
    queue.cancel_join_thread()
    return sum(not (Path(args.out) / "runs" / f"{case}.json").is_file() for case in todo)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = list(necks())
    p.add_argument("--data", required=True, metavar="DIR", help="folder with bccd/ and weights/")
    p.add_argument("--out", default="benchmarks/results/necks", metavar="DIR")
    p.add_argument("--necks", nargs="+", default=known, choices=known)
    p.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    p.add_argument("--steps", type=int, default=400)
    p.add_argument("--size", nargs=2, type=int, default=[480, 640], metavar=("HEIGHT", "WIDTH"))
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--lr", type=float, default=2e-4)
    p.add_argument("--warmup", type=int, default=100)
    p.add_argument("--every", type=int, default=100, help="steps between checkpoints (100)")
    p.add_argument("--jobs", type=int, default=12, help="trainings side by side (12)")
    p.add_argument("--infer-batch", type=int, default=8)
    p.add_argument("--repeats", type=int, default=30, help="timed calls of each neck (30)")
    p.add_argument("--device", default="cuda")
    p.add_argument("--limit", type=float, default=540.0, metavar="SECONDS", help="of the trainings of this call (540)")
    add_after(p)
    args = p.parse_args()
    args.size = tuple(args.size)
    drive(args)


if __name__ == "__main__":
    main()
