"""The embedded demo data set: real handwritten digits on real photographs, in COCO format, made in seconds.

Digits: the optical recognition set of Alpaydin and Kaynak (1998), 8 x 8 grey levels, bundled with scikit-learn;
photographs: its china.jpg and flower.jpg. Train and val share neither digits nor regions of the photographs.
"""

from __future__ import annotations

import colorsys
import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

NAMES = tuple("0123456789")
_MARK = "digits.json"
_VERSION = 1  # raise it when the images change: a set of another version is then refused, not mixed up
_CELL = 12  # pixels a cell of the 8 x 8 digit is enlarged to before it is cut to ink
_TRAIN_SHARE = 0.7  # of each photo's width; the rest is val's
_LEAST_VISIBLE = 0.6  # of a digit's ink, whatever is laid over it
_LEAST_CONTRAST = 90.0  # in luma 0..255, of the ink against the mean of what lies under it


@dataclass(frozen=True)
class _Recipe:
    """Everything that decides the images."""

    train: int
    val: int
    size_hw: tuple[int, int]
    height_px: tuple[int, int]
    per_image: tuple[int, int]
    rotation_deg: float
    overlap: float
    seed: int


class _Source(NamedTuple):
    """What one split may use: digit images [n, 8, 8] 0..1, their labels [n], photo regions [h, w, 3]."""

    digits: Floats
    labels: npt.NDArray[np.int64]
    photos: list[Bytes]


class _Digit(NamedTuple):
    """A digit on the image: where its stamp lies, opacity 0..1 there, its ink (above one half) [H, W], its label."""

    place: tuple[slice, slice]
    alpha: Floats
    ink: npt.NDArray[np.bool_]
    label: int


def build_digits(
    root: str | Path,
    *,
    train: int = 400,
    val: int = 100,
    size_hw: tuple[int, int] = (256, 256),
    height_px: tuple[int, int] = (28, 110),
    per_image: tuple[int, int] = (2, 6),
    rotation_deg: float = 25.0,
    overlap: float = 0.3,
    seed: int = 0,
) -> None:
    """Makes the set in root: train/, val/, annotations/instances_{train,val}.json, digits.json with the parameters.

    train, val: images; height_px: ink height, log-uniform; per_image: digits an image, both ends included;
    rotation_deg: to either side; overlap: chance that a digit may lie on others, of which 60 % stay visible.
    A box is the tight box of the ink that can be seen, area its width x height, visibility the share of ink seen.
    The same parameters give the same bytes. A complete set of the same parameters is left as it is; any other folder
    that holds something is refused with a ValueError. The folder appears complete or not at all.
    ImportError without scikit-learn.
    """
    recipe = _Recipe(train, val, size_hw, height_px, per_image, rotation_deg, overlap, seed)
    _check(recipe)
    target = Path(root)
    if _is_complete(target, recipe):
        return
    sources = _sources()
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        sums = {split: _write_split(work, split, recipe, source) for split, source in sources.items()}
        mark = {"version": _VERSION, "parameters": asdict(recipe), "sha256": sums}
        (work / _MARK).write_text(json.dumps(mark, indent=1) + "\n")
        work.chmod(0o755)
        if target.exists():
            target.rmdir()  # it is empty, or _is_complete would have refused it
        work.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _check(recipe: _Recipe) -> None:
    low, high = recipe.height_px
    if not 8 <= low <= high <= min(recipe.size_hw) * 0.8:
        raise ValueError(f"height_px is {recipe.height_px}; wanted 8 <= low <= high <= 0.8 x sides {recipe.size_hw}")
    if not 0 <= recipe.per_image[0] <= recipe.per_image[1]:
        raise ValueError(f"per_image is {recipe.per_image}; wanted 0 <= fewest <= most")
    if recipe.train < 1 or recipe.val < 1:
        raise ValueError(f"train is {recipe.train} and val {recipe.val}; wanted at least one image each")
    if not 0 <= recipe.overlap <= 1 or not 0 <= recipe.rotation_deg <= 180:
        raise ValueError(f"overlap {recipe.overlap} must lie in 0..1 and rotation_deg {recipe.rotation_deg} in 0..180")


def _is_complete(root: Path, recipe: _Recipe) -> bool:
    """True for a complete set of this recipe, False where nothing is; ValueError for anything else."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    if not (root / _MARK).is_file():
        raise ValueError(f"{root} is not empty and has no {_MARK}; nothing was written: choose a new folder")
    mark = json.loads((root / _MARK).read_text())
    wanted = json.loads(json.dumps(asdict(recipe)))
    if mark.get("version") != _VERSION or mark.get("parameters") != wanted:
        raise ValueError(f"{root} holds a digits set of other parameters; nothing was written: choose a new folder")
    for split in ("train", "val"):
        file = root / "annotations" / f"instances_{split}.json"
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != mark["sha256"][split]:
            raise ValueError(f"{file} is missing or was changed; nothing was written: choose a new folder")
        named = [str(one["file_name"]) for one in json.loads(file.read_text())["images"]]
        gone = [name for name in named if not (root / split / name).is_file()]
        if gone:
            raise ValueError(f"{root / split} lacks {len(gone)} images ({gone[0]}); choose a new folder")
    return True


def _sources() -> dict[str, _Source]:
    """Rows of the digit set follow its writers, so that a cut by row keeps most hands apart as well."""
    try:
        from sklearn.datasets import load_digits, load_sample_images
    except ImportError as error:
        raise ImportError("the demo data set needs scikit-learn: pip install 'torso[demo]'") from error
    found = load_digits()
    digits, labels = (found.images / 16.0).astype(np.float32), found.target.astype(np.int64)
    photos = [np.asarray(one, dtype=np.uint8) for one in load_sample_images().images]
    row, columns = int(0.8 * len(labels)), [int(_TRAIN_SHARE * one.shape[1]) for one in photos]
    return {
        "train": _Source(digits[:row], labels[:row], [p[:, :c] for p, c in zip(photos, columns, strict=True)]),
        "val": _Source(digits[row:], labels[row:], [p[:, c:] for p, c in zip(photos, columns, strict=True)]),
    }


def _write_split(root: Path, split: str, recipe: _Recipe, source: _Source) -> str:
    """Images and annotations of one split; returns the SHA-256 of the annotation file."""
    (root / split).mkdir()
    (root / "annotations").mkdir(exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    number = {"train": 0, "val": 1}[split]
    for index in range(getattr(recipe, split)):
        rng = np.random.default_rng([recipe.seed, number, index])  # each image its own: more of them change none
        image, digits = _compose(rng, recipe, source)
        name = f"{split}_{index:04d}.jpg"
        Image.fromarray(image).save(root / split / name, quality=92)
        height, width = recipe.size_hw
        images.append({"id": index + 1, "file_name": name, "width": width, "height": height})
        for box, visibility, label in _visible(digits):
            annotations.append(_annotation(len(annotations) + 1, index + 1, label, box, visibility))
    text = json.dumps(
        {
            "info": {"description": "handwritten digits on photographs, made by torso from data of scikit-learn"},
            "images": images,
            "annotations": annotations,
            "categories": [{"id": label + 1, "name": name} for label, name in enumerate(NAMES)],
        }
    ).encode()
    (root / "annotations" / f"instances_{split}.json").write_bytes(text)
    return hashlib.sha256(text).hexdigest()


def _annotation(number: int, image: int, label: int, box: Sequence[int], visibility: float) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image,
        "category_id": label + 1,
        "bbox": list(box),
        "area": box[2] * box[3],
        "iscrowd": 0,
        "visibility": round(visibility, 4),
    }


def _compose(rng: np.random.Generator, recipe: _Recipe, source: _Source) -> tuple[Bytes, list[_Digit]]:
    """One image [H, W, 3] and the digits on it, the last on top."""
    canvas = _background(rng, recipe.size_hw, source.photos).astype(np.float32)
    digits: list[_Digit] = []
    for _ in range(int(rng.integers(recipe.per_image[0], recipe.per_image[1] + 1))):
        placed = _place(rng, recipe, source, digits)
        if placed is None:
            continue
        under = canvas[placed.place]
        colour = _colour(rng, under[placed.alpha > 0.5].mean(axis=0))
        canvas[placed.place] = under + placed.alpha[..., None] * (colour - under)
        digits.append(placed)
    return (canvas + 0.5).astype(np.uint8), digits  # a blend of 0..255 stays within it


def _background(rng: np.random.Generator, size_hw: tuple[int, int], photos: list[Bytes]) -> Bytes:
    """A random crop of a random photo region, mirrored at times, resized to the image."""
    photo = photos[int(rng.integers(len(photos)))]
    height, width = size_hw
    fit = min(photo.shape[0] / height, photo.shape[1] / width)
    scale = fit * rng.uniform(0.35, 1.0)
    h, w = int(height * scale), int(width * scale)
    y, x = int(rng.integers(photo.shape[0] - h + 1)), int(rng.integers(photo.shape[1] - w + 1))
    crop = photo[y : y + h, x : x + w]
    crop = crop[:, ::-1] if rng.random() < 0.5 else crop
    return np.asarray(Image.fromarray(crop).resize((width, height), Image.Resampling.BICUBIC))


def _place(rng: np.random.Generator, recipe: _Recipe, source: _Source, below: list[_Digit]) -> _Digit | None:
    """A digit somewhere it may lie, wholly inside the image; None where forty tries found no place."""
    row = int(rng.integers(len(source.labels)))
    height = float(np.exp(rng.uniform(*np.log(recipe.height_px))))
    stamp = _ink(source.digits[row], height, float(rng.uniform(-recipe.rotation_deg, recipe.rotation_deg)))
    may_overlap = rng.random() < recipe.overlap
    full_h, full_w = recipe.size_hw
    if stamp.shape[0] > full_h or stamp.shape[1] > full_w:
        return None
    for _ in range(40):
        y = int(rng.integers(full_h - stamp.shape[0] + 1))
        x = int(rng.integers(full_w - stamp.shape[1] + 1))
        place = (slice(y, y + stamp.shape[0]), slice(x, x + stamp.shape[1]))
        ink = np.zeros(recipe.size_hw, dtype=np.bool_)
        ink[place] = stamp > 0.5
        digit = _Digit(place, stamp, ink, int(source.labels[row]))
        if _may_lie(digit, below, may_overlap):
            return digit
    return None


def _may_lie(digit: _Digit, below: list[_Digit], may_overlap: bool) -> bool:
    """Whether what lies below stays visible enough, or apart where overlap is not wanted."""
    if not may_overlap:
        return not any(_boxes_meet(digit.ink, other.ink) for other in below)
    return all(visibility >= _LEAST_VISIBLE for _, visibility, _ in _visible([*below, digit]))


def _boxes_meet(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> bool:
    (ax, ay, aw, ah), (bx, by, bw, bh) = _tight(one), _tight(other)
    return ax < bx + bw and bx < ax + aw and ay < by + bh and by < ay + ah


def _ink(cells: Floats, height: float, angle_deg: float) -> Floats:
    """An 8 x 8 digit as smooth ink: opacity 0..1, cut to what is inked, about `height` pixels high.

    Enlarged bicubically, cut softly near half of the pen's full tone, turned, then brought to size with smoothing.
    """
    padded = np.pad(cells, 1)
    side = padded.shape[0] * _CELL
    smooth = Image.fromarray(padded).resize((side, side), Image.Resampling.BICUBIC)
    pen = (np.clip((np.asarray(smooth) - 0.34) / 0.24, 0, 1) * 255).round().astype(np.uint8)
    turned = Image.fromarray(pen).rotate(angle_deg, Image.Resampling.BICUBIC, expand=True)
    x, y, w, h = _tight(np.asarray(turned) > 127)
    scale = height / h
    size = (max(1, round((w + 2) * scale)), max(1, round((h + 2) * scale)))
    cut = turned.resize(size, Image.Resampling.LANCZOS, box=(x - 1, y - 1, x + w + 1, y + h + 1))
    return np.asarray(cut, dtype=np.float32) / np.float32(255)


def _colour(rng: np.random.Generator, under: Floats) -> Floats:
    """A random colour whose luma differs enough from the mean colour under it; black or white as the last resort."""
    luma = np.array([0.299, 0.587, 0.114], dtype=np.float32)
    for _ in range(50):
        hue, saturation, value = rng.uniform(0, 1), rng.uniform(0.3, 1), rng.uniform(0.05, 1)
        colour = np.array(colorsys.hsv_to_rgb(hue, saturation, value), dtype=np.float32) * 255
        if abs(float((colour - under) @ luma)) >= _LEAST_CONTRAST:
            return colour
    return np.full(3, 0.0 if float(under @ luma) > 127 else 255.0, dtype=np.float32)


def _visible(digits: list[_Digit]) -> list[tuple[tuple[int, int, int, int], float, int]]:
    """(tight xywh of the ink seen, share of ink seen, label) of each digit, those on top counted as opaque."""
    covered = np.zeros_like(digits[0].ink) if digits else np.zeros((0, 0), dtype=np.bool_)
    seen = []
    for digit in reversed(digits):
        left = digit.ink & ~covered
        visibility = float(left.sum() / digit.ink.sum())
        seen.append((_tight(left) if visibility > 0 else (0, 0, 0, 0), visibility, digit.label))
        covered = covered | digit.ink
    return seen[::-1]


def _tight(mask: npt.NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """x, y, w, h of the smallest box around what is set."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)
