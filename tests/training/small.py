"""A detector of forty thousand weights, a drawn data set, and runs of a second: for every test of the engine."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from data.builders import write_coco

from torso.data.annotations import Annotations
from torso.data.collate import Batch, collate
from torso.data.dataset import DetectionDataset
from torso.data.splits import open_splits
from torso.data.to_input import ToInput
from torso.engine import unused_parameters
from torso.engine.run_folder import RunResult
from torso.engine.step import TrainStep
from torso.engine.train import build_model, train
from torso.models.detector import Detector
from torso.parts import Part
from torso.tasks.detection import DetectionTask
from torso.training.compose_recipe import compose_recipe
from torso.training.recipes.recipe import Recipe

SIZE_HW = (64, 96)

# Autograd looks for devices at the first backward pass of a process, and takes the one that the compiler's stand-in for
# CUDA claims (FakeTensor on a machine without any) for real: it then starts threads, and no child may be forked any
# more. So the first pass comes here, before any test.
torch.ones(1, requires_grad=True).backward()


def recipe(model: str = "fcos", **changes: Any) -> Part[Recipe]:
    """A zoo model over timm's smallest test network (BatchNorm that learns), two levels, 16 channels."""
    overrides = {
        "input.size_hw": SIZE_HW,
        "neck.channels": 16,
        "neck.coarsest": 16,
        "head.channels": 16,
        "head.coarsest": 16,
        "head.tower": 1,
        "batch_size": 2,
        "epochs": 2,
        "warmup_steps": 2,
        "lr": 0.02,
        **changes,
    }
    return compose_recipe(model, num_classes=3, backbone="test_resnet", input="letterbox", overrides=overrides)


def data_set(root: Path, train_images: int = 8, val_images: int = 4) -> Path:
    """A COCO folder with train and val."""
    write_coco(root, train_images, 0, size_hw=SIZE_HW)
    return write_coco(root, val_images, 1, split="val", size_hw=SIZE_HW)


def run(recipe_: Part[Recipe] | None, data: Path | None, run_dir: Path | None = None, **settings: Any) -> RunResult:
    """train() on the CPU, without a display."""
    return train(recipe_, data, run_dir=run_dir, **{"accelerator": "cpu", "workers": 0, "progress": False, **settings})


def freeze_unused(step: TrainStep) -> list[str]:
    """The engine's, for a detector."""
    return unused_parameters.freeze_unused(step, DetectionTask().blank(step.model))


def built(part: Part[Recipe], annotations: Annotations) -> Detector:
    """The recipe's model in train mode."""
    return build_model(part, annotations.class_names).train()


def annotations(root: Path) -> Annotations:
    """The train split."""
    return open_splits(data_set(root)).train


def batch(model: Detector, found: Annotations, rows: list[int]) -> Batch:
    """The images of these rows, as the model wants them, without augmentation."""
    dataset = DetectionDataset(found, [ToInput(model.input, model.multiple)])
    return collate([dataset[0, row] for row in rows], model.multiple)


def in_child(work: Callable[[], None], log: Path) -> int:
    """Fork, run `work` in the child, return its id: a process that a test may kill, without ten seconds of imports."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        torch.set_num_threads(1)
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return 0
