"""Images that two splits share: an evaluation on images that were trained on flatters."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from pathlib import Path

from torso.data.annotations import Annotations


def same_images(first: Annotations, second: Annotations) -> list[tuple[str, str]]:
    """Names in both splits of files with the same bytes. Only files of equal length are read."""
    ours, theirs = _by_length(first), _by_length(second)
    found = []
    for length in ours.keys() & theirs.keys():
        digests = {_digest(first.root / name): name for name in ours[length]}
        pairs = ((digests.get(_digest(second.root / name)), name) for name in theirs[length])
        found += [(mine, name) for mine, name in pairs if mine is not None]
    return sorted(found)


def _by_length(annotations: Annotations) -> dict[int, list[str]]:
    lengths: dict[int, list[str]] = defaultdict(list)
    for row in range(len(annotations)):
        lengths[os.stat(annotations.path(row)).st_size].append(annotations.name(row))
    return lengths


def _digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()
