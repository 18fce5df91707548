# SPDX-License-Identifier: Apache-2.0
"""The syntax trees of all code outside tests/."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator

from tests.program import ROOT

IGNORED = {"tests", "logs", "data", "assets", "build", "shared"}  # of the root; hidden ones too

Function = ast.FunctionDef | ast.AsyncFunctionDef


@functools.cache
def trees() -> dict[str, ast.Module]:
    """Path from the root -> syntax tree."""
    files = sorted(ROOT.glob("*.py"))
    for folder in sorted(each for each in ROOT.iterdir() if each.is_dir()):
        if folder.name not in IGNORED and not folder.name.startswith("."):
            files += sorted(folder.rglob("*.py"))
    return {
        path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for path in files
    }


def functions() -> Iterator[tuple[str, Function]]:
    """Every function and method, with the file it stands in."""
    for path, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, Function):
                yield path, node


def parameters(function: Function) -> list[ast.arg]:
    """All of them, `*args` and `**kwargs` too."""
    given = function.args
    several = [each for each in (given.vararg, given.kwarg) if each is not None]
    return [*given.posonlyargs, *given.args, *given.kwonlyargs, *several]
