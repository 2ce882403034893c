"""--criterion NAME is a slot like the others; a head that a criterion does not read is answered with one that does."""

from __future__ import annotations

import pytest
from cli.commands import Command

from torso.cli._remedies import as_flags, sentence
from torso.parts import PartError

TINY = ("--num-classes", "2")


def test_the_same_criterion_changes_nothing(torso: Command) -> None:
    assert torso("show", "fcos", "--criterion", "dense", "--yaml").out == torso("show", "fcos", "--yaml").out


@pytest.mark.parametrize(
    ("command", "remedy"),
    [
        ("fcos --criterion grid", "--criterion dense"),
        ("yolov1 --criterion dense", "--criterion grid"),
        ("centernet_points --criterion dense", "--criterion heatmap"),
        ("faster_rcnn --criterion heatmap", "--criterion two_stage"),
        ("retinanet --head grid --criterion dense", "--criterion grid"),
    ],
)
def test_a_head_that_it_does_not_read_is_answered_with_one_that_does(torso: Command, command: str, remedy: str) -> None:
    refused = torso("show", *command.split(), "--yaml")
    assert refused.code == 2
    assert refused.sentence.endswith(f": choose {remedy}")
    name = command.rpartition("--criterion ")[0]
    assert torso("show", *name.split(), *remedy.split(), "--yaml").code == 0


def test_an_unknown_one_is_answered_with_the_nearest(torso: Command) -> None:
    assert (
        "--criterion: no criterion is called 'dens'; did you mean 'dense'"
        in torso("show", "fcos", "--criterion", "dens").sentence
    )


def test_losses_are_swapped_wherever_the_criterion_has_them(torso: Command) -> None:
    for model, flag in (
        ("fcos", "--box-loss=giou"),
        ("faster_rcnn", "--box-loss=giou"),
        ("centernet_points", "--box-loss=smooth_l1"),
    ):
        done = torso("show", model, flag, "--yaml")
        assert done.code == 0
        assert f"losses.{flag.partition('=')[2]}" in done.out


@pytest.mark.parametrize(
    ("old", "today"),
    [
        ("--criterion.box_weight 2", "--criterion.box.weight 2"),
        ("--box_loss.beta=0.5", "--box.loss.beta=0.5"),
        ("--cls-loss.gamma=1", "--criterion.cls.loss.gamma=1"),
        ("--criterion.quality_target=iou", "--quality.target=iou"),
    ],
)
def test_flags_as_they_were_called_before_terms_were_parts(torso: Command, old: str, today: str) -> None:
    said = torso("show", "retinanet", *today.split(), "--yaml")
    assert said.code == 0
    assert torso("show", "retinanet", *old.split(), "--yaml").out == said.out


def test_settings_as_flags() -> None:
    settings = {"criterion.box.loss": "kl", "head.uncertainty": True, "head.finest": 16, "criterion.sampler": None}
    assert as_flags(settings) == "--box-loss kl --head.uncertainty=true --head.finest=16 --sampler none"
    assert as_flags({"criterion.first.assigner": "atss"}) == "--criterion.first.assigner atss"
    assert as_flags({"input.size_hw": (512, 640)}) == "--input.size_hw=512,640"


def test_remedies_of_one_flag_share_it() -> None:
    ways = [{"criterion.assigner": "atss"}, {"criterion.assigner": "fcos"}, {"head.quality": "none"}, "start anew"]
    said = sentence(PartError("It fails", remedies=ways))
    assert said == "It fails: choose --assigner atss or fcos, or add --head.quality none, or start anew"
    assert sentence(ValueError("plain")) == "plain"
