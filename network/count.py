# SPDX-License-Identifier: Apache-2.0
"""Multiply-adds of one pass, by part of a network, without computing anything.

Two counts. `computed`: what the layers here really do, in convolutions, linear layers and matrix
products. `published`: the convention behind the numbers in the papers: convolutions (one more for
a bias), linear layers, ONE of the two products of attention, two for an element of a batch norm,
one for an element of a layer norm; and nothing for activations, resizing, pooling and sums. A
part that computes something other than the paper writes, but equal to it, says in
`Part.published_macs` what the paper's form would cost.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from network.ops.part import Part

__all__ = ["Macs", "count_macs"]

ELSEWHERE = ""  # the name for what no named part computes
aten = torch.ops.aten


@dataclass
class Macs:
    """Multiply-adds by both counts."""

    computed: int = 0
    published: int = 0

    def add(self, computed: int, published: int) -> None:
        """Add to both."""
        self.computed += computed
        self.published += published


Count = Callable[[tuple[Any, ...], Tensor], tuple[int, int]]


def _convolution(args: tuple[Any, ...], out: Tensor) -> tuple[int, int]:
    inputs, weight, bias, transposed = args[0], args[1], args[2], args[6]
    products = (inputs if transposed else out).numel() * weight[0].numel()
    return products, products + (0 if bias is None else out.numel())


def _linear(args: tuple[Any, ...], out: Tensor) -> tuple[int, int]:
    products = out.numel() * args[1].shape[-1]
    return products, products


def _mm(args: tuple[Any, ...], out: Tensor) -> tuple[int, int]:
    products = out.numel() * args[0].shape[-1]
    return products, products


def _addmm(args: tuple[Any, ...], out: Tensor) -> tuple[int, int]:
    return _mm(args[1:], out)


def _bmm(args: tuple[Any, ...], out: Tensor) -> tuple[int, int]:
    products = out.numel() * args[0].shape[-1]
    return products, products // 2  # two activations: half of attention


def _attention(args: tuple[Any, ...], out: Tensor) -> tuple[int, int]:
    query, key = args[0], args[1]
    scores = query.numel() * key.shape[-2]
    return scores + out.numel() * key.shape[-2], scores


def _batch_norm(args: tuple[Any, ...], out: Tensor) -> tuple[int, int]:
    return 0, 2 * args[0].numel()


def _layer_norm(args: tuple[Any, ...], out: Tensor) -> tuple[int, int]:
    return 0, args[0].numel()


COUNTS: Mapping[Any, Count] = {
    aten.convolution: _convolution,
    aten.linear: _linear,
    aten.mm: _mm,
    aten.addmm: _addmm,
    aten.bmm: _bmm,
    aten.scaled_dot_product_attention: _attention,
    aten.batch_norm: _batch_norm,
    aten.layer_norm: _layer_norm,
}


QUERIES = {
    aten.is_contiguous,
    aten.is_strides_like_format,
    aten.is_non_overlapping_and_dense,
    aten.size,
    aten.sym_size,
    aten.stride,
    aten.sym_stride,
    aten.storage_offset,
    aten.sym_storage_offset,
    aten.numel,
    aten.sym_numel,
    aten.dim,
}


class _Counter(TorchDispatchMode):
    """Books every operation under the part that is running."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs: dict[str, Macs] = defaultdict(Macs)
        self.parts: list[str] = [ELSEWHERE]
        self.declared: list[bool] = []  # of the parts that are running: counted by themselves?

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        count = COUNTS.get(func.overloadpacket)
        if count is None:
            result = self._inner(func, args, kwargs)
            return func(*args, **kwargs) if result is NotImplemented else result
        result = func(*args, **kwargs)
        computed, published = count(args, result)
        self.macs[self.parts[-1]].add(computed, 0 if any(self.declared) else published)
        return result

    def _inner(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The result by way of the operations that `func` consists of, if it does."""
        if func.namespace != "aten" or func.overloadpacket in QUERIES:
            return NotImplemented  # a question about a tensor, such as where it is
        with self:
            return func.decompose(*args, **kwargs)

    @contextmanager
    def watching(self, net: nn.Module, parts: Mapping[str, nn.Module]) -> Iterator[None]:
        """Inside, `parts` of `net` are known by their names."""
        handles = []
        for name, part in parts.items():
            handles += [
                part.register_forward_pre_hook(lambda *_, name=name: self.parts.append(name)),
                part.register_forward_hook(lambda *_: self._leave()),
            ]
        for module in net.modules():
            if isinstance(module, Part):
                handles += [
                    module.register_forward_pre_hook(self._declare),
                    module.register_forward_hook(lambda *_: self._declared()),
                ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _leave(self) -> None:
        self.parts.pop()

    def _declare(self, module: Part, inputs: tuple[Any, ...]) -> None:
        macs = None if any(self.declared) else module.published_macs(*inputs)
        if macs is not None:
            self.macs[self.parts[-1]].add(0, macs)
        self.declared.append(macs is not None)

    def _declared(self) -> None:
        self.declared.pop()


def count_macs(
    net: nn.Module, size: tuple[int, int], parts: Mapping[str, nn.Module]
) -> dict[str, Macs]:
    """Of one image of `size` through `net` in eval mode: the counts of each of `parts`.

    What lies in no part is booked under an empty name. Weights are read for their shapes only,
    so any size is quick.
    """
    counter, was_training = _Counter(), net.training
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with fake, torch.inference_mode():
        images = torch.empty(1, 3, *size)
        with counter.watching(net.eval(), parts), counter:
            net(images)
    net.train(was_training)
    return {name: counter.macs[name] for name in (*parts, ELSEWHERE)}
