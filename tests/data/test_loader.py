"""The promise of the data: a batch is a pure function of (seed, epoch, index), whoever computes it and when."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from data.builders import write_coco

from torso.data.coco import read_coco
from torso.data.collate import Batch, collate, target_rows
from torso.data.dataset import DetectionDataset
from torso.data.loader import eval_loader, plain_message, train_loader
from torso.data.sampler import EpochSampler, EvalSampler
from torso.data.transforms.horizontal_flip import HorizontalFlip
from torso.data.transforms.letterbox import Letterbox
from torso.data.transforms.mixup import MixUp
from torso.data.transforms.mosaic import Mosaic


@pytest.fixture
def dataset(tmp_path: Path) -> DetectionDataset:
    root = write_coco(tmp_path, n_images=10, seed=1)
    annotations = read_coco(root / "train.json", root / "images")
    return DetectionDataset(annotations, [HorizontalFlip(), Letterbox(size_hw=(64, 64))], seed=5)


def sampler(dataset: DetectionDataset, **kwargs: int) -> EpochSampler:
    return EpochSampler(size=len(dataset), batch_size=2, accumulate=2, seed=7, **kwargs)


def same(a: list[Batch], b: list[Batch]) -> bool:
    return len(a) == len(b) and all(
        torch.equal(x.images.pixels, y.images.pixels)
        and torch.equal(x.targets.boxes, y.targets.boxes)
        and torch.equal(x.images.to_original, y.images.to_original)
        and torch.equal(x.index, y.index)
        for x, y in zip(a, b, strict=True)
    )


def test_workers_do_not_change_a_bit(dataset: DetectionDataset) -> None:
    """Two epochs with 0 and with 2 workers are equal, and the second epoch differs from the first."""
    alone, helped = (list_of_epochs(dataset, workers) for workers in (0, 2))
    assert all(same(a, b) for a, b in zip(alone, helped, strict=True))
    assert not same(alone[0], alone[3])


def test_images_are_not_mixed_from_an_epoch_on(dataset: DetectionDataset) -> None:
    """From there samples are those of a data set without the transforms that mix; before, they are not."""
    mixed = [Mosaic(size_hw=(64, 64)), MixUp(), *dataset.transforms]
    closing = DetectionDataset(dataset.annotations, mixed, seed=5, unmixed_from=2)
    for index in range(len(dataset)):
        assert not closing[1, index].pixels.equal(dataset[1, index].pixels)
        for epoch in (2, 3):
            assert closing[epoch, index].pixels.equal(dataset[epoch, index].pixels)
            assert np.array_equal(closing[epoch, index].objects.boxes, dataset[epoch, index].objects.boxes)


def list_of_epochs(dataset: DetectionDataset, workers: int) -> list[list[Batch]]:
    loader = train_loader(dataset, sampler(dataset), workers=workers)
    return [window for _ in range(2) for window in loader]


@pytest.mark.parametrize("workers", [0, 2])
def test_resume_in_the_middle(dataset: DetectionDataset, workers: int) -> None:
    whole = list_of_epochs(dataset, 0)
    order = sampler(dataset)
    order.start_from(0, 2)
    loader = train_loader(dataset, order, workers=workers)
    assert len(loader) == 3
    rest = [window for _ in range(2) for window in loader]
    assert len(rest) == 4
    assert all(same(a, b) for a, b in zip(whole[2:], rest, strict=True))


def test_making_an_iterator_leaves_the_global_generator_alone(dataset: DetectionDataset) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    next(iter(train_loader(dataset, sampler(dataset))))
    assert torch.equal(before, torch.get_rng_state())


def test_set_epoch_keeps_the_first_window_of_start_from() -> None:
    order = EpochSampler(size=10, batch_size=2)
    order.start_from(3, 4)
    order.set_epoch(3)
    assert len(list(order)) == 1
    assert len(list(order)) == 5
    order.start_from(3, 4)
    order.set_epoch(4)
    assert len(list(order)) == 5


def test_ranks_share_an_epoch_without_gaps() -> None:
    """Ranks take equally many windows, and together every sample; what is extra repeats the epoch's beginning."""
    ranks = [list(EpochSampler(size=21, batch_size=2, accumulate=2, seed=3, rank=r, world=2)) for r in range(2)]
    assert [len(rank) for rank in ranks] == [3, 3]
    seen = sorted(index for rank in ranks for window in rank for _, index in window)
    assert len(seen) == 24
    assert set(seen) == set(range(21))


def test_a_set_smaller_than_a_window_is_repeated() -> None:
    (window,) = EpochSampler(size=3, batch_size=4, accumulate=2)
    assert len(window) == 8
    assert {index for _, index in window} == {0, 1, 2}


def test_sampler_says_what_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"rank 2 of 2 came; .* 0 <= rank < world were wanted"):
        EpochSampler(size=4, batch_size=2, rank=2, world=2)
    with pytest.raises(ValueError, match=r"window 9 came; .*0\.\.2 were wanted: resume with the data set"):
        EpochSampler(size=4, batch_size=2).start_from(0, 9)


def test_evaluation_sees_every_image_once() -> None:
    parts = [list(EvalSampler(size=11, batch_size=2, rank=rank, world=3)) for rank in range(3)]
    assert sorted(index for part in parts for batch in part for _, index in batch) == list(range(11))


def test_eval_loader_and_padding(dataset: DetectionDataset) -> None:
    batches = list(eval_loader(dataset, 4, workers=0))
    assert [len(batch.index) for batch in batches] == [4, 4, 2]
    first = batches[0]
    assert first.images.pixels.shape == (4, 3, 64, 64)
    assert first.images.pixels.is_contiguous(memory_format=torch.channels_last)
    assert first.images.size_hw.tolist() == [[48.0, 64.0]] * 4
    assert not first.images.pixels[:, :, 48:].any()
    assert first.targets.boxes.shape == (4, 32, 4)
    assert not first.targets.boxes[~first.targets.valid].any()
    assert first.image_ids.tolist() == [1, 2, 3, 4]


def test_images_without_a_canvas_are_padded_to_the_divisor(dataset: DetectionDataset) -> None:
    plain = DetectionDataset(dataset.annotations, [])
    batch = collate([plain[0, 0], plain[0, 1]], divisor=50)
    assert batch.images.pixels.shape == (2, 3, 100, 150)


@pytest.mark.parametrize(("most", "rows"), [(0, 32), (32, 32), (33, 128), (129, 512), (513, 1024), (1025, 1536)])
def test_target_rows(most: int, rows: int) -> None:
    assert target_rows(most) == rows


def test_a_corrupt_image_is_one_sentence_even_from_a_worker(dataset: DetectionDataset) -> None:
    path = dataset.annotations.path(0)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match="truncated or corrupt") as caught:
        list(eval_loader(dataset, 4, workers=1))
    message = plain_message(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert message.endswith("a complete one was wanted: replace or remove the file")
