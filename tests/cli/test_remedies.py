"""What a refused swap advises is obeyed here, at the command line, and works at once: no second refusal."""

from __future__ import annotations

import pytest
from cli.commands import Command

BACKGROUND = "--criterion.cls.on positives --criterion.quality.on used --criterion.quality.target iou"
UNCERTAIN = "--head.uncertainty=true --box-loss kl"
OF_THE_PROPOSER = (
    "--head.proposer.quality box --criterion.first.cls.on positives --criterion.first.quality.on used "
    "--criterion.first.quality.target iou --criterion.first.sampler none"
)


@pytest.mark.parametrize(
    ("command", "remedies"),
    [
        ("fcos --assigner yolo_v3", ["--head.priors anchors --head.quality none --criterion.box.weighting none"]),
        ("fcos --assigner yolo_v5", [f"--head.priors anchors {BACKGROUND} --criterion.box.weighting none"]),
        ("retinanet --assigner yolo_v5", [f"--head.quality box {BACKGROUND}"]),
        ("ssd300 --assigner yolo_v5", [f"--head.quality box {BACKGROUND} --sampler none"]),
        ("atss --assigner yolo_v3", ["--head.quality none --criterion.box.weighting none"]),
        ("yolox_s --assigner yolo_v3", ["--head.priors anchors"]),
        ("yolov3 --assigner yolo_v5", ["--head.coder.scale_xy=2"]),
        ("yolov3 --assigner atss", ["--head.coder delta --box-loss smooth_l1"]),
        ("yolov4 --assigner atss", ["--head.coder delta"]),
        ("yolov3 --assigner atss --head.coder delta", ["--box-loss smooth_l1"]),
        ("retinanet --assigner task_aligned", ["--cls-loss qfl", "--criterion.cls.target one"]),
        ("fcos --assigner task_aligned --head.quality none", ["--cls-loss qfl", "--criterion.cls.target one"]),
        ("ssd300 --assigner simota", ["--head.scores sigmoid --cls-loss qfl", "--criterion.cls.target one"]),
        (
            "yolov2 --assigner task_aligned",
            [
                "--head.coder delta --box-loss smooth_l1 --head.scores sigmoid --cls-loss qfl",
                "--head.coder delta --box-loss smooth_l1 --criterion.cls.target one",
            ],
        ),
        ("yolox_s --cls-loss focal", ["--cls-loss qfl", "--criterion.cls.target one"]),
        ("gfl --cls-loss focal --criterion.cls.target iou", ["--cls-loss qfl", "--criterion.cls.target one"]),
        ("tal_n --cls-loss cross_entropy", ["--cls-loss qfl", "--head.scores softmax --criterion.cls.target one"]),
        (
            "retinanet --assigner simota --cls-loss cross_entropy",
            ["--cls-loss qfl", "--head.scores softmax --criterion.cls.target one"],
        ),
        ("fcos --cls-loss cross_entropy", ["--cls-loss focal", "--head.scores softmax"]),
        (
            "ssd300 --assigner simota --cls-loss focal",
            [
                "--cls-loss cross_entropy --criterion.cls.target one",
                "--head.scores sigmoid --criterion.cls.target one",
            ],
        ),
        ("retinanet --criterion.cls.target iou", ["--cls-loss qfl", "--criterion.cls.target one"]),
        ("ssd300 --criterion.cls.target iou", ["--head.scores sigmoid --cls-loss qfl", "--criterion.cls.target one"]),
        (
            "faster_rcnn --criterion.first.cls.loss focal --criterion.first.assigner simota",
            ["--criterion.first.cls.loss qfl", "--criterion.first.cls.target one"],
        ),
        (
            "faster_rcnn --criterion.first.cls.loss focal --criterion.first.cls.target iou",
            ["--criterion.first.cls.loss qfl", "--criterion.first.cls.target one"],
        ),
        ("retinanet --box-loss yolo_box", ["--box-loss smooth_l1"]),
        ("fcos --box-loss yolo_box", ["--box-loss smooth_l1"]),
        ("faster_rcnn --box-loss yolo_box", ["--box-loss smooth_l1"]),
        ("centernet_points --box-loss yolo_box", ["--box-loss l1"]),
        ("centernet_points --box-loss kl", ["--box-loss l1"]),
        ("gfl --box-loss kl", ["--head.coder ltrb --head.uncertainty=true", "--box-loss giou"]),
        ("gfl --head.uncertainty=true", ["--head.coder ltrb --box-loss kl", "--head.uncertainty=false"]),
        (f"tal_n {UNCERTAIN}", ["--head.coder ltrb", "--head.uncertainty=false --box-loss giou"]),
        ("faster_rcnn --suppression softer_nms", [UNCERTAIN]),
        ("gfl --suppression softer_nms", [f"--head.coder ltrb {UNCERTAIN}", "--suppression nms"]),
        ("tal_n --suppression softer_nms", [f"--head.coder ltrb {UNCERTAIN}", "--suppression nms"]),
        (f"gfl --suppression softer_nms {UNCERTAIN}", ["--head.coder ltrb"]),
        ("centernet_points --suppression softer_nms", ["--suppression nms"]),
        ("yolov1 --suppression softer_nms", ["--suppression nms"]),
        ("faster_rcnn --criterion.first.assigner yolo_v5", ["--criterion.first.assigner atss", OF_THE_PROPOSER]),
        ("faster_rcnn --head.proposer.uncertainty=true", ["--criterion.first.box.loss kl"]),
    ],
)
def test_obeyed_once_it_works(torso: Command, command: str, remedies: list[str]) -> None:
    refused = torso("show", *command.split(), "--yaml")
    assert refused.code == 2
    for remedy in remedies:
        assert remedy in refused.sentence
        done = torso("show", *_obeying(command, remedy), "--yaml")
        assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize(
    ("command", "fitting"),
    [
        ("atss --assigner yolo_v2", "atss or fcos or paa or simota"),
        ("yolov3 --assigner yolo_v2", "yolo_v3"),
    ],
)
def test_where_nothing_helps_the_assigners_that_go_with_it_are_named(
    torso: Command, command: str, fitting: str
) -> None:
    refused = torso("show", *command.split(), "--yaml")
    assert refused.sentence.endswith(f": choose --assigner {fitting}")
    for name in fitting.split(" or "):
        assert torso("show", *_obeying(command, f"--assigner {name}"), "--yaml").code == 0


def test_the_proposers_assigner_is_named_as_a_flag(torso: Command) -> None:
    said = torso("show", "faster_rcnn", "--assigner=atss").sentence
    assert said.endswith("or add --assigner max_iou --criterion.first.assigner atss")
    assert torso("show", "faster_rcnn", *said.rpartition("or add ")[2].split(), "--yaml").code == 0
    assert torso("show", "faster_rcnn", "--criterion.first.assigner", "atss", "--yaml").code == 0
    assert torso("show", "faster_rcnn", "--assigner", "ssd", "--yaml").code == 0


def test_heads_that_cannot_learn_variances_are_not_told_to(torso: Command) -> None:
    for model in ("centernet_points", "yolov1"):
        said = torso("show", model, "--suppression", "softer_nms").sentence
        assert "cannot learn one: choose --suppression nms" in said
        assert "retinanet, fcos, faster_rcnn" in said


def test_what_is_offered_for_a_loss_of_another_kind_trains_the_model(torso: Command) -> None:
    said = torso("show", "gfl", "--box-loss", "focal").sentence
    offered = said.rpartition("choose --box-loss ")[2].split(" or ")
    assert offered == ["ciou", "diou", "giou", "iou"]
    assert all(torso("show", "gfl", "--box-loss", name, "--yaml").code == 0 for name in offered)


def _obeying(command: str, remedy: str) -> list[str]:
    """The words of the command with the remedy's flags added, in place of those of the same name."""
    model, *words = f"{command} {remedy}".replace("=", " ").split()
    flags = dict(zip(words[::2], words[1::2], strict=True))
    return [model, *(f"{flag}={value}" for flag, value in flags.items())]
