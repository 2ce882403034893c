"""What every block promises of its map: its size, its published width, gradients everywhere, nothing changed."""

from __future__ import annotations

import pytest
import torch
from contract_cases import check_gradients, default, smallest

from torso.blocks._base import Block
from torso.parts import names

CHANNELS = 16
SIZES = [(9, 13), (1, 1), (6, 4)]


def block_of(name: str) -> Block:
    torch.manual_seed(0)
    made: Block = smallest(default("blocks", name)).build(CHANNELS)
    return made


@pytest.mark.parametrize("name", names("blocks"))
def test_block_keeps_sizes_answers_the_same_twice_and_changes_nothing(name: str) -> None:
    block = block_of(name).eval()
    for size in SIZES:
        x = torch.randn(2, CHANNELS, *size)
        before = x.clone()
        with torch.no_grad():
            first, second = block(x), block(x)
        assert first.shape == (2, block.out_channels, *size)
        assert first.isfinite().all()
        assert torch.equal(first, second)
        assert torch.equal(x, before)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("name", names("blocks"))
def test_block_learns_with_gradients_everywhere(name: str, batch: int) -> None:
    block = block_of(name)
    x = torch.randn(batch, CHANNELS, 7, 5, requires_grad=True)
    block(x).square().mean().backward()
    check_gradients(block)
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("name", names("blocks"))
def test_block_compiles_in_one_graph_and_is_exported_for_any_size(name: str) -> None:
    block, x = block_of(name).eval(), torch.randn(2, CHANNELS, 9, 12)
    torch.compiler.reset()
    with torch.no_grad():
        compiled = torch.compile(block, fullgraph=True, backend="aot_eager")(x)
        torch.testing.assert_close(compiled, block(x))
        sizes = ({2: torch.export.Dim("height", min=4, max=64), 3: torch.export.Dim("width", min=4, max=64)},)
        exported = torch.export.export(block, (x,), dynamic_shapes=sizes).module()
        other = torch.randn(2, CHANNELS, 7, 10)
        torch.testing.assert_close(exported(other), block(other))


@pytest.mark.parametrize("name", names("blocks"))
def test_training_compiles_in_one_graph(name: str) -> None:
    block, x = block_of(name), torch.randn(2, CHANNELS, 6, 8)
    torch.compiler.reset()
    torch.compile(block, fullgraph=True, backend="eager")(x).square().mean().backward()
    check_gradients(block)


@pytest.mark.parametrize("name", names("blocks"))
def test_no_block_shares_weights_with_another_one(name: str) -> None:
    first, second = block_of(name), block_of(name)
    assert not {id(p) for p in first.parameters()} & {id(p) for p in second.parameters()}
