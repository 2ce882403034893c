"""What may be learned from: the one check that the doctor, training and evaluation share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np

from torso.data.annotations import Annotations, Bools
from torso.data.files import FolderListing
from torso.images import image_size, read_image

Depth = Literal["list", "header", "decode"]
Action = Literal["kept", "clipped", "dropped", "refused"]

_CLIP_NOTE = 0.5  # px; smaller overhangs come from rounding, and are cut without a word
_MOST_LOST = 0.5  # share of images; beyond it the folder is wrong, not the images


class Finding(NamedTuple):
    """One thing that is not as it should be: what kind, what is done about it, in which file, in one sentence."""

    kind: str
    action: Action
    file: str
    text: str


def clean(annotations: Annotations, *, files: Depth = "header") -> tuple[Annotations, list[Finding]]:
    """What of a split can be learned from, and what was found on the way. The input stays as it is.

    Images are dropped if they are missing, unreadable or not of the annotated size; boxes if they are not finite,
    have no area, lie outside, or repeat another one of the same class. Boxes over the border are clipped. Images
    without boxes stay: they teach the background. `refused` findings mean that training must not start.
    files: `list` asks only which files exist, `header` reads each size too, `decode` reads whole images.
    ValueError if a file is a link that leaves the data set's folder.
    """
    if not len(annotations):
        text = f"{annotations.source}: no images came; at least one was wanted: check the folder"
        return annotations, [Finding("empty", "refused", annotations.source, text)]
    present, findings = _check_files(annotations, files)
    findings += _too_many_lost(annotations, present)
    kept, box_findings = _check_boxes(present)
    findings += box_findings + list(_without_boxes(kept))
    return kept, findings


def _check_files(annotations: Annotations, depth: Depth) -> tuple[Annotations, list[Finding]]:
    listing = FolderListing(annotations.root, annotations.source)
    findings = [_check_file(annotations, row, listing, depth) for row in range(len(annotations))]
    keep = np.array([finding is None for finding in findings], dtype=np.bool_)
    fewer = annotations if keep.all() else annotations.keep_images(keep)
    return fewer, [finding for finding in findings if finding is not None]


def _check_file(annotations: Annotations, row: int, listing: FolderListing, depth: Depth) -> Finding | None:
    name, path = annotations.name(row), annotations.path(row)
    if not listing.has(name):
        text = f"{path}: no such file, though the annotation names it; image dropped: restore the file"
        return Finding("missing", "dropped", name, text)
    if depth == "list":
        return None
    try:
        height, width = image_size(path)
        if depth == "decode":
            read_image(path)
    except ValueError as error:
        return Finding("unreadable", "dropped", name, f"{error} (image dropped)")
    said_h, said_w = (int(side) for side in annotations.size_hw[row])
    if (height, width) == (said_h, said_w):
        return None
    turned = "; it is turned by its EXIF tag, the annotation is not" if (width, height) == (said_h, said_w) else ""
    text = (
        f"{path}: the image is {width}x{height}, its annotation says {said_w}x{said_h}{turned}; image dropped, "
        "since its boxes cannot be trusted: annotate this very file"
    )
    return Finding("size", "dropped", name, text)


def _too_many_lost(annotations: Annotations, present: Annotations) -> list[Finding]:
    lost = len(annotations) - len(present)
    if lost <= _MOST_LOST * len(annotations):
        return []
    text = (
        f"{annotations.source}: {lost} of {len(annotations)} images cannot be used from {annotations.root}; "
        "most of them were wanted: check that the images belong to these annotations"
    )
    return [Finding("lost", "refused", annotations.source, text)]


def _check_boxes(annotations: Annotations) -> tuple[Annotations, list[Finding]]:
    boxes, image = annotations.boxes, annotations.image_of_box
    limits = np.tile(annotations.size_hw[image][:, ::-1], 2).astype(np.float64)
    finite = _every(np.isfinite(boxes))
    safe = np.where(finite[:, None], boxes, 0.0)
    clipped = np.clip(safe, 0.0, limits)
    area = _every(safe[:, 2:] > safe[:, :2])
    inside = _every(clipped[:, 2:] > clipped[:, :2])
    repeated = _repeated(annotations, finite)
    moved: Bools = np.abs(clipped - safe).max(axis=1, initial=0.0) > _CLIP_NOTE
    keep = finite & area & inside & ~repeated
    findings = [
        *_box_findings(annotations, ~finite, "not_finite", "four finite numbers were wanted"),
        *_box_findings(annotations, finite & ~area, "degenerate", "sides longer than 0 were wanted"),
        *_box_findings(annotations, finite & area & ~inside, "outside", "a box that touches the image was wanted"),
        *_box_findings(annotations, finite & area & inside & repeated, "repeated", "one of its kind was wanted"),
        *_box_findings(annotations, keep & moved, "clipped", "a box within the image was wanted", "clipped"),
    ]
    cut = replace(annotations, boxes=np.where(finite[:, None], clipped, boxes))
    return cut.keep_boxes(keep), findings


def _every(table: Bools) -> Bools:
    """[n], the rows [n, C] that are true throughout."""
    return np.asarray(table.all(axis=1))


def _repeated(annotations: Annotations, finite: Bools) -> Bools:
    """[n], boxes whose image, label, crowd flag and corners were seen in an earlier row."""
    columns = (annotations.image_of_box, annotations.labels, annotations.crowd)
    rows = np.column_stack([*(column.astype(np.float64) for column in columns), annotations.boxes])
    _, first = np.unique(np.where(finite[:, None], rows, -1.0), axis=0, return_index=True)
    repeated = np.ones(len(rows), dtype=np.bool_)
    repeated[first] = False
    return repeated & finite


def _box_findings(
    annotations: Annotations, rows: Bools, kind: str, wanted: str, action: Action = "dropped"
) -> Iterator[Finding]:
    image = annotations.image_of_box
    for row in np.flatnonzero(rows):
        owner = int(image[row])
        name, size = annotations.name(owner), annotations.size_hw[owner]
        corners = ", ".join(f"{value:g}" for value in annotations.boxes[row])
        label = annotations.class_names[annotations.labels[row]]
        text = (
            f"{annotations.path(owner)}: box {int(row - annotations.box_offsets[owner]) + 1} ({label}) is [{corners}] "
            f"in an image of {size[1]}x{size[0]}; {wanted}: box {action}"
        )
        yield Finding(kind, action, name, text)


def _without_boxes(annotations: Annotations) -> Iterator[Finding]:
    for row in np.flatnonzero(np.diff(annotations.box_offsets) == 0):
        name = annotations.name(int(row))
        text = f"{annotations.path(int(row))}: no boxes; kept as an image of background only"
        yield Finding("no_boxes", "kept", name, text)
