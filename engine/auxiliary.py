# SPDX-License-Identifier: Apache-2.0
"""Whether a network has an auxiliary loss, and which weights only that loss trains.

A network says so itself: `auxiliary_parts = ("scorer",)`, () for none, see `network/contract.py`.
Any other network is judged by its outputs: its training forward is traced without data or
arithmetic, and a weight that only `aux` depends on is trained by the auxiliary loss only.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call

from network.contract import Network
from network.outputs import AUX
from runtime.errors import UserError

PROBE = (2, 3, 1024, 1024)  # a batch of images that is large enough for every network


def freeze_auxiliary(net: nn.Module) -> None:
    """Freeze the weights that only the auxiliary loss trains, in place.

    Without that loss they would have no gradient, for which DistributedDataParallel waits in vain.
    """
    for name in auxiliary_weights(net) or ():
        net.get_parameter(name).requires_grad_(False)


def has_auxiliary(net: nn.Module) -> bool:
    """Whether the outputs of `net` contain scores for an auxiliary loss."""
    return auxiliary_weights(net) is not None


def auxiliary_weights(net: nn.Module) -> list[str] | None:
    """Names of the parameters that only `aux` depends on; None without such an output.

    Raises UserError if the training forward of `net` cannot be traced and it declares nothing.
    """
    for name, module in net.named_modules():
        if isinstance(module, Network) and module.auxiliary_parts is not None:
            gives_aux, parts = module.gives_aux, module.auxiliary_parts
            if not (bool(parts) if gives_aux is None else gives_aux):
                return None
            prefixes = tuple(f"{name}.{part}.".lstrip(".") for part in parts)
            return [each for each, _ in net.named_parameters() if each.startswith(prefixes)]
    try:
        reached = _reached(net)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()
        raise UserError(
            f"--aux_weight: the training forward of this network cannot be traced without data "
            f"({reason[0] if reason else type(error).__name__}); name its auxiliary parts in the "
            "network, auxiliary_parts = (...), () for none"
        ) from error
    if AUX not in reached:
        return None
    others = set().union(*(names for key, names in reached.items() if key != AUX))
    return [name for name, _ in net.named_parameters() if name in reached[AUX] - others]


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
