"""The random sampler: proportions, fixed size, what is never drawn, and that every row is drawn alike."""

from __future__ import annotations

import pytest
import torch

from torso.parts import PartError
from torso.training.assignment import BACKGROUND, IGNORED, Assignment
from torso.training.samplers.random import RandomSampler


def assignment(positives: int, background: int, ignored: int, images: int = 2) -> torch.Tensor:
    row = torch.cat([torch.arange(positives), torch.full((background,), -1), torch.full((ignored,), -2)])
    orders = [torch.randperm(len(row), generator=torch.Generator().manual_seed(i)) for i in range(images)]
    return torch.stack([row[order] for order in orders])


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ((50, 500, 30), (16, 48)),  # more than enough of both: a quarter
        ((5, 500, 30), (5, 59)),  # background fills up
        ((50, 10, 30), (16, 10)),  # but positives do not
        ((0, 500, 0), (0, 64)),
        ((3, 4, 600), (3, 4)),
        ((0, 0, 20), (0, 0)),
    ],
)
def test_proportions(given: tuple[int, int, int], kept: tuple[int, int]) -> None:
    target = assignment(*given)
    out = RandomSampler(number=64, positive_share=0.25)(Assignment(target)).target
    assert (out >= 0).sum(1).tolist() == [kept[0]] * 2
    assert (out == BACKGROUND).sum(1).tolist() == [kept[1]] * 2
    changed = out != target
    assert (out[changed] == IGNORED).all()


def test_draw_gives_a_fixed_number_of_rows_positives_first() -> None:
    target = assignment(5, 20, 10)
    rows, real = RandomSampler(number=16, positive_share=0.5).draw(target)
    drawn = target.gather(1, rows)
    assert rows.shape == (2, 16)
    assert real.all()
    assert (drawn[:, :5] >= 0).all()
    assert (drawn[:, 5:] == BACKGROUND).all()
    assert all(len(set(r.tolist())) == 16 for r in rows)


def test_every_row_is_drawn_alike() -> None:
    target = assignment(20, 60, 0, images=1)
    torch.manual_seed(0)
    out = RandomSampler(number=16, positive_share=0.5)(Assignment(target.expand(2000, -1))).target
    share = (out != IGNORED).float().mean(0)
    positive = target[0] >= 0
    # 8 of 20 and 8 of 60; over three and a half standard deviations of 2000 draws
    assert (share[positive] - 0.4).abs().max() < 0.04
    assert (share[~positive] - 8 / 60).abs().max() < 0.03


def test_images_are_drawn_apart_and_the_seed_decides() -> None:
    target = assignment(40, 40, 0, images=1).repeat(2, 1)
    sampler = RandomSampler(number=20, positive_share=0.5)
    torch.manual_seed(3)
    first = sampler(Assignment(target)).target
    torch.manual_seed(3)
    assert torch.equal(sampler(Assignment(target)).target, first)
    assert not torch.equal(first[0], first[1])


def test_quality_is_kept() -> None:
    quality = torch.rand(2, 10)
    assert RandomSampler(number=4)(Assignment(assignment(4, 6, 0), quality)).quality is quality


@pytest.mark.parametrize("wrong", [{"number": 0}, {"positive_share": 1.5}])
def test_wrong_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(PartError, match=r"expected .*, got "):
        RandomSampler(**wrong)  # type: ignore[arg-type]
