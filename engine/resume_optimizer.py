# SPDX-License-Identifier: Apache-2.0
"""The weights and the optimiser state of a checkpoint: checking that they fit, and loading them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from engine.optim import SCALARS, arrange_moments
from engine.radam import RAdam
from engine.whole import WHOLE, Whole

# What an optimiser keeps for each parameter and needs.
KEPT: dict[type, tuple[str, ...]] = {
    torch.optim.SGD: (),
    torch.optim.Adam: ("step", "exp_avg", "exp_avg_sq"),
    torch.optim.AdamW: ("step", "exp_avg", "exp_avg_sq"),
    RAdam: ("step", "exp_avg", "exp_avg_sq"),
}
OTHERS_TRAINED = (
    "other parameters are trained than in the run that wrote the file; give "
    "--aux_weight (0 or not) and --train_only as there, or use --snapshot alone"
)


def check_fits(own: Mapping[str, Tensor], saved: Mapping[str, Tensor], entry: str) -> None:
    """ValueError for the first weight of a file that is missing, unknown or of another shape."""
    for name, value in own.items():
        if name not in saved:
            raise ValueError(f"--resume: {entry} of the file lacks {name}")
        if saved[name].shape != value.shape:
            raise ValueError(
                f"--resume: {entry}.{name} of the file is {tuple(saved[name].shape)}, the network "
                f"has {tuple(value.shape)}"
            )
    for name in saved:
        if name not in own:
            raise ValueError(f"--resume: {entry}.{name} of the file is not a weight of the network")


def check_optimizer(
    optimizer: torch.optim.Optimizer, saved: Mapping[str, Any], flag: str = "--resume"
) -> None:
    """ValueError unless the state in a file, which `flag` wants, belongs to such an optimiser over
    such parameters.
    """
    groups = optimizer.param_groups
    sizes = [len(group["params"]) for group in groups]
    if sizes != [len(group["params"]) for group in saved["param_groups"]]:
        raise ValueError(f"{flag}: {OTHERS_TRAINED}")
    numbers = [number for group in saved["param_groups"] for number in group["params"]]
    parameters = [parameter for group in groups for parameter in group["params"]]
    for number, parameter in zip(numbers, parameters, strict=True):
        state = saved["state"].get(number)
        if state is None:
            continue
        for name in KEPT.get(type(optimizer), ()):
            if state.get(name) is None:
                raise ValueError(f"{flag}: entry optimizer.state.{number}.{name} is missing")
        for name, value in state.items():
            is_tensor = isinstance(value, Tensor)
            shape = tuple(value.shape) if is_tensor else ()
            if name in SCALARS:
                if is_tensor and value.numel() != 1:
                    raise ValueError(
                        f"{flag}: entry optimizer.state.{number}.{name} is {shape}, one number "
                        "wanted"
                    )
            elif value is not None and shape != tuple(parameter.shape):
                raise ValueError(
                    f"{flag}: entry optimizer.state.{number}.{name} is {shape}, its weight "
                    f"{tuple(parameter.shape)}"
                )


def load_optimizer(
    optimizer: torch.optim.Optimizer, saved: Mapping[str, Any], holding: Whole = WHOLE
) -> None:
    """The state of a file under the settings of this run, group by group.

    Rates, decays and the like are those of `optimizer`, whose groups follow from the flags; the
    current rate stays that of the file until the schedule sets it at the next step.
    """
    own = [
        {name: value for name, value in group.items() if name not in ("params", "lr")}
        for group in optimizer.param_groups
    ]
    saved = holding.optimizer_state(optimizer, saved)
    groups = [
        {**group, **settings} for group, settings in zip(saved["param_groups"], own, strict=False)
    ]  # torch refuses other numbers of groups
    optimizer.load_state_dict({**saved, "param_groups": groups})
    arrange_moments(optimizer)
