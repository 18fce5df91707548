# SPDX-License-Identifier: Apache-2.0
"""A function that needs more than eight values is given groups of those that belong together."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MOST = 8


def sources() -> list[str]:
    """Files of the program that git knows, tests aside."""
    command = ["git", "ls-files", "*.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [file for file in done.stdout.split() if not file.startswith("tests/")]


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Names of all parameters, without the object or the class itself."""
    own = function.args
    found = [each.arg for each in (*own.posonlyargs, *own.args, *own.kwonlyargs)]
    if found and found[0] in ("self", "cls"):
        found = found[1:]
    return found + [each.arg for each in (own.vararg, own.kwarg) if each is not None]


def long_signatures(text: str) -> set[str]:
    """Names of the functions of a file that take more than `MOST` values."""
    nodes = ast.walk(ast.parse(text))
    functions = [n for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {function.name for function in functions if len(parameters(function)) > MOST}


def test_no_function_takes_more_than_eight_values() -> None:
    files = sources()
    assert len(files) > 200
    found = {
        f"{file}:{name}"
        for file in files
        for name in long_signatures((ROOT / file).read_text(encoding="utf-8"))
    }
    assert not found


def test_every_kind_of_parameter_counts_but_the_object_itself() -> None:
    eight = "class A:\n def f(self, a, b, /, c, d, *e, g, h, **i): ...\n"
    assert long_signatures(eight) == set()
    assert long_signatures(eight.replace("a, b", "a, x, b")) == {"f"}
