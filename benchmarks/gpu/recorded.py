# SPDX-License-Identifier: Apache-2.0
"""The recorded numbers of the published networks, computed on another device."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

from benchmarks.gpu.bench import Clock, Row
from runtime.precision import choose_precision
from tests.parity.core import find_check, judge
from tests.parity.fixture import CannotRun, Fixture, fixture_names, load_fixture

SECTION = "recorded"
FOLDER = Path(__file__).resolve().parents[2] / "tests" / "parity" / "fixtures"
NETWORKS = "_networks"  # end of the modules whose checks send images through networks


def _moved(value: Any, device: torch.device) -> Any:
    """Tensors of arguments and results on a device, in the containers that they come in."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: _moved(each, device) for key, each in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_moved(each, device) for each in value))
    if isinstance(value, list | tuple):
        return type(value)(_moved(each, device) for each in value)
    return value


@contextlib.contextmanager
def computed_on(device: torch.device) -> Iterator[None]:
    """Inside, modules that are called with tensors of the CPU compute on `device`.

    Results come back to the CPU; the modules stay on the device.
    """
    depth, back = 0, torch.device("cpu")

    def enter(module: nn.Module, inputs: tuple[Any, ...]) -> Any:
        nonlocal depth
        depth += 1
        if depth > 1:
            return None
        module.to(device)
        return _moved(inputs, device)

    def leave(module: nn.Module, inputs: object, output: Any) -> Any:
        nonlocal depth
        depth -= 1
        return None if depth else _moved(output, back)

    hooks = [
        register_module_forward_pre_hook(enter),
        register_module_forward_hook(leave, always_call=True),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def networks(folder: Path = FOLDER) -> Iterator[Fixture]:
    """The fixtures below `folder` that are answers of networks."""
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        for name in fixture_names(place):
            try:
                fixture = load_fixture(place / f"{name}.json")
                module = find_check(fixture).run.__module__
            except CannotRun:
                continue
            if module.endswith(NETWORKS):
                yield fixture


def measure(device: torch.device, clock: Clock) -> Iterator[Row]:
    """A row for each fixture: the largest share of its tolerance that was used, in fp32."""
    precision, _ = choose_precision("fp32", device)
    for fixture in networks():
        if clock.is_up:
            yield Row(section=SECTION, name=fixture.name, problem="not run: the time was up")
            continue
        with precision.borrowed(), computed_on(device):
            verdict = judge(fixture)
        if verdict.word != "PASS":
            problem = f"{verdict.word}: {verdict.reasons()[0]}"
            yield Row(section=SECTION, name=fixture.name, problem=problem, is_wrong=True)
            continue
        values = {"rows": len(verdict.rows), "share of tolerance": verdict.worst.share}
        yield Row(section=SECTION, name=fixture.name, values=values)
