"""The shell of the command line: help and mistakes are quick and import nothing heavy; exit codes mean one thing."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from torso.cli.main import VERBS, explain, main

HEAVY = ("torch", "torchvision", "timm", "pytorch_lightning", "pydantic", "numpy", "PIL")


def test_no_verb_prints_help_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: torso VERB" in capsys.readouterr().out


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(verb in out for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    assert f"usage: torso {verb}" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("torso 0")


def test_a_mistyped_verb_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    assert "did you mean 'train'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv",
    [
        ["--help"],
        ["--version"],
        ["trian"],
        ["parts"],
        ["parts", "heads.fcos", "--json"],
        ["train", "--help"],
        ["train", "fcoss", "--data", "."],
        ["train", "fcos", "--data", ".", "--epoch", "3"],
        ["train", "fcos", "--data", "/nowhere"],
        ["eval", "nothing.safetensors", "--data", "."],
        ["predict", "nothing.safetensors", ".", "--out", "x"],
        ["show", "--help"],
        ["doctor", "/nowhere"],
    ],
    ids=" ".join,
)
def test_it_imports_nothing_heavy(argv: list[str]) -> None:
    """In a process of its own: what it says, and that nothing slow was imported on the way."""
    code = (
        "import sys\n"
        "from torso.cli.main import main\n"
        f"main({argv!r})\n"
        f"print('imported', [m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "imported []"


def test_python_m_torso_returns_the_exit_code() -> None:
    done = subprocess.run([sys.executable, "-m", "torso", "parts", "fpnn"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "did you mean 'fpn'" in done.stderr


def test_a_closed_pipe_is_no_error() -> None:
    command = f"{sys.executable} -m torso parts | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ValueError("the file is odd"), 1, "torso doctor: the file is odd\n"),
        (FileNotFoundError(2, "No such file", "a.png"), 1, "torso doctor: [Errno 2] No such file: 'a.png'\n"),
        (ImportError("it needs a package"), 1, "torso doctor: it needs a package\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_errors_become_one_sentence(
    error: BaseException, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(args: object) -> int:
        raise error

    monkeypatch.setattr(importlib.import_module("torso.cli.doctor"), "run", fail)
    assert main(["doctor", "."]) == code
    assert capsys.readouterr().err == said


def test_our_own_mistakes_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(args: object) -> int:
        raise RuntimeError("a bug")

    monkeypatch.setattr(importlib.import_module("torso.cli.doctor"), "run", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["doctor", "."])


def test_debug_shows_the_traceback_of_a_users_mistake() -> None:
    with pytest.raises(ValueError, match="no verb"):
        main(["trian", "--debug"])


def test_out_of_memory_says_what_to_do() -> None:
    class OutOfMemoryError(RuntimeError):
        """As torch names it."""

    assert "--batch-size" in (explain(OutOfMemoryError("CUDA out of memory")) or "")
