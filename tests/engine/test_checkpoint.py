"""Checkpoints on the disk: whole at every moment, plain data, refused in one sentence."""

from __future__ import annotations

import os
import pickle

import pytest
import torch

from torso.engine.checkpoint_file import KEY, link_atomic, load_checkpoint, previous_of, save_atomic


def content(number):
    return {KEY: {"number": number}, "weights": torch.full((1000,), float(number))}


def test_what_was_saved_is_loaded_and_the_one_before_is_kept(tmp_path):
    path = tmp_path / "checkpoints" / "last.ckpt"
    for number in (1, 2, 3):
        save_atomic(content(number), path)
    assert load_checkpoint(path)[KEY] == {"number": 3}
    assert load_checkpoint(previous_of(path))[KEY] == {"number": 2}
    assert sorted(p.name for p in path.parent.iterdir()) == ["last.ckpt", "last.previous.ckpt"]


@pytest.mark.parametrize("where", ["save", "fsync", "replace"])
def test_a_crash_while_writing_leaves_the_old_checkpoint_whole(tmp_path, monkeypatch, where):
    path = tmp_path / "last.ckpt"
    save_atomic(content(1), path)

    def half(checkpoint, file):
        file.write(b"half")
        raise OSError("no space left")

    def broken(*args):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        if where == "save":
            patch.setattr(torch, "save", half)
        else:
            patch.setattr(os, where, broken)
        with pytest.raises(OSError, match="no space"):
            save_atomic(content(2), path)
    assert load_checkpoint(path)[KEY] == {"number": 1}
    assert not list(tmp_path.glob("*.tmp")) + list(tmp_path.glob(".*.tmp"))


def test_a_second_name_keeps_what_it_named(tmp_path):
    last, best = tmp_path / "last.ckpt", tmp_path / "best.ckpt"
    save_atomic(content(1), last)
    link_atomic(last, best)
    save_atomic(content(2), last)
    assert load_checkpoint(best)[KEY] == {"number": 1}


class Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/torso_was_here",)


def test_a_file_that_would_run_code_is_refused(tmp_path):
    path = tmp_path / "evil.ckpt"
    torch.save({KEY: Evil()}, path)
    with pytest.raises(ValueError, match=r"evil\.ckpt"):
        load_checkpoint(path)


@pytest.mark.parametrize("data", [b"", b"nonsense", pickle.dumps({"a": 1})])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, data):
    path = tmp_path / "last.ckpt"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"last\.ckpt: (cannot be read|not a checkpoint)"):
        load_checkpoint(path)


def test_a_cut_file_is_refused_and_the_one_before_is_named(tmp_path):
    path = tmp_path / "last.ckpt"
    save_atomic(content(1), path)
    save_atomic(content(2), path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(ValueError, match=r"take .*last\.previous\.ckpt"):
        load_checkpoint(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        load_checkpoint(tmp_path / "none.ckpt")
