"""NAS-FPN beside mmdetection's: the same graph and cells, its gate by an option."""

from __future__ import annotations

from mmdet_peer import assert_equal, copy_weights, difference, randomise

# the stand-ins for compiled operations must be there before mmdet is imported
# isort: split
import pytest
import torch
from mmdet.models.necks import NASFPN as PeerNASFPN
from torch import Tensor, nn

from torso.necks.nas_fpn import NASFPN
from torso.types import FeatureSpec

CHANNELS = (16, 24, 32)
WIDTH = 16
LEVELS = [FeatureSpec(WIDTH, (s, s)) for s in (8, 16, 32, 64, 128)]
# mmdetection's names of the cells in the order of ours; P5 and P7 take their level up in a sum cell of their own
CELLS = ("gp_64_4", "sum_44_4", "sum_43_3", "sum_34_4", "sum_55_5", "sum_77_7", "gp_75_6")


def pair(stacks: int, training: bool, gate: str) -> tuple[nn.Module, NASFPN]:
    norm = {"type": "BN", "eps": 1e-3, "momentum": 0.01}
    peer = PeerNASFPN(list(CHANNELS), WIDTH, 5, stack_times=stacks, norm_cfg=norm).double()
    ours = NASFPN(LEVELS, channels=WIDTH, repeats=stacks, gate=gate).double()  # type: ignore[arg-type]
    randomise(peer)
    keys = [(rf"^fpn_stages\.(\d+)\.{name}\.out_conv\.", rf"stacks.\1.cells.{i}.") for i, name in enumerate(CELLS)]
    # the 1x1 convolutions that it has before the stacks, and before each pooling where the authors have none
    stages = nn.ModuleDict({"fpn_stages": peer.fpn_stages})
    copy_weights(stages, ours, [*keys, (r"\.bn\.", ".norm.")])
    return peer.train(training), ours.train(training)


def maps_before_the_stacks(peer: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    g = torch.Generator().manual_seed(3)
    sides = zip(CHANNELS, (8, 16, 32), strict=True)
    c = [torch.randn(2, n, 256 // s, 384 // s, generator=g, dtype=torch.float64) for n, s in sides]
    p = [conv(x) for conv, x in zip(peer.lateral_convs, c, strict=True)]
    for extra in peer.extra_downsamples:
        p.append(extra(p[-1]))
    return c, [x.detach() for x in p]


@pytest.mark.parametrize("training", [False, True])
def test_with_its_gate_every_level_is_equal(training: bool) -> None:
    peer, ours = pair(3, training, "avg_from_finer")
    peer.lateral_convs.eval(), peer.extra_downsamples.eval()  # run twice: their statistics must not move between
    c, p = maps_before_the_stacks(peer)
    with torch.no_grad():
        for i, (mine, theirs) in enumerate(zip(ours(p), peer(c), strict=True)):
            assert_equal(f"nas_fpn avg_from_finer, train={training}, P{i + 3}", mine, theirs)


def test_without_gates_the_two_are_one_and_with_the_authors_gate_they_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both gates held open: the graph and the sums are the same, so what differs otherwise is the gate."""
    peer, ours = pair(2, False, "max_from_coarser")
    c, p = maps_before_the_stacks(peer)
    with torch.no_grad():
        assert difference(ours(p)[0], peer(c)[0]) > 1e-3
        monkeypatch.setattr("torso.necks.nas_fpn.gated", lambda finer, coarser, gate: finer + coarser)
        monkeypatch.setattr("mmcv.ops.merge_cells.GlobalPoolingCell._binary_op", lambda self, x1, x2: x1 + x2)
        for i, (mine, theirs) in enumerate(zip(ours(p), peer(c), strict=True)):
            assert_equal(f"nas_fpn graph and sums, P{i + 3}", mine, theirs)


def test_parameters_of_a_stack() -> None:
    sizes = []
    for stacks in (1, 2):
        with torch.device("meta"):
            peer = PeerNASFPN([512, 1024, 2048], 256, 5, stack_times=stacks, norm_cfg={"type": "BN"})
            ours = NASFPN([FeatureSpec(256, (s, s)) for s in (8, 16, 32, 64, 128)], repeats=stacks)
        sizes.append((sum(p.numel() for p in peer.fpn_stages.parameters()), sum(p.numel() for p in ours.parameters())))
    assert sizes == [(n * 4_134_144,) * 2 for n in (1, 2)]
