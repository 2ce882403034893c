"""Which of torso's own files and functions an image and a training step pass through: what a reader has to open.

    python tools/walk.py [--list]

RetinaNet on resnet18, CPU. An image: predictor([array]) of a built model. A step: forward, loss and its gradient.
Counted after a first call of each, so that what is only made once (priors, caches) is not counted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import torch

import torso
from torso.types import Images

_HOME = os.path.dirname(torso.__file__)


def walked(call: Callable[[], Any]) -> dict[str, set[str]]:
    """Functions by file, of torso's own, that were entered; lambdas and comprehensions count with their file alone."""
    seen: dict[str, set[str]] = {}

    def note(frame: FrameType, event: str, arg: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(_HOME):
            names = seen.setdefault(os.path.relpath(code.co_filename, _HOME), set())
            if not code.co_name.startswith("<"):
                names.add(f"{code.co_qualname}:{code.co_firstlineno}")

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return seen


def image_walk() -> dict[str, set[str]]:
    """An image to its detections, through `model.predict`."""
    model = torso.create("retinanet", num_classes=3, backbone="resnet18").eval()
    image = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    model.predict(image)
    return walked(lambda: model.predict(image))


def step_walk() -> dict[str, set[str]]:
    """A batch to the gradient of its loss."""
    from torso.folders import find
    from torso.training.criteria._base import loss_of

    recipe = find("retinanet", "recipes")(num_classes=3).build()
    model = torso.create("retinanet", num_classes=3, backbone="resnet18").train()
    criterion = recipe.criterion.build()
    images = Images(torch.zeros(2, 3, 128, 128), torch.full((2, 2), 128.0), torch.ones(2, 4))
    targets = _targets()

    def step() -> None:
        loss_of(criterion(model, images, targets))[0].backward()

    step()
    return walked(step)


def _targets() -> Any:
    try:
        from torso.data.targets import Targets
    except ImportError:  # where it lay before
        from torso.training.targets import Targets  # type: ignore[import-not-found,no-redef]

    boxes = torch.tensor([[[10.0, 10, 60, 60], [50, 40, 120, 110]]]).expand(2, 2, 4)
    valid = torch.ones(2, 2, dtype=torch.bool)
    return Targets(boxes, torch.tensor([[0, 1], [2, 0]]), valid, ~valid)


def _print(title: str, seen: dict[str, set[str]], *, names: bool) -> None:
    print(f"{title}: {len(seen)} files, {sum(len(found) for found in seen.values())} functions")
    for file in sorted(seen) if names else ():
        print(f"  {file:40} {', '.join(sorted(name.split(':')[0] for name in seen[file]))}")


def main() -> None:
    parser = argparse.ArgumentParser(description="files and functions entered by an image and by a training step")
    parser.add_argument("--list", action="store_true", help="name them")
    listed = parser.parse_args().list
    _print("image -> detections", image_walk(), names=listed)
    _print("training step", step_walk(), names=listed)


if __name__ == "__main__":
    main()
