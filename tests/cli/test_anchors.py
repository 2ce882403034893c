"""`torso anchors`: shapes for a data set, what they and a model's own reach, and flags that a model then takes."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from cli.commands import QUICK, TINY, Command
from data.builders import change, write_coco


def test_the_printed_flags_are_taken_by_training(torso: Command, data: Path) -> None:
    done = torso("anchors", data, "--model", "retinanet", "--count", "5", "--size", 96, 128)
    assert done.code == 0
    assert "retinanet's own, 45" in done.out
    line = next(line for line in done.out.splitlines() if line.strip().startswith("torso train"))
    flags = [word for word in shlex.split(line) if word.startswith("--head.priors")]
    shown = torso("show", "retinanet", "--yaml", *flags)
    assert shown.code == 0
    assert "part: priors.shapes" in shown.out


def test_json_is_deterministic_and_holds_both(torso: Command, data: Path) -> None:
    call = ("anchors", data, "--model=rpn", "--count=5", "--size", 96, 128, "--json")
    first = json.loads(torso(*call).out)
    assert first == json.loads(torso(*call).out)
    assert [len(level) for level in first["sizes"]] == [1] * 5
    assert {row["group"] for row in first["reach"]["fitted"]} >= {"all", "red"}
    assert first["reach"]["fitted"][0]["mean_iou"] > 0
    assert len(first["reach"]["present"]) == len(first["reach"]["fitted"])


def test_without_a_model_the_usual_three_levels(torso: Command, data: Path) -> None:
    found = json.loads(torso("anchors", data, "--count=4", "--size", 96, 128, "--json").out)
    assert [len(level) for level in found["sizes"]] == [2, 1, 1]
    assert list(found["reach"]) == ["fitted"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--model=fcos"], "fcos predicts from points"),
        (["--model=centernet_points"], "centernet_points predicts from points and has no anchors to fit"),
        (["--model=yolov1"], "yolov1 predicts from the cells of a grid and has no anchors to fit"),
        (["--model=retinanett"], "retinanet"),
        (["--model=retinanet", "--count=7"], "a multiple of 5"),
        (["--count=2"], "at least 3"),
        (["--count=0"], "at least 1"),
        (["--iou=1.5"], "between 0 and 1"),
        (["--size", "0", "5"], "a positive height"),
        (["--seed=-1"], "0 or more"),
        (["--model=no.yaml"], "no such file"),
    ],
)
def test_what_cannot_be_meant_is_refused(torso: Command, data: Path, flags: list[str], said: str) -> None:
    done = torso("anchors", data, *flags)
    assert done.code == 2
    assert said in done.sentence


def test_a_set_without_boxes_and_a_missing_folder(torso: Command, tmp_path: Path) -> None:
    root = write_coco(tmp_path / "empty")
    change(root / "train.json", lambda c: c["annotations"].clear())
    done = torso("anchors", root)
    assert done.code == 1
    assert "no box" in done.sentence
    assert torso("anchors", tmp_path / "none").code == 2


def test_training_warns_once_of_objects_out_of_reach(torso: Command, data: Path, tmp_path: Path) -> None:
    far = ("--head.priors=shapes", "--head.priors.sizes=[[[400,400]],[[500,500]],[[600,600]]]")
    done = torso("train", "retinanet", "--data", data, *TINY, *QUICK, *far, "--out", tmp_path / "far")
    assert done.code == 0
    assert (done.out + done.err).count("`torso anchors` fits shapes") == 1
