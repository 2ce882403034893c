"""benchmarks/_harness.py and the rounds of neck_speed.py: cases that are timed, fail, die and take too long."""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
WORKER = """
import json, sys, time
from pathlib import Path
files, stem, kind = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
if kind == "dies":
    sys.exit("no such case")
if kind == "slow":
    time.sleep(60)
(files / f"{stem}.ready").touch()
while not (files / f"{stem}.go").exists():
    time.sleep(0.01)
began = time.time()
time.sleep(0.1)
(files / f"{stem}.json").write_text(json.dumps({"case": kind, "began": began, "ended": time.time()}))
"""


@pytest.fixture(scope="module")
def harness() -> Any:
    return load("_harness")


def load(name: str) -> Any:
    """A module of benchmarks/, which is no package; the folder does not stay where it would hide others."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(BENCHMARKS))


def settings(**more: Any) -> argparse.Namespace:
    return argparse.Namespace(**{"device": "cpu", "repeats": 2, "serial": False, "after": None, "limit": 60.0, **more})


def commands(folder: Path, kinds: list[str]) -> dict[str, list[str]]:
    script = folder / "worker.py"
    script.write_text(WORKER)
    return {f"mode:{kind}": [str(script), str(folder / "cases"), f"mode-{kind}", kind] for kind in kinds}


@pytest.mark.parametrize("serial", [False, True])
def test_cases_are_timed_one_after_the_other_in_order(harness: Any, tmp_path: Path, serial: bool) -> None:
    wanted = ["b", "a", "dies", "c"]
    found = harness.run_cases(commands(tmp_path, wanted), tmp_path / "cases", settings(serial=serial))
    assert [r["case"] for r in found] == ["b", "a", "c"]
    assert all(one["ended"] <= following["began"] for one, following in pairwise(found))
    assert "no such case" in (tmp_path / "cases" / "mode-dies.log").read_text()


def test_a_case_that_prepares_too_long_leaves_the_others_their_turns(
    harness: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    began = time.time()
    found = harness.run_cases(commands(tmp_path, ["slow", "a"]), tmp_path / "cases", settings(limit=4.0))
    assert [r["case"] for r in found] == ["a"]
    assert time.time() - began < 30
    assert "mode:slow: not prepared in time" in capfd.readouterr().out


def test_nothing_of_an_earlier_run_is_reported(harness: Any, tmp_path: Path) -> None:
    stale = tmp_path / "cases" / "mode-dies.json"
    stale.parent.mkdir()
    stale.write_text("{}")
    assert harness.run_cases(commands(tmp_path, ["dies"]), stale.parent, settings()) == []


def test_a_worker_writes_its_times(harness: Any, tmp_path: Path) -> None:
    calls: list[int] = []
    (tmp_path / "train-x-torso.go").touch()
    about, args = {"batch": 4, "size_hw": (8, 8)}, settings()
    harness.time_case("train:x:torso", lambda: lambda: calls.append(1), about, tmp_path, args, also=lambda _: {"q": 1})
    found = json.loads((tmp_path / "train-x-torso.json").read_text())
    order = "case batch size_hw device prepare_s ms ms_min ms_max repeats block q"
    assert list(found) == order.split()
    assert len(calls) == 1 + args.repeats
    assert (tmp_path / "train-x-torso.ready").exists()


def test_a_worker_that_fails_says_why_and_only_prepares_in_silence(harness: Any, tmp_path: Path) -> None:
    def make() -> Any:
        raise KeyError("nosuch")

    harness.time_case("infer1:y:z", make, {}, tmp_path, settings())
    assert json.loads((tmp_path / "infer1-y-z.json").read_text())["error"] == "KeyError: 'nosuch'"
    harness.time_case("infer1:x:z", lambda: lambda: None, {}, tmp_path, settings(), only_prepare=True)
    assert not list(tmp_path.glob("infer1-x-z*"))


def test_settings_are_passed_on_as_flags(harness: Any) -> None:
    args = argparse.Namespace(size=[8, 16], train_batch=4, other=1)
    assert harness.flags(args, "train_batch", "size") == ["--train-batch", "4", "--size", "8", "16"]


def test_json_is_whole_or_not_at_all(harness: Any, tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    harness.write_json(file, {"a": [1]})
    assert file.read_text() == json.dumps({"a": [1]}, indent=1)
    with pytest.raises(TypeError):
        harness.write_json(file, {"a": object()})
    assert json.loads(file.read_text()) == {"a": [1]}
    assert [p.name for p in tmp_path.iterdir()] == ["found.json"]


def test_results_of_other_settings_are_refused(harness: Any, tmp_path: Path) -> None:
    harness.settings_match(tmp_path, {"size": (1, 2)})
    harness.settings_match(tmp_path, {"size": [1, 2]})
    with pytest.raises(SystemExit, match="give another --out"):
        harness.settings_match(tmp_path, {"size": [2, 2]})


def test_the_table_divides_the_peers_time() -> None:
    publishing = load("_publishing")
    times = {"ms_min": 1.0, "ms_max": 9.0, "batch": 2, "prepare_s": 3.0, "peak_gib": 1.25}
    results = [
        {"case": "train:m:peer", "ms": 8.0, **times},
        {"case": "train:m:own-graphs", "ms": 4.0, "kernels": 7, **times},
        {"case": "train:m:bad", "error": "E"},
    ]
    assert publishing.table_beside(results, {"x peer": "peer"}, ("kernels",)).splitlines() == [
        "| case | ms (min-max) | img/s | x peer | peak GiB | kernels | prepare s |",
        "|---|---|---|---|---|---|---|",
        "| train:m:peer | 8.00 (1.00-9.00) | 250.0 | 1.00 | 1.2 |  | 3 |",
        "| train:m:own-graphs | 4.00 (1.00-9.00) | 500.0 | 2.00 |  | 7 | 3 |",
        "| train:m:bad | failed | | | | | |",
    ]


class Turn:
    """A job of neck_speed.py that takes so many seconds a turn on a clock of the test's."""

    def __init__(self, stem: Path, clock: list[float], seconds: float) -> None:
        self.stem, self.clock, self.seconds, self.turns = stem, clock, seconds, 0

    def wait(self, suffix: str, deadline: float) -> None:
        assert self.stem.with_suffix(f".go{self.turns}").exists()
        assert suffix == f".done{self.turns}"
        self.turns += 1
        self.clock[0] += self.seconds


@pytest.mark.parametrize(
    ("seconds", "limit", "rounds", "reports"),
    [
        (0.1, 1e6, 3, 2),  # after each round but the last, which the driver reports itself
        (15.0, 1e6, 3, 8),  # five turns of 15 s: at 30 and 60 s of a round, and after the first two rounds
        (15.0, 200.0, 2, 5),  # no time for a third round and its profiles: the second is the last
    ],
)
def test_rounds_report_no_more_often_than_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, limit: float, rounds: int, reports: int
) -> None:
    neck_speed = load("neck_speed")
    clock, said = [1000.0], []
    monkeypatch.setattr(neck_speed.time, "time", lambda: clock[0])
    jobs = [Turn(tmp_path / f"job{i}", clock, seconds) for i in range(5)]
    neck_speed.take_rounds(jobs, argparse.Namespace(repeats=3), 1000.0 + limit, lambda: said.append(clock[0]))
    assert [job.turns for job in jobs] == [rounds] * 5
    assert len(said) == reports
    assert all((tmp_path / f"job{i}.last").exists() for i in range(5))


def test_every_script_tells_its_flags() -> None:
    for name in ("detection", "bifpn", "throughput", "neck_speed"):
        command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--help"]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert "--limit" in told
        assert "--after" in told
