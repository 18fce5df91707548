# SPDX-License-Identifier: Apache-2.0
"""A copy of a network that only predicts, with everything done once that can be done once."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from network.heads.ocr import OCRHead
from network.heads.ocr_tiled import TiledOCR
from network.ops.onednn import prefer_onednn
from network.ops.part import Part
from network.outputs import PRED

PROBE_SIZE = 64  # pixels; side of the image that is sent through to see who feeds whom


def _probe(net: nn.Module) -> Tensor:
    """A small fixed image on the device and in the number format of `net`."""
    parameter = next(net.parameters())
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, PROBE_SIZE, PROBE_SIZE, generator=generator)
    return image.to(parameter.device, parameter.dtype)


def _is_plain_conv(module: nn.Module) -> bool:
    """Whether this is a convolution whose weights are used as they are.

    Those of other libraries may standardise them first, as their batch norms may end in an
    activation.
    """
    own = type(module).__module__.startswith(("torch.", f"{__package__}."))
    return own and isinstance(module, nn.Conv2d)


def _conv_bn_pairs(net: nn.Module, probe: Tensor) -> dict[str, str]:
    """Names of batch norms, each with the convolution whose output it always gets."""
    names = {module: name for name, module in net.named_modules()}
    sources: dict[int, tuple[Tensor, nn.Module]] = {}
    feeders: dict[str, set[str]] = {}

    def saw_conv(module: nn.Module, _: object, output: Tensor) -> None:
        sources[id(output)] = (output, module)

    def saw_norm(module: nn.Module, inputs: tuple[Tensor, ...], _: object) -> None:
        _, conv = sources.get(id(inputs[0]), (None, None))
        feeders.setdefault(names[module], set()).add("" if conv is None else names[conv])

    hooks = [m.register_forward_hook(saw_conv) for m in names if _is_plain_conv(m)]
    hooks += [m.register_forward_hook(saw_norm) for m in names if type(m) is nn.BatchNorm2d]
    try:
        net(probe)
    finally:
        for hook in hooks:
            hook.remove()
    pairs = {norm: convs.pop() for norm, convs in feeders.items() if len(convs) == 1}
    return {norm: conv for norm, conv in pairs.items() if conv}


def fold_batch_norms(net: nn.Module, probe: Tensor) -> int:
    """Put each batch norm into the convolution before it, in place; returns their number.

    `net` must be in eval mode. Which convolution feeds which norm is seen while the image
    `probe` passes through, so the order of attributes does not matter.
    """
    pairs = _conv_bn_pairs(net, probe)
    for norm_name, conv_name in pairs.items():
        conv, norm = net.get_submodule(conv_name), net.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        net.set_submodule(conv_name, fuse_conv_bn_eval(conv, norm))
        net.set_submodule(norm_name, nn.Identity())
    return len(pairs)


def _replace_heads(net: nn.Module) -> None:
    """Heads for which there is a form that needs less time and memory on the CPU, in place."""
    for name, module in list(net.named_modules()):
        if isinstance(module, OCRHead):
            net.set_submodule(name, TiledOCR(module))


def _shorten(net: nn.Module) -> None:
    """Put the parts of `net` into their inference form, in place."""
    for name, part in list(net.named_modules()):
        form = part.inference_form() if isinstance(part, Part) else part
        if form is not part:
            net.set_submodule(name, form)


def _assert_same(want: Tensor, got: Tensor) -> None:
    """Guards against a network whose layers are not used the way the folding takes for granted."""
    error = float((got - want).abs().max()) / max(float(want.abs().max()), 1e-6)
    noise = 1e-3 if want.dtype in (torch.float32, torch.float64) else 0.1
    assert not error > noise, f"the prepared network answers differently, by {error:.1e}"


@torch.no_grad()
def prepare_for_inference(net: nn.Module) -> nn.Module:
    """A copy of `net` in eval mode that gives the same outputs faster, to float noise.

    Batch norms go into the convolutions, memory is channels_last. The copy cannot be trained
    and its state dict is no longer that of the arch; `net` itself stays as it is.
    """
    prepared = copy.deepcopy(net).eval().requires_grad_(False)
    probe = _probe(prepared)
    want = prepared(probe)[PRED]
    _shorten(prepared)
    fold_batch_norms(prepared, probe)
    prepared = prepared.to(memory_format=torch.channels_last)
    weight = next(prepared.parameters())
    if weight.device.type == "cpu" and weight.dtype == torch.float32:
        _replace_heads(prepared)
        prefer_onednn(prepared)
    _assert_same(want, prepared(probe)[PRED])
    return prepared


def compiled(net: nn.Module, backend: str = "inductor") -> nn.Module:
    """`net`, compiled in place by torch at its first call; parts marked `is_eager` run as written.

    They are wrapped here and not where they are defined, since that alone loads the compiler,
    a second at every start of a program.
    """
    for module in net.modules():
        if isinstance(module, Part) and module.is_eager:
            vars(module)["forward"] = torch.compiler.disable(module.forward)
    net.compile(backend=backend)
    return net
