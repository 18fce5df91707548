# SPDX-License-Identifier: Apache-2.0
"""Sees for which operations the host would have to wait for a GPU, without having one."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

INDEXING = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")
COPIES = ("aten::_to_copy", "aten::copy_")
CHECKS = ("aten::_linalg_check_errors",)
TO_HOST = (Tensor.tolist, Tensor.numpy, Tensor.cpu)
CONSTANTS = (torch.tensor, torch.as_tensor, torch.asarray, Tensor.new_tensor)
TAGS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


@contextlib.contextmanager
def watched() -> Iterator[list[str]]:
    """Inside, the list collects the operations that a host waits for, and where they stand.

    Those are: values that reach Python, results whose size depends on values, selections by a mask,
    checks of errors, copies between devices that do not go on by themselves, and constants that
    are made on the host for a device: the last two show on the "meta" device alone.
    """
    found: list[str] = []
    with _Operations(found), _Calls(found):
        yield found


def _place() -> str:
    """Where the innermost line outside of torch and of this file stands."""
    frames = [
        each
        for each in traceback.extract_stack()
        if "/torch/" not in each.filename and each.filename != __file__
    ]
    return f"{frames[-1].filename}:{frames[-1].lineno}"


class _Calls(TorchFunctionMode):
    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in TO_HOST or (func in CONSTANTS and result.device.type != "cpu"):
            self.found.append(f"{func.__name__} in {_place()}")
        return result


class _Operations(TorchDispatchMode):
    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if waits(func, args, kwargs):
            self.found.append(f"{func} in {_place()}")
        return func(*args, **kwargs)


def waits(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a host waits for this operation."""
    name = func._schema.name
    if name in INDEXING:
        indices = [each for each in args[1] if each is not None]
        return any(each.dtype in (torch.bool, torch.uint8) for each in indices)
    if name in COPIES:
        return _crosses(name, args, kwargs)
    return name in CHECKS or bool(TAGS & set(func.tags))


def _crosses(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a copy goes to another device and the host stays until it is done."""
    if name == "aten::copy_":
        target, source = args[0].device, args[1].device
        goes_on = args[2] if len(args) > 2 else kwargs.get("non_blocking", False)
    else:
        source = args[0].device
        target = torch.device(kwargs.get("device") or source)
        goes_on = kwargs.get("non_blocking", False)
    return source.type != target.type and not goes_on


def through(values: Any) -> Tensor:
    """Every output of a network in one number, whose gradient reaches all of them."""
    return sum(value.float().sum() for value in values.values())
