"""A column is added in one place: with one more field in its class, every row carries it through all that moves rows.

In a process of its own, types.py and objects.py are read with one field more; nothing else knows of it.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

GROWN = """
import importlib.util, sys
from pathlib import Path

def grow(module, after, field):
    spec = importlib.util.find_spec(module)
    text = Path(spec.origin).read_text(encoding="utf-8")
    assert text.count(after) == 1
    made = importlib.util.module_from_spec(spec)
    sys.modules[module] = made
    exec(compile(text.replace(after, after + field), spec.origin, "exec"), made.__dict__)
"""

CANDIDATES = """
import torch
from torso.folders import find, names
from torso.types import Candidates, Images
grow("torso.types", "    level: Tensor | None = None\\n", "    points: Tensor | None = None\\n")
for name in [name for name in sys.modules if name.startswith("torso.")]:
    if name not in ("torso.types", "torso.folders"):
        del sys.modules[name]
from torso.inputs._base import View
from torso.types import Candidates
from torso.inference.views import joined, mapped

corners = torch.rand(2, 40, 2, generator=torch.Generator().manual_seed(0)) * 90
index = torch.arange(40).expand(2, 40)
points = torch.stack([index, 2 * index, 3 * index], dim=-1).float()[..., None].expand(-1, -1, -1, 2)
scores = torch.rand(2, 40, generator=torch.Generator().manual_seed(1))
boxes = torch.cat([corners, corners + 30], -1)
found = Candidates(boxes, scores, index % 3, index, torch.ones(2, 40, 4), points=points)

def sound(rows, what):
    assert rows.points is not None, what
    expected = torch.where(rows.index[..., None, None] >= 0, rows.index[..., None, None], 0) * points[0, 1]
    assert torch.equal(rows.points, expected), what

for name in names("suppression"):
    sound(find(name, "suppression")(max_detections=60)(found), name)
view = View((0, 0, 100, 100), (100, 100), (128, 128), True)
one = found.image(1)
sound(mapped(one, view, (100, 100)), "mapped")
sound(joined([one.narrow(0, 20), one.narrow(20, 20)]), "joined")
assert joined([one, one._replace(points=None)]).points is None
sound(found.on_cpu(), "on_cpu")
"""

OBJECTS = """
grow("torso.data.objects", "    crowd: Bools\\n", "    angle: object = None\\n")
import numpy as np
from PIL import Image
from torso.data.collate import collate
from torso.data.dataset import to_item
from torso.data.objects import Objects
from torso.data.sample import Sample
from torso.data.windows import cut_out
from torso.folders import find, names

def sample(number):
    rng = np.random.default_rng(number)
    corners = rng.uniform(0, 60, (9, 2)).astype(np.float32)
    labels = np.arange(9) + 10 * number
    boxes = np.concatenate([corners, corners + 20], axis=1)
    image = Image.fromarray(rng.integers(0, 255, (80, 80, 3), dtype=np.uint8))
    objects = Objects(boxes, labels, labels % 7 == 0, labels / 2)
    return Sample(image=image, objects=objects, index=number, image_id=number)

def sound(objects, what):
    assert np.array_equal(objects.angle, objects.labels / 2), what

for name in names("transforms"):
    for number in range(8):
        rng = np.random.default_rng(number)
        sound(find(name, "transforms")()(sample(number), rng, lambda rng: sample(int(rng.integers(50)))).objects, name)
cut = cut_out(sample(0), (10, 10, 50, 60), 0.5)
sound(cut.objects, "cut_out")
assert 0 < cut.objects.number < 9
"""


@pytest.mark.parametrize("script", [CANDIDATES, OBJECTS], ids=["candidates", "objects"])
def test_a_column_more_travels_with_its_rows(script: str) -> None:
    done = subprocess.run([sys.executable, "-c", GROWN + script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
