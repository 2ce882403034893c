"""Blocks on the command line: --neck spp+pan, --backbone.block=cbam, their help and their mistakes."""

from __future__ import annotations

import json

import pytest
from cli.commands import Command

from torso.parts import names


@pytest.mark.parametrize(
    ("flags", "stage", "said"),
    [
        (["--neck=spp+fpn", "--neck.0.strides=32", "--neck.0.block.channels=24"], "neck.0", "part(SPP, channels=24)"),
        (["--backbone.block=rfb_s", "--backbone.block_strides=16,32"], "backbone", "block_strides=(16, 32)"),
    ],
)
def test_one_flag_puts_a_block_in(torso: Command, flags: list[str], stage: str, said: str) -> None:
    done = torso("show", "fcos", "--backbone=test_resnet", "--size", 64, 64, "--json", *flags)
    assert done.code == 0, done.err
    stages = {s["stage"]: s["part"] for s in json.loads(done.out)["stages"]}
    assert said in stages[stage]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--neck=spq+pan"], "--neck: no neck is called 'spq'; did you mean 'spp'"),
        (["--backbone.block=cbma"], "--backbone.block: no block is called 'cbma'; did you mean 'cbam'"),
        (["--backbone.block=cbam", "--backbone.block_strides=64"], "cannot put CBAM at stride 64"),
    ],
)
def test_the_command_line_refuses(torso: Command, flags: list[str], said: str) -> None:
    done = torso("show", "fcos", "--backbone=test_resnet", *flags)
    assert done.code == 2
    assert said in done.sentence


def test_help_names_the_blocks(torso: Command) -> None:
    page = " ".join(torso("show", "--help").out.split())
    assert all(name in page for name in names("blocks"))
    assert "--backbone.block=cbam" in page
