"""The graph of a neck, read off one run of the module on maps without data: operations as nodes, levels as columns.

`neck_svg.py` beside it makes the image.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from torso.types import FeatureSpec

Level = tuple[int, int]
"""A (y, x) stride."""

SIDE = 4096
"""Side of the image: a multiple of every stride, so that a map's size tells its level. Maps lie on meta: no cost."""

_JOINS = {"add": "+", "sub": "-", "mul": "×", "cat": "concat", "addcmul": "weighted +"}
_CHAINED = ("+", "weighted +")
"""Joins that say the same in one step or in several."""


class Node(NamedTuple):
    """One operation.

    kind: "input", "conv", "module" (several operations of one submodule), "join" (several maps become one), "resize"
    or "output"; sources: positions of earlier nodes.
    """

    label: str
    kind: str
    level: Level
    sources: tuple[int, ...]


class Graph(NamedTuple):
    """Nodes in an order in which sources come first; levels are the columns, fine to coarse."""

    nodes: tuple[Node, ...]
    levels: tuple[Level, ...]

    @property
    def edges(self) -> list[tuple[int, int]]:
        """(from, to), positions in nodes."""
        return [(s, i) for i, n in enumerate(self.nodes) for s in n.sources]


def neck_graph(neck: nn.Module, in_specs: Sequence[FeatureSpec]) -> Graph:
    """The graph of a neck that was built for those levels; the neck itself stays as it is.

    Norms, activations and views belong to the operation before them. A submodule that works on one level and gives one
    map is one node. Operations and inputs that lead to no output are left out.
    """
    neck = copy.deepcopy(neck).to("meta").eval()
    out_specs: Sequence[FeatureSpec] = neck.out_specs  # type: ignore[assignment]  # every neck has them
    levels = sorted({s.stride_yx for s in (*in_specs, *out_specs)}, key=lambda yx: (yx[0] * yx[1], yx))
    maps = [torch.empty(1, s.channels, SIDE // s.stride_yx[0], SIDE // s.stride_yx[1], device="meta") for s in in_specs]
    recorder = _Recorder(levels)
    for m, spec in zip(maps, in_specs, strict=True):
        recorder.record([m], Node(f"C{_octave(spec.stride_yx)}", "input", spec.stride_yx, ()))
    handles = _follow_calls(neck, recorder)
    with torch.no_grad(), recorder:
        outputs = neck(maps)
    for handle in handles:
        handle.remove()
    for m, spec in zip(outputs, out_specs, strict=True):
        source = recorder.maker[id(m)]
        # a level whose published stride is not its size's (SSD300's unpadded ends) stands where its spec says
        recorder.nodes[source] = recorder.nodes[source]._replace(level=spec.stride_yx)
        recorder.record([], Node(f"P{_octave(spec.stride_yx)}", "output", spec.stride_yx, (source,)))
    nodes = _reached(_summed(_folded(recorder.nodes, recorder.calls_of)))
    return Graph(nodes, tuple(level for level in levels if any(n.level == level for n in nodes)))


class _Recorder(TorchFunctionMode):
    """Sees every torch function that is called, and knows the node that made each map.

    calls_of: of each node the calls of submodules, outermost first, that it happened in: (number, module).
    """

    def __init__(self, levels: Sequence[Level]) -> None:
        super().__init__()
        self.levels = levels
        self.nodes: list[Node] = []
        self.calls_of: list[tuple[tuple[int, nn.Module], ...]] = []
        self.maker: dict[int, int] = {}
        self.open: list[tuple[int, nn.Module]] = []
        self.calls = 0
        self._kept: list[Tensor] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        made = list(_tensors(out))
        sources = list(dict.fromkeys(self.maker[id(t)] for t in _tensors([args, kwargs]) if id(t) in self.maker))
        if made and sources:
            node = self._node(getattr(func, "__name__", ""), args, kwargs, made[0], tuple(sources))
            self.record(made, node, sources[0])
        return out

    def record(self, made: Sequence[Tensor], node: Node | None, instead: int = 0) -> None:
        """These maps come from a new node, or without one from the node `instead`."""
        self._kept += made  # else a later tensor might get the id of a dead one
        self.maker.update((id(t), instead if node is None else len(self.nodes)) for t in made)
        if node is not None:
            self.nodes.append(node)
            self.calls_of.append(tuple(self.open))

    def _node(
        self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Tensor, sources: tuple[int, ...]
    ) -> Node | None:
        """What a call adds to the graph; None where it belongs to the operation before it."""
        level = self._level(out, sources[0])
        if name.startswith("conv"):
            return Node(_conv_label(name, args, kwargs), "conv", level, sources)
        if name == "interpolate":
            return Node("up", "resize", level, sources)
        if "pool" in name:
            return Node("mean pool" if "avg" in name else "max pool", "resize", level, sources)
        if len(sources) < 2:
            return None
        plain = name.strip("_").removeprefix("i").removeprefix("r")
        return Node(_JOINS.get(plain, plain), "join", level, sources)

    def _level(self, m: Tensor, source: int) -> Level:
        """The level of a map by its size, to the nearest doubling; what has no level's size stays with its source."""
        if m.dim() == 4 and min(m.shape[-2:]) > 0:
            near = tuple(2 ** round(math.log2(SIDE / length)) for length in m.shape[-2:])
            if near in self.levels:
                return near[0], near[1]
        return self.nodes[source].level


def _follow_calls(neck: nn.Module, recorder: _Recorder) -> list[RemovableHandle]:
    """Hooks that keep the recorder's list of open submodule calls."""

    def enter(module: nn.Module, args: Any) -> None:
        recorder.calls += 1
        recorder.open.append((recorder.calls, module))

    def leave(module: nn.Module, args: Any, out: Any) -> None:
        recorder.open.pop()

    below = [m for m in neck.modules() if m is not neck]
    return [m.register_forward_pre_hook(enter) for m in below] + [m.register_forward_hook(leave) for m in below]


def _folded(nodes: Sequence[Node], calls_of: Sequence[tuple[tuple[int, nn.Module], ...]]) -> list[Node]:
    """Every outermost submodule call on one level, with one map that leaves it, as one node in place of its parts."""
    inside: dict[int, list[int]] = {}
    for i, calls in enumerate(calls_of):
        for number, _ in calls:
            inside.setdefault(number, []).append(i)
    whole: dict[int, tuple[int, nn.Module]] = {}  # node -> the call that stands for it
    for i, calls in enumerate(calls_of):
        for number, module in calls:
            if _foldable(nodes, inside[number]):
                whole[i] = (number, module)
                break
    place: dict[int, int] = {}
    out: list[Node] = []
    for i, node in enumerate(nodes):
        group = inside[whole[i][0]] if i in whole else [i]
        if i != group[-1]:
            continue
        place.update((j, len(out)) for j in group)
        sources = dict.fromkeys(place[s] for j in group for s in nodes[j].sources if s not in group)
        if len(group) > 1:
            label = _module_label(whole[i][1], [nodes[j] for j in group])
            node = Node(label, "module", node.level, ())
        out.append(node._replace(sources=tuple(sources)))
    return out


def _foldable(nodes: Sequence[Node], group: Sequence[int]) -> bool:
    """Whether all of a call's nodes lie on one level and only the last one's map is read outside."""
    inner = set(group)
    read = {s for i, n in enumerate(nodes) if i not in inner for s in n.sources if s in inner}
    return len({nodes[i].level for i in group}) == 1 and read <= {group[-1]}


def _summed(nodes: Sequence[Node]) -> list[Node]:
    """Sums of sums as one: a + (b + c), where nobody else reads b + c. The inner ones then lead nowhere."""
    readers = [0] * len(nodes)
    for n in nodes:
        for s in n.sources:
            readers[s] += 1
    out: list[Node] = []
    for n in nodes:
        if n.label not in _CHAINED:
            out.append(n)
            continue
        inner = [out[s].sources if out[s][:3] == n[:3] and readers[s] == 1 else (s,) for s in n.sources]
        out.append(n._replace(sources=tuple(dict.fromkeys(s for sources in inner for s in sources))))
    return out


def _reached(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """The nodes from which an output is reached, renumbered."""
    used = {i for i, n in enumerate(nodes) if n.kind == "output"}
    for i in range(len(nodes) - 1, -1, -1):
        if i in used:
            used.update(nodes[i].sources)
    place = {old: new for new, old in enumerate(sorted(used))}
    return tuple(nodes[i]._replace(sources=tuple(place[s] for s in nodes[i].sources)) for i in sorted(used))


def _conv_label(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Kernel and stride of a convolution, as "3×3 /2"."""
    last = ("output_padding", "groups") if "transpose" in name else ("dilation", "groups")
    names = ("input", "weight", "bias", "stride", "padding", *last)
    call = {**dict(zip(names, args, strict=False)), **kwargs}
    height, width = call["weight"].shape[-2:]
    stride = call.get("stride", 1)
    sy, sx = (stride, stride) if isinstance(stride, int) else tuple(stride)
    depthwise = "dw " if 1 < call.get("groups", 1) == call["weight"].shape[0] else ""
    ratio = "" if sy == sx == 1 else f" /{sy}" if sy == sx else f" /{sy},{sx}"
    return f"{depthwise}{height}×{width}" + (ratio.replace("/", "×") if "transpose" in name else ratio)


def _module_label(module: nn.Module, parts: Iterable[Node]) -> str:
    """A submodule in words: its class, or how many convolutions it chains."""
    convs = sum(n.kind == "conv" for n in parts)
    if isinstance(module, nn.Sequential):
        return f"{convs} convs"
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", type(module).__name__.strip("_"))


def _octave(level: Level) -> str:
    """The level's number: 3 for stride 8, "3,4" for (8, 16); a stride that is no power of two itself, as " /100"."""
    y, x = (length.bit_length() - 1 for length in level)
    if (2**y, 2**x) != level:
        return f" /{level[0]}"
    return str(y) if y == x else f"{y},{x}"


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for v in value.values():
            yield from _tensors(v)
    elif isinstance(value, list | tuple):
        for v in value:
            yield from _tensors(v)
