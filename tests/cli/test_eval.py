"""`torso eval`: the numbers of the evaluation, as a table and as JSON, and one sentence for whatever does not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli.commands import Command
from data.builders import CLASSES, change, write_coco

from torso.data.layout import open_dataset
from torso.evaluation.run import Settings, evaluate
from torso.weights import load


def test_the_numbers_are_those_of_the_evaluation(torso: Command, data: Path, checkpoint: Path) -> None:
    got = json.loads(torso("eval", checkpoint, "--data", data, "--split", "val", "--voc", "--json").out)
    wanted = evaluate(load(checkpoint), open_dataset(data, "val"), Settings(batch_size=1))
    assert got["AP"] == wanted.AP
    assert got["AR100"] == wanted.AR100
    assert [c["name"] for c in got["per_class"]] == list(CLASSES)
    assert set(got["voc"]) == {"2010 (area)", "2007 (11 points)"}


def test_the_table(torso: Command, data: Path, checkpoint: Path) -> None:
    done = torso("eval", checkpoint, "--data", data, "--voc", "--batch-size", 4)
    assert done.code == 0
    for word in ("AP50", "AR100", *CLASSES, "VOC 2010", "mAP50", "4 images"):
        assert word in done.out


def test_suppression_is_swapped_by_flag(torso: Command, data: Path, checkpoint: Path) -> None:
    def found(*flags: str) -> int:
        return int(json.loads(torso("eval", checkpoint, "--data", data, "--json", *flags).out)["detections"])

    assert found("--suppression=none", "--suppression.max_detections=7") == 7 * 4
    assert found("--suppression.max_detections=3") == 3 * 4


@pytest.mark.parametrize("precision", ["bf16", "16"])
def test_lower_precision_moves_the_numbers_a_little(
    torso: Command, data: Path, checkpoint: Path, precision: str
) -> None:
    exact, lower = (
        json.loads(torso("eval", checkpoint, "--data", data, "--json", "--precision", p).out) for p in ("32", precision)
    )
    assert lower["AR100"] == pytest.approx(exact["AR100"], abs=0.05)
    assert lower["detections"] > 0


def test_a_folder_of_a_run_names_its_weights(torso: Command, data: Path, checkpoint: Path) -> None:
    assert torso("eval", checkpoint.parent, "--data", data).code == 0


def test_without_a_val_split_the_held_out_part_of_train_is_evaluated(
    torso: Command, tmp_path: Path, checkpoint: Path
) -> None:
    root = write_coco(tmp_path / "only_train", n_images=8)
    shown = json.loads(torso("eval", checkpoint, "--data", root, "--json").out)
    assert 1 <= shown["images"] < 8
    assert shown["notes"] == []


def test_what_is_left_out_is_said_in_json_too(torso: Command, tmp_path: Path, checkpoint: Path) -> None:
    root = write_coco(tmp_path / "flat", n_images=3, split="val")
    change(root / "val.json", lambda c: c["annotations"][0].update(bbox=[3, 3, 0, 5]))
    shown = json.loads(torso("eval", checkpoint, "--data", root, "--json").out)
    assert "1 images or boxes dropped" in shown["notes"][0]


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--split", "vla"], 1, "split 'vla' was wanted, there is train, val"),
        (["--suppression=nsm"], 2, "no suppression is called 'nsm'; did you mean 'nms'"),
        (["--suppression.iou_treshold=0.5"], 2, "NMS has no argument 'iou_treshold'; did you mean 'iou_threshold'"),
        (["--suppression.iou_threshold=high"], 2, "NMS.iou_threshold: expected a number, got 'high'"),
        (["--neck.channels=3"], 2, "a dotted flag begins with one of suppression, input"),
        (["--batch-size=0"], 2, "--batch-size: expected a whole number of at least 1, got 0"),
        (["--holdout=1.5"], 2, "--holdout: expected a number above 0 and below 1, got 1.5"),
        (["--device=gpu"], 2, "'auto', 'cpu', 'cuda'"),
        (["--data", "/nowhere"], 2, "no such folder"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_mistakes(torso: Command, data: Path, checkpoint: Path, flags: list[str], code: int, said: str) -> None:
    done = torso("eval", checkpoint, "--data", data, *flags)
    assert done.code == code
    assert said in done.sentence


def test_another_class_list_is_refused_or_dropped(torso: Command, tmp_path: Path, checkpoint: Path) -> None:
    root = write_coco(tmp_path / "renamed", n_images=3, split="val")
    change(root / "val.json", lambda c: c["categories"][0].update(name="crimson"))
    done = torso("eval", checkpoint, "--data", root)
    assert done.code == 1
    assert "red" in done.sentence
    assert "--drop-unknown" in done.sentence or "drop_unknown" in done.sentence
    assert torso("eval", checkpoint, "--data", root, "--drop-unknown").code == 0


@pytest.mark.parametrize("verb", ["eval", "predict"])
@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (None, 2, "no checkpoint at"),
        (b"", 1, "cannot be read"),
        (b"PK\x03\x04 no zip", 1, "cannot be read"),
        (b"\x08\0\0\0\0\0\0\0{}      ", 1, "no torso weight file"),
    ],
    ids=["missing", "empty", "broken", "foreign"],
)
def test_a_wrong_checkpoint_is_named(
    torso: Command, data: Path, tmp_path: Path, verb: str, content: bytes | None, code: int, said: str
) -> None:
    file = tmp_path / "wrong.safetensors"
    if content is not None:
        file.write_bytes(content)
    where = ("--data", data) if verb == "eval" else (data, "--out", tmp_path / "out")
    done = torso(verb, file, *where)
    assert done.code == code
    assert "wrong.safetensors" in done.sentence
    assert said in done.sentence
    assert not (tmp_path / "out").exists()
