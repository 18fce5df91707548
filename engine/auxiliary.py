# SPDX-License-Identifier: Apache-2.0
"""Whether a network has an auxiliary loss, and which weights only that loss trains.

Networks with published weights name these parts as the weight files do. Any other network is judged
by its outputs: its training forward is traced without data or arithmetic, and a weight that only
`aux` depends on is trained by the auxiliary loss only. A network whose forward cannot be traced
names such parts itself: `auxiliary_parts = ("scorer",)`, () for none.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call

from network.outputs import AUX
from runtime.errors import UserError

AUXILIARY_HEADS = ("auxiliary_head", "dsn")  # parts of networks, as published files call them
OCR_AUXILIARY = "aux_head"  # its scores also say where the regions are: never frozen
DECLARED = "auxiliary_parts"
PROBE = (2, 3, 1024, 1024)  # a batch of images that is large enough for every network


def freeze_auxiliary(net: nn.Module) -> None:
    """Freeze the weights that only the auxiliary loss trains, in place.

    Without that loss they would have no gradient, for which DistributedDataParallel waits in vain.
    """
    names = _names(net)
    if any(part in names for part in (*AUXILIARY_HEADS, OCR_AUXILIARY)):
        parts = [part for part in AUXILIARY_HEADS if part in names]
        for name in (name for part in parts for name in names[part]):
            net.get_submodule(name).requires_grad_(False)
        return
    for name in auxiliary_weights(net) or ():
        net.get_parameter(name).requires_grad_(False)


def has_auxiliary(net: nn.Module) -> bool:
    """Whether the outputs of `net` contain scores for an auxiliary loss."""
    names = _names(net)
    if any(part in names for part in (*AUXILIARY_HEADS, OCR_AUXILIARY)):
        return True
    return auxiliary_weights(net) is not None


def auxiliary_weights(net: nn.Module) -> list[str] | None:
    """Names of the parameters that only `aux` depends on; None without such an output.

    Raises UserError if the training forward of `net` cannot be traced and it declares nothing.
    """
    for name, module in net.named_modules():
        parts = getattr(module, DECLARED, None)
        if parts is not None:
            prefixes = tuple(f"{name}.{part}.".lstrip(".") for part in parts)
            found = [each for each, _ in net.named_parameters() if each.startswith(prefixes)]
            return found if parts else None
    try:
        reached = _reached(net)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()
        raise UserError(
            f"--aux_weight: the training forward of this network cannot be traced without data "
            f"({reason[0] if reason else type(error).__name__}); name its auxiliary parts in the "
            f"network, {DECLARED} = (...), () for none"
        ) from error
    if AUX not in reached:
        return None
    others = set().union(*(names for key, names in reached.items() if key != AUX))
    return [name for name, _ in net.named_parameters() if name in reached[AUX] - others]


def _names(net: nn.Module) -> dict[str, list[str]]:
    """The full names of all parts, by their last component."""
    names: dict[str, list[str]] = {}
    for name, _ in net.named_modules():
        names.setdefault(name.rpartition(".")[2], []).append(name)
    return names


def _reached(net: nn.Module) -> dict[str, set[str]]:
    """For each output of a training forward, the names of the parameters it depends on.

    Neither `net` nor the state of any random generator is changed.
    """
    modes = [(module, module.training) for module in net.modules()]
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    state: dict[str, Tensor] = {
        name: fake.from_tensor(value)
        for name, value in (*net.named_parameters(), *net.named_buffers())
    }
    names = {id(state[name]): name for name, _ in net.named_parameters()}
    try:
        with fake, torch.random.fork_rng(devices=()), torch.enable_grad():
            device = next(net.parameters()).device
            images = torch.empty(PROBE, device=device)
            outputs = functional_call(net.train(), state, (images,))
    finally:
        for module, training in modes:
            module.training = training
    return {key: _leaves(value, names) for key, value in outputs.items()}


def _leaves(output: Tensor, names: dict[int, str]) -> set[str]:
    """The names of the parameters in the graph behind `output`."""
    found: set[str] = set()
    seen: set[object] = set()
    nodes = [output.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)  # of a parameter; other nodes are operations
        if id(leaf) in names:
            found.add(names[id(leaf)])
        nodes += [following for following, _ in node.next_functions]
    return found
