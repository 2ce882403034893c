"""`torso predict`: every image drawn once, COCO results with the data set's own ids, nothing overwritten."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli.commands import Command, contents
from PIL import Image

from torso.cli._sources import _IMAGES, expand
from torso.data.files import IMAGE_SUFFIXES
from torso.inference.detections import Detections
from torso.weights import load


def test_results_are_those_of_the_model(torso: Command, data: Path, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "found"
    done = torso("predict", checkpoint, data / "images", "--out", out, "--score", 0.0, "--batch-size", 4)
    assert done.code == 0
    index = json.loads((out / "index.json").read_text())
    results = json.loads((out / "results.json").read_text())
    assert [c["id"] for c in index["categories"]] == [1, 3, 5], "the ids of the data set that it was trained on"
    assert len(index["images"]) == 12
    first = index["images"][0]
    found = Detections.from_coco([r for r in results if r["image_id"] == first["id"]], ("a", "b", "c"), (1, 3, 5))
    wanted = load(checkpoint).predict(first["file_name"])
    assert isinstance(wanted, Detections)
    assert len(found) == len(wanted) == first["objects"]
    assert np.allclose(found.boxes, wanted.boxes, atol=1e-3)
    for entry in index["images"]:
        with Image.open(out / entry["drawn"]) as drawn:
            assert drawn.size[0] % entry["width"] == 0, "drawn at the image's size or a whole multiple of it"


def test_score_leaves_out_the_weak(torso: Command, data: Path, checkpoint: Path, tmp_path: Path) -> None:
    done = torso("predict", checkpoint, data / "images", "--out", tmp_path / "x", "--score", 0.99, "--no-draw")
    assert done.code == 0
    assert json.loads((tmp_path / "x" / "results.json").read_text()) == []
    assert sorted(p.name for p in (tmp_path / "x").iterdir()) == ["index.json", "results.json"]


def test_nothing_is_overwritten(torso: Command, data: Path, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "found"
    out.mkdir()
    (out / "mine.txt").write_text("precious")
    done = torso("predict", checkpoint, data, "--out", out)
    assert done.code == 2
    assert "name a new folder" in done.sentence
    assert list(contents(out)) == ["mine.txt"]


def test_two_images_of_one_name_do_not_meet(torso: Command, checkpoint: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (64, 64)).save(tmp_path / folder / "same.png")
    assert torso("predict", checkpoint, tmp_path / "a", tmp_path / "b", "--out", tmp_path / "x").code == 0
    assert {"same.jpg", "same-2.jpg"} <= {p.name for p in (tmp_path / "x").iterdir()}


def test_a_corrupt_image_is_said_and_the_others_are_done(
    torso: Command, data: Path, checkpoint: Path, tmp_path: Path
) -> None:
    whole = (data / "images" / "image_0_000.png").read_bytes()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "in" / "good.png").write_bytes(whole)
    done = torso("predict", checkpoint, tmp_path / "in", "--out", tmp_path / "x")
    assert done.code == 1
    assert "cut.png" in done.sentence
    assert "truncated or corrupt" in done.sentence
    index = json.loads((tmp_path / "x" / "index.json").read_text())
    assert [Path(i["file_name"]).name for i in index["images"]] == ["good.png"]
    assert [Path(s["file_name"]).name for s in index["skipped"]] == ["cut.png"]


def test_files_folders_and_patterns(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "note.txt", "clip.mp4", "deep/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    videos = frozenset({".mp4"})

    def names(*paths: str) -> list[str]:
        return [str(p.relative_to(tmp_path)) for p in expand([str(tmp_path / p) for p in paths], videos)]

    assert names(".") == ["a.JPG", "b.png", "clip.mp4", "deep/c.png"]
    assert names("*.png", "b.png", "note.txt") == ["b.png", "note.txt"], "each once; a file named is taken as it is"
    assert names("**/*.png") == ["b.png", "deep/c.png"]


def test_the_suffixes_are_those_of_the_readers() -> None:
    assert _IMAGES == IMAGE_SUFFIXES


@pytest.mark.parametrize(
    ("path", "said"),
    [("none.png", "no such file or folder"), ("empty", "no images and no videos"), ("*.gif", "no file matches")],
)
def test_a_path_that_gives_nothing(torso: Command, checkpoint: Path, tmp_path: Path, path: str, said: str) -> None:
    (tmp_path / "empty").mkdir()
    done = torso("predict", checkpoint, tmp_path / path, "--out", tmp_path / "x")
    assert done.code == 2
    assert said in done.sentence
    assert not (tmp_path / "x").exists()


def test_video_without_a_decoder_says_how_to_get_one(
    torso: Command, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    (tmp_path / "clip.mp4").touch()
    done = torso("predict", checkpoint, tmp_path / "clip.mp4", "--out", tmp_path / "x")
    assert done.code == 1
    assert "pip install 'torso[video]'" in done.sentence


def test_video(torso: Command, checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="video needs PyAV (extra video)")
    from fractions import Fraction

    from torso.inference.video import VideoWriter, frame_rate, read_frames

    clip = tmp_path / "clip.mp4"
    with VideoWriter(clip, Fraction(10)) as writer:
        for shade in range(0, 250, 50):
            writer.write(Image.new("RGB", (96, 65), (shade, shade, shade)))
    shades = [float(np.asarray(f).mean()) for f in read_frames(clip)]
    assert np.allclose(shades, range(0, 250, 50), atol=4)
    assert torso("predict", checkpoint, clip, "--out", tmp_path / "x", "--batch-size", 2).code == 0
    index = json.loads((tmp_path / "x" / "index.json").read_text())
    assert [i["frame"] for i in index["images"]] == list(range(5))
    assert index["images"][3]["seconds"] == 0.3
    assert frame_rate(tmp_path / "x" / "clip.mp4") == 10
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    done = torso("predict", checkpoint, tmp_path / "bad.mp4", "--out", tmp_path / "y")
    assert done.code == 1
    assert "cannot be decoded as a video" in done.err
