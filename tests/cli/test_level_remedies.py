"""Levels that do not go together: what the error says to type is typed, and it works."""

from __future__ import annotations

import pytest
from cli.commands import Command

# the command, and sets of flags that its refusal names word by word; each alone is the whole way
REMEDIES = (
    ("ssd300 --neck fpn", ("--neck.coarsest=256", "--head.priors.sizes none --head.priors.ratios none")),
    ("ssd512 --neck bifpn", ("--neck.coarsest=512",)),
    ("ssd300 --neck none", ("--head.priors.sizes none --head.priors.ratios none",)),
    ("ssd300 --neck matrix", ("--neck.band=0 --neck.coarsest=256",)),
    ("ssd300 --neck upsample", ("--neck fpn --neck.finest=8 --neck.coarsest=256",)),
    (
        "centernet_points --backbone spinenet_49",
        ("--neck.finest=16 --head.finest=16", "--neck.widths=256,256,256,128,64"),
    ),
    (
        "yolov4 --neck matrix",
        ("--neck.band=0", "--head.channels=512 --head.quality_prior=0.0055 --head.priors.sizes none"),
    ),
    ("yolov5s --neck matrix", ("--neck.band=0",)),
    (
        "yolov3 --neck fastestdet",
        (
            "--neck fpn --neck.finest=8 --neck.coarsest=32",
            "--head.finest=16 --head.channels=512 --head.quality_prior=0.0055 --head.priors.sizes none",
        ),
    ),
    ("yolov3 --backbone ssd_vgg --neck fpn --neck.coarsest=16", ("--neck.coarsest=32",)),
    ("retinanet --head yolov3", ("--head.coarsest=32",)),
    ("fcos --neck fastestdet", ("--head.finest=16",)),
    ("faster_rcnn --backbone spinenet_49", ("--neck.finest=8 --head.finest=8",)),
    ("faster_rcnn --head.finest=64 --neck.coarsest=128", ("--head.coarsest=128",)),
)


def changed(command: str, flags: str) -> list[str]:
    """The command with these flags, in the place of those of the same name."""
    names = {flag.partition("=")[0] for flag in flags.split() if flag.startswith("--")}
    return [word for word in command.split() if word.partition("=")[0] not in names] + flags.split()


@pytest.mark.parametrize(("command", "remedies"), REMEDIES, ids=[command for command, _ in REMEDIES])
def test_a_remedy_works_when_it_is_obeyed(torso: Command, command: str, remedies: tuple[str, ...]) -> None:
    refused = torso("show", *command.split())
    assert refused.code == 2
    for flags in remedies:
        assert flags in refused.sentence
        if flags.startswith("--neck fpn"):
            command = " ".join(command.split()[:1])
        done = torso("show", *changed(command, flags), "--yaml")
        assert done.code == 0, f"{flags}: {done.err}"


@pytest.mark.parametrize(
    ("command", "said", "flags"),
    [
        (
            "retinanet --backbone vgg16 --neck passthrough",
            "add --neck.coarsest=32 --head.finest=32",
            "--neck.coarsest=32 --head.finest=32",
        ),
        (
            "faster_rcnn --neck passthrough --neck.finest=16",
            "add --neck.coarsest=32 --head.finest=32",
            "--neck.coarsest=32 --head.finest=32",
        ),
        ("yolov4 --neck nas_fpn", "set coarsest=128", "--neck.coarsest=128"),
        ("yolov4 --neck.channels=64", "neck.1.channels", "--neck.1.channels=128"),
    ],
)
def test_a_remedy_in_words_works_too(torso: Command, command: str, said: str, flags: str) -> None:
    refused = torso("show", *command.split())
    assert refused.code == 2
    assert said in refused.sentence
    kept = [word for word in command.split() if not word.startswith("--neck.channels")]
    assert torso("show", *kept, *flags.split(), "--yaml").code == 0


@pytest.mark.parametrize("command", ["yolov5s --neck fpn", "yolov3 --neck bifpn", "yolov5s --neck csp_pan"])
def test_heads_with_values_a_level_behind_necks_that_give_as_many(torso: Command, command: str) -> None:
    assert torso("show", *command.split(), "--yaml").code == 0


@pytest.mark.parametrize(
    ("chain", "said"),
    [
        ("none+fpn", "'none' stands alone: no neck at all; say 'fpn'"),
        ("", "a name is empty; + stands between two names; say 'none'"),
        ("fpn+", "a name is empty; + stands between two names; say 'fpn'"),
        ("fpn++pan", "say 'fpn+pan'"),
    ],
)
def test_what_is_no_chain_of_necks(torso: Command, chain: str, said: str) -> None:
    refused = torso("show", "fcos", "--neck", chain)
    assert refused.code == 2
    assert said in refused.sentence
