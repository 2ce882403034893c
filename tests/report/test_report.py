"""The report: complete, self-contained, escaped, and written with any piece missing."""

from __future__ import annotations

import builtins
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from torso.report.report import duration, write_report

pytest.importorskip("matplotlib")

EVIL = '<img src=x onerror="alert(1)">'


@pytest.fixture
def case(tmp_path: Path) -> dict[str, Any]:
    """Six images, two classes, one with a hostile name, one image without objects, a crowd."""
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    images, annotations, results = [], [], []
    for image in range(1, 7):
        name = f"image {image} & <b>.png"
        Image.fromarray(rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)).save(tmp_path / "images" / name)
        images.append({"id": image, "file_name": name, "width": 80, "height": 60})
        for n in range(image - 1):
            box = [5.0 + 10 * n, 10.0, 9.0, 20.0]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": 1 + n % 2,
                    "bbox": box,
                    "area": 180.0,
                    "iscrowd": int(n == 4),
                }
            )
            if n % 3 < image % 3 + 1:
                found = {"image_id": image, "category_id": 1 + n % 2, "bbox": box, "score": 0.9 - 0.1 * n}
                results.append(found)
    categories = [{"id": 1, "name": EVIL}, {"id": 2, "name": "cost in $ and $"}]
    return {
        "truth": {"images": images, "annotations": annotations, "categories": categories},
        "results": results,
        "image_root": tmp_path / "images",
    }


def write_metrics(run_dir: Path) -> None:
    run_dir.mkdir(parents=True, exist_ok=True)
    rows = ["epoch,step,train/loss_cls,lr,val/AP,val/AP50,speed"]
    rows += [f"{step // 10},{step},{1 / (step + 1)},0.01,,,3" for step in range(60)]
    rows += ["5,59,,,0.31,0.62,", "6,60,nan,,,,"]
    (run_dir / "metrics.csv").write_text("\n".join(rows) + "\n")


def check_links(index: Path) -> set[str]:
    """Every link is relative and leads to a file that is there."""
    html = index.read_text(encoding="utf-8")
    assert "http:" not in html
    assert "https:" not in html
    links = {link for link in re.findall(r'(?:src|href)="([^"]+)"', html) if not link.startswith("#")}
    for link in links:
        assert not link.startswith("/")
        assert (index.parent / link).is_file(), link
    return links


def test_whole_report(tmp_path: Path, case: dict[str, Any]) -> None:
    run = tmp_path / "run"
    write_metrics(run)
    index = write_report(
        run,
        title=f"demo {EVIL}",
        config=f"model: {EVIL}",
        command="torso train fcos",
        versions={"torch": "2.11"},
        timing={"training": 198.4},
        samples_each=2,
        **case,
    )
    assert index == run / "report" / "index.html"
    html = index.read_text(encoding="utf-8")
    assert "<img src=x" not in html
    assert "&lt;img src=x" in html
    assert "Not in this report" not in html
    links = check_links(index)
    images = {"class_ap.png", "precision_recall.png", "score_threshold.png", "confusion.png"}
    curves = {f"curves_{name}.png" for name in ("loss", "validation", "learning_rate", "other")}
    samples = {f"samples/{name}_{n}.jpg" for name in ("best", "weakest", "random") for n in (1, 2)}
    assert links == images | curves | samples
    for text in ("3 min 18 s", "torso train fcos", "AP50", "image 1 &amp; &lt;b&gt;.png"):
        assert text in html


def test_nothing_given(tmp_path: Path) -> None:
    index = write_report(tmp_path / "run")
    html = index.read_text(encoding="utf-8")
    for text in ("Not in this report", "no evaluation was given", "no metrics.csv", "Sample images", "Configuration"):
        assert text in html
    assert check_links(index) == set()


@pytest.mark.parametrize("left_out", ["truth", "results", "image_root"])
def test_any_missing_piece_is_named(tmp_path: Path, case: dict[str, Any], left_out: str) -> None:
    index = write_report(tmp_path / "run", **{name: value for name, value in case.items() if name != left_out})
    assert "Sample images" in index.read_text(encoding="utf-8")
    assert ("COCO scores" in index.read_text(encoding="utf-8")) == (left_out == "image_root")
    check_links(index)


def test_no_detections_at_all(tmp_path: Path, case: dict[str, Any]) -> None:
    index = write_report(tmp_path / "run", **{**case, "results": []})
    assert "0 detections" in index.read_text(encoding="utf-8")
    assert "samples/weakest_1.jpg" in check_links(index)


def test_without_matplotlib_the_numbers_remain(
    tmp_path: Path, case: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    run = tmp_path / "run"
    write_metrics(run)
    html = write_report(run, **case).read_text(encoding="utf-8")
    assert "pip install &#x27;torso[plots]&#x27;" in html
    assert "COCO scores" in html
    assert "By class" in html
    assert ".png" not in re.findall(r'src="([^"]+)"', html)


def test_only_the_report_folder_is_written(tmp_path: Path, case: dict[str, Any]) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "metrics.csv").write_text("step,loss\n")
    before = (run / "metrics.csv").read_bytes()
    write_report(run, **case)
    write_report(run, **case)  # again, over itself
    assert sorted(path.name for path in run.iterdir()) == ["metrics.csv", "report"]
    assert (run / "metrics.csv").read_bytes() == before
    assert not list((run / "report").glob("*.part"))


def test_an_unreadable_image_is_named(tmp_path: Path, case: dict[str, Any]) -> None:
    for path in case["image_root"].iterdir():
        path.write_bytes(b"not an image")
    with pytest.raises(ValueError, match="image"):
        write_report(tmp_path / "run", **case)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (59.94, "59.9 s"), (75.3, "1 min 15 s"), (3661, "1 h 1 min")]
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text
