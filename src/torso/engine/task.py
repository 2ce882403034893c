"""What a task is: all that the engine and the command line leave to it. One file of the folder tasks each.

A model's class says which task it belongs to (`task = "detection"`); a task opens data, feeds batches to the step, and
evaluates. The engine itself knows models, batches, terms and scores, never what is in an image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from PIL.Image import Image
from torch import Tensor
from torch.utils.data import DataLoader

from torso.data.sampler import EpochSampler
from torso.folders import find
from torso.inference.runtime import Precision
from torso.parts import Part, produced
from torso.summary import Summary, summarise_whole
from torso.training.recipes.recipe import Recipe
from torso.types import Images


class Splits(Protocol):
    """The data of a run. train, val: any sets with a length; val may be missing.

    origin: {"folder", "holdout", "limit"} that give the same splits again, None where sets were handed in.
    notes: what was left out, in a sentence each.
    """

    @property
    def train(self) -> Any: ...
    @property
    def val(self) -> Any | None: ...
    @property
    def origin(self) -> dict[str, Any] | None: ...
    @property
    def notes(self) -> tuple[str, ...]: ...


class Batch(Protocol):
    """One micro-batch of a loader. targets: a tensor or a (named) tuple of tensors, as the criterion takes them.

    index: [B] rows of the training set, for messages.
    """

    @property
    def images(self) -> Images: ...
    @property
    def targets(self) -> Any: ...
    @property
    def index(self) -> Tensor: ...


class Scores(Protocol):
    """What an evaluation measured."""

    @property
    def numbers(self) -> Mapping[str, float]:
        """{name: 0..1}, a row of metrics.csv; the task's headline is one of the names."""

    def brief(self) -> str:
        """A few words for the line of an epoch."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: `numbers` by their names, and whatever else is known."""


class Evaluation(NamedTuple):
    """scores, and what was predicted as plain data for JSON (made only where it is kept)."""

    scores: Scores
    predictions: Callable[[], Any]


@dataclass(frozen=True, kw_only=True)
class EvalSettings:
    """How a model is run over a set. batch_size: images at once on this rank; device: None is the model's own;
    tick: told (batches done, batches in all) after each.
    """

    batch_size: int = 8
    workers: int = 0
    precision: Precision = "auto"
    device: torch.device | str | None = None
    tick: Callable[[int, int], None] | None = None


class Feed(NamedTuple):
    """How training batches are made. fixed_shapes: image sizes should be few (the step is compiled); unmixed_from: the
    epoch from which on transforms that mix images are left out; workers: processes that read.
    """

    recipe: Recipe
    fixed_shapes: bool
    unmixed_from: int
    workers: int


class Inspection(NamedTuple):
    """A folder looked at before training: what to print, and its splits, None where training may not start."""

    lines: list[str]
    splits: Any | None


class Report(NamedTuple):
    """`torso eval`'s answer. notes: what was left out, a line each; lines: the scores to print; record: all as plain
    data.
    """

    notes: list[str]
    lines: list[str]
    record: dict[str, Any]


class RunPage(NamedTuple):
    """What a task adds to the page of a run: numbers at its head (what, value), sections (anchor, heading, HTML), and
    what could not be shown.
    """

    cards: list[tuple[str, str]]
    sections: list[tuple[str, str, str]]
    missing: list[str]


class Task:
    """Subclass and fill in; the methods of the second half have an answer of their own where a task has no more to say.

    name: in messages. headline: the number of Scores by which the best epoch is chosen, higher is better.
    """

    name: ClassVar[str]
    headline: ClassVar[str]

    def open(self, data: Any, recipe: Part[Recipe], *, holdout: float, limit: int | None) -> Splits:
        """The data as the recipe's model learns it. data: a folder, or sets handed in; limit: the first so many images
        of each. ValueError, in one sentence, for what cannot be trained on.
        """
        raise NotImplementedError

    def class_names(self, train: Any) -> tuple[str, ...]:
        """One a class, in the order of the labels."""
        raise NotImplementedError

    def describe(self, train: Any, rows: Sequence[int]) -> list[str]:
        """File names, or what else finds the samples of these rows again."""
        raise NotImplementedError

    def loader(self, train: Any, model: Any, sampler: EpochSampler, feed: Feed) -> DataLoader[Any]:
        """Yields a list of `sampler.accumulate` Batches an optimiser step, of the keys (epoch, row) that it gives."""
        raise NotImplementedError

    def blank(self, model: Any) -> tuple[Images, Any]:
        """Images and targets of a small batch without content, on the model's device: a step on it touches every
        parameter that a real one does.
        """
        raise NotImplementedError

    def evaluate(self, model: Any, val: Any, settings: EvalSettings) -> Evaluation:
        """Of all ranks together, on each of them; the model is left as it is."""
        raise NotImplementedError

    def inspect(self, folder: Path | str, recipe: Part[Recipe], *, holdout: float) -> Inspection:
        """The look before training. The splits may be handed to `open`."""
        splits = self.open(folder, recipe, holdout=holdout, limit=None)
        return Inspection(list(splits.notes), splits)

    def category_ids(self, train: Any) -> tuple[int, ...] | None:
        """The data set's own number of each class, kept with the weights; None where it has none."""
        return None

    def counts(self, train: Any) -> dict[str, int]:
        """What must be the same when a run is resumed."""
        return {"images": len(train)}

    def samples(self, train: Any, model: Any) -> int:
        """Rows of an epoch: more than images where the model looks at parts of them."""
        return len(train)

    def notes(self, model: Any, criterion: Any, train: Any) -> list[str]:
        """Warnings before training, a sentence each."""
        return []

    def evaluate_folder(
        self, model: Any, folder: str, split: str, *, holdout: float, settings: EvalSettings, options: Mapping[str, Any]
    ) -> Report:
        """`torso eval`. options: flags that were set and that only some tasks know (see `refuse`)."""
        raise ValueError(f"torso eval does not know how to open a folder for {self.name}; evaluate from Python")

    def predict(
        self, model: Any, images: Iterable[Image], *, score_threshold: float, batch_size: int, precision: Precision
    ) -> Iterator[Any]:
        """`torso predict`: an answer an image, in order, for `rows` and `draw`."""
        raise ValueError(f"torso predict has no answer for {self.name}; call the model from Python")

    def rows(self, found: Any, image_id: int, category_ids: Sequence[int]) -> list[dict[str, Any]]:
        """An answer as plain rows of results.json."""
        raise NotImplementedError

    def draw(self, found: Any, image: Image) -> Image:
        """An answer on its image."""
        raise NotImplementedError

    def summarise(self, model: Part[Any], size_hw: tuple[int, int] | None) -> Summary:
        """`torso show`. ValueError for a size that the model cannot take."""
        return summarise_whole(model, size_hw)

    def page(self, val: Any | None, predictions: Any | None, folder: Path) -> RunPage:
        """Of a run's report; images are written into `folder`. predictions: the kept ones of the best epoch."""
        return RunPage([], [], [f"Scores: {self.name} adds no section of its own."])

    def refuse(self, options: Mapping[str, Any]) -> None:
        """ValueError where flags were set that belong to another task."""
        for name in options:
            raise ValueError(f"--{name.replace('_', '-')} is of another task than {self.name}; leave it out")


def task_of(model: Part[Any] | type) -> Task:
    """The task that a model's class belongs to."""
    kind: Any = model if isinstance(model, type) else produced(model)
    name: str = kind.task
    module = name.partition(":")[0]
    made: Task = find(name, "tasks", allow=(module,))()  # whoever made the class could import the module himself
    return made


def moved(value: Any, device: torch.device) -> Any:
    """Tensors on the device, in (named) tuples of any depth; everything else as it is."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, tuple):
        items = [moved(one, device) for one in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    return value
