"""`torso predict`: objects found in images, folders and videos, drawn, and written down as COCO results."""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torso.cli import _checkpoint as checkpoint
from torso.cli._bounds import check_number
from torso.cli._flags import Parser, UsageError
from torso.cli._sources import expand
from torso.inference.video import VIDEO_SUFFIXES, VideoWriter, frame_rate, is_video, read_frames, require_decoder

if TYPE_CHECKING:
    from PIL.Image import Image

    from torso.engine.task import Task


def add_arguments(parser: Parser) -> None:
    """Of `torso predict`."""
    checkpoint.add_arguments(parser)
    parser.add_argument("paths", nargs="+", metavar="PATH", help="images, videos, folders, patterns in quotes")
    parser.add_argument("--out", required=True, metavar="DIR", help="a new or empty folder; nothing is overwritten")
    parser.add_argument("--score", type=float, default=0.3, metavar="S", help="leave out what scores less (0.3)")
    parser.add_argument("--no-draw", action="store_true", help="write results only")


def run(args: argparse.Namespace) -> int:
    """Find, draw, write."""
    checkpoint.check(args)
    files = expand(args.paths, VIDEO_SUFFIXES)
    check_number("score", args.score, "torso.inference.predictor", "Predictor", "score_threshold")
    out = Path(args.out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out {out} is there already and not empty; nothing was written: name a new folder")
    if any(map(is_video, files)):
        require_decoder()
    from torso.engine.task import task_of

    model, bundle = checkpoint.open_checkpoint(args)
    task = task_of(type(model))
    predict = partial(
        task.predict, model, score_threshold=args.score, batch_size=args.batch_size, precision=args.precision
    )
    predict([])  # a task without an answer says so before anything is written
    out.mkdir(parents=True, exist_ok=True)
    record = _Record(task, out, model.names, bundle.category_ids, args)
    images = [f for f in files if not is_video(f)]
    _images(predict, images, record)
    for file in files:
        if is_video(file):
            _video(predict, file, record)
    return record.finish()


Predict = Callable[[Iterable["Image"]], Iterator[Any]]


class _Record:
    """What goes into the folder: results.json (COCO results), index.json (which image is which), drawn images."""

    def __init__(
        self,
        task: Task,
        out: Path,
        names: tuple[str, ...],
        category_ids: tuple[int, ...] | None,
        args: argparse.Namespace,
    ) -> None:
        self.task = task
        self.out, self.names, self.draw = out, names, not args.no_draw
        self.category_ids = category_ids or tuple(range(1, len(names) + 1))
        self.head = {"checkpoint": args.checkpoint, "score_threshold": args.score}
        self.results: list[dict[str, Any]] = []
        self.images: list[dict[str, Any]] = []
        self.skipped: list[dict[str, str]] = []
        self._taken = {"results", "index"}

    def add(self, source: Path, found: Any, image: Image, **more: Any) -> None:
        """One image's results; more: what the index shall say of it besides."""
        number = len(self.images) + 1
        rows = self.task.rows(found, number, self.category_ids)
        self.results += rows
        size = {"width": image.width, "height": image.height}
        entry = {"id": number, "file_name": str(source), **size, "objects": len(rows)}
        self.images.append({**entry, **more})

    def skip(self, source: Path, reason: str) -> None:
        """A file that cannot be read: said at once, written down, and the exit status is 1."""
        self.skipped.append({"file_name": str(source), "reason": reason})
        print(f"torso predict: skipped: {reason}", file=sys.stderr)

    def new_name(self, stem: str, suffix: str) -> str:
        """A file name not yet used in the folder: two images of one name may come from two folders."""
        name, number = stem, 1
        while name in self._taken:
            number += 1
            name = f"{stem}-{number}"
        self._taken.add(name)
        return name + suffix

    def finish(self) -> int:
        """Write the two JSON files and say where everything is."""
        from torso.engine.run_folder import write_json

        categories = [{"id": i, "name": n} for i, n in zip(self.category_ids, self.names, strict=True)]
        index = {**self.head, "categories": categories, "images": self.images, "skipped": self.skipped}
        write_json(self.out / "results.json", self.results)
        write_json(self.out / "index.json", index)
        print(f"{len(self.results)} objects in {len(self.images)} images; results and images in {self.out}")
        if self.skipped:
            print(f"{len(self.skipped)} files could not be read; index.json lists them")
        return 1 if self.skipped else 0


def _images(predict: Predict, files: list[Path], record: _Record) -> None:
    from torso.images import read_image

    waiting: deque[tuple[Path, Image]] = deque()

    def readable() -> Iterator[Image]:
        for file in files:
            try:
                image = read_image(file)
            except ValueError as error:
                record.skip(file, str(error))
                continue
            waiting.append((file, image))
            yield image

    for found in predict(readable()):
        file, image = waiting.popleft()
        drawn = {}
        if record.draw:
            drawn["drawn"] = record.new_name(file.stem, ".jpg")
            record.task.draw(found, image).save(record.out / drawn["drawn"], quality=92)
        record.add(file, found, image, **drawn)


def _video(predict: Predict, file: Path, record: _Record) -> None:
    waiting: deque[Image] = deque()

    def frames() -> Iterator[Image]:
        for frame in read_frames(file):
            waiting.append(frame)
            yield frame

    try:
        rate = frame_rate(file)
        target = record.out / record.new_name(file.stem, ".mp4")
        with VideoWriter(target, rate) as writer:
            for number, found in enumerate(predict(frames())):
                image = waiting.popleft()
                if record.draw:
                    writer.write(record.task.draw(found, image))
                drawn = {"drawn": target.name} if record.draw else {}
                record.add(file, found, image, frame=number, seconds=round(float(number / rate), 4), **drawn)
    except ValueError as error:
        record.skip(file, str(error))
