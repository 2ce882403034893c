"""Training on tiles and at several sizes: what a window keeps of its boxes, which samples and scales there are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from data.builders import write_coco
from PIL import Image

from torso.data.coco import read_coco
from torso.data.dataset import DetectionDataset
from torso.data.loader import train_loader
from torso.data.objects import Objects
from torso.data.sample import Sample
from torso.data.sampler import EpochSampler
from torso.data.to_input import ToInput
from torso.data.transforms.horizontal_flip import HorizontalFlip
from torso.data.transforms.mosaic import Mosaic
from torso.data.windows import WindowDataset, cut_out, make_dataset, window_counts
from torso.inputs.letterbox import Letterbox
from torso.inputs.short_side import ShortSide
from torso.inputs.tiles import Tiles
from torso.parts import part

TILES = Tiles(size_hw=(64, 64), overlap=0.25)


@pytest.fixture
def dataset(tmp_path: Path) -> WindowDataset:
    root = write_coco(tmp_path, n_images=3, seed=1)  # 96 x 128: two rows of three tiles, and the whole image
    annotations = read_coco(root / "train.json", root / "images")
    made = make_dataset(annotations, [HorizontalFlip(), ToInput(TILES, 32)], TILES, seed=5)
    assert isinstance(made, WindowDataset)
    return made


def test_every_window_of_every_image_is_a_sample(dataset: WindowDataset) -> None:
    assert len(dataset) == 3 * 7
    assert window_counts(dataset.annotations, TILES) == [7, 7, 7]
    assert [dataset.load(i).index for i in range(21)] == [0] * 7 + [1] * 7 + [2] * 7, "messages name the image"
    assert dataset.load(6).size_hw == (96, 128)
    image = np.asarray(dataset.load(13).image)
    windows = TILES.windows((96, 128))
    for i, (x1, y1, x2, y2) in enumerate(windows):
        assert np.array_equal(np.asarray(dataset.load(7 + i).image), image[y1:y2, x1:x2])
    with pytest.raises(ValueError, match="no images"):
        WindowDataset(dataset.annotations.keep_images(np.zeros(3, bool)), [], TILES)


def test_other_policies_keep_whole_images(dataset: WindowDataset) -> None:
    assert type(make_dataset(dataset.annotations, [], Letterbox())) is DetectionDataset


def test_boxes_that_are_cut_too_much_become_crowd() -> None:
    boxes = [[10, 10, 30, 30], [50, 10, 70, 30], [60, 10, 80, 30], [64, 0, 99, 9], [0, 0, 99, 99]]
    sample = Sample(
        image=Image.new("RGB", (100, 100)), index=0, image_id=1,
        objects=Objects(np.array(boxes, np.float32), np.arange(5), np.array([False, False, False, False, True])),
    )  # fmt: skip
    cut = cut_out(sample, (0, 0, 64, 64), 0.5)
    assert cut.labels.tolist() == [0, 1, 2, 4]
    assert cut.boxes.tolist() == [[10, 10, 30, 30], [50, 10, 64, 30], [60, 10, 64, 30], [0, 0, 64, 64]]
    assert cut.crowd.tolist() == [False, False, True, True], "14 and 4 of 20 px are left, and a crowd stays one"
    moved = cut_out(sample, (36, 4, 100, 68), 0.5)
    assert moved.boxes[0].tolist() == [14, 6, 34, 26]
    assert moved.to_original == (1.0, 1.0, 36.0, 4.0)
    assert cut_out(sample, (0, 0, 100, 100), 0.5) is sample
    assert cut_out(sample, (0, 0, 64, 64), 0.1).crowd.tolist() == [False, False, False, True]


def test_a_sample_is_a_pure_function_of_seed_epoch_and_index(dataset: WindowDataset) -> None:
    again = make_dataset(dataset.annotations, dataset.transforms, TILES, seed=5)
    for key in ((0, 3), (1, 3), (1, 20)):
        one, other = dataset[key], again[key]
        assert one.pixels.equal(other.pixels)
        assert np.array_equal(one.objects.boxes, other.objects.boxes)
        assert one.canvas_hw == (64, 64)
    flips = {dataset.sample(epoch, 3).to_original[0] < 0 for epoch in range(9)}
    assert flips == {False, True}


def test_mosaics_are_made_of_windows(dataset: WindowDataset) -> None:
    made = make_dataset(dataset.annotations, [Mosaic(size_hw=(64, 64))], TILES)
    assert made.sample(0, 5).size_hw == (64, 64)


@pytest.mark.parametrize("few", [False, True])
@pytest.mark.parametrize("policy", [Letterbox(size_hw=(96, 128)), ShortSide(short=96, longest=160)])
def test_a_batch_has_one_scale(tmp_path: Path, policy: Letterbox | ShortSide, few: bool) -> None:
    root = write_coco(tmp_path, n_images=10, seed=1)
    annotations = read_coco(root / "train.json", root / "images")
    dataset = DetectionDataset(annotations, [ToInput(policy, 32, few=few)])
    sampler = EpochSampler(size=10, batch_size=2, accumulate=1, seed=3, scales=(0.5, 1.0, 1.5))
    plain = [torch.from_numpy(dataset[0, i].objects.boxes) for i in range(10)]
    seen = set()
    for _ in range(2):
        for (batch,) in train_loader(dataset, sampler, divisor=32):
            height = float(batch.images.size_hw[0, 0])
            scale = height / 96
            seen.add((scale, batch.images.pixels.shape[2:]))
            assert batch.images.size_hw.tolist() == [[96 * scale, 128 * scale]] * 2
            for row, index in enumerate(batch.index.tolist()):
                count = len(plain[index])
                assert batch.targets.boxes[row, :count].allclose(plain[index] * scale, atol=0.6)
    assert {scale for scale, _ in seen} == {0.5, 1.0, 1.5}
    assert len(seen) == 3, "one static shape a scale"


def test_the_scale_of_a_batch_is_a_pure_function_of_seed_epoch_and_place() -> None:
    def scales(sampler: EpochSampler) -> list[list[float]]:
        return [[(*key, 1.0)[2] for key in window] for window in sampler]

    def made(**more: int) -> EpochSampler:
        return EpochSampler(size=60, batch_size=2, accumulate=2, scales=(0.5, 1.0, 2.0), **{"seed": 3, **more})

    whole, second = scales(made()), made()
    second.start_from(0, 7)
    assert scales(second) == whole[7:], "resumed"
    assert all(a == b and c == d for a, b, c, d in whole), "one scale a micro-batch"
    assert {w[0] for w in whole} == {0.5, 1.0, 2.0}
    ranks = [scales(made(rank=r, world=2)) for r in (0, 1)]
    assert ranks[0] == ranks[1], "ranks wait for each other, so they get equal work"
    assert scales(made(seed=4)) != whole
    first = made()
    assert scales(first) != scales(first), "another epoch"
    order = [[key[:2] for key in window] for window in made()]
    assert order == [list(w) for w in EpochSampler(size=60, batch_size=2, accumulate=2, seed=3)]


def test_scales_are_refused() -> None:
    with pytest.raises(ValueError, match=r"scales \(\) came"):
        EpochSampler(size=4, batch_size=2, scales=())


def test_a_policy_inside_resizes_the_window(tmp_path: Path) -> None:
    root = write_coco(tmp_path, n_images=1, seed=1)
    tiles = Tiles(size_hw=(64, 64), inner=part(Letterbox, size_hw=(128, 128)))
    made = make_dataset(read_coco(root / "train.json", root / "images"), [ToInput(tiles, 32)], tiles)
    assert made[0, 0].pixels.shape == (3, 128, 128)
