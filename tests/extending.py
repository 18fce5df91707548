# SPDX-License-Identifier: Apache-2.0
"""Follow the recipes of a page of docs/ in a copy of the tree.

A recipe is a section; its fenced blocks say where they go, all paths from the root:

    ```python file=PATH               a new file
    ```python into=PATH table=NAME    a row of the table NAME, before its closing bracket
    ```python into=PATH class=NAME    more fields, after the last one of the class
    ```diff into=PATH                 lines that change; context and old lines stand there once
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

from tests.program import ROOT, environment

LEFT_OUT = {"assets", "build", "data", "logs", "paths.yml", "tests"}  # of the root
FENCE = re.compile(r"^```(\w+)((?: \w+=\S+)+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Block:
    """One fenced block: its language, what stands behind it (`file`, `into`, ...), its lines."""

    language: str
    facts: dict[str, str]
    text: str


def section(page: str, title: str) -> str:
    """The text below `## title`, up to the next heading of that level; AssertionError without."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, f"no section {title!r}"
    return found[1]


def blocks(text: str) -> list[Block]:
    """The blocks of `text` that say where they go."""
    found = []
    for language, where, body in FENCE.findall(text):
        facts = dict(fact.split("=", 1) for fact in where.split())
        found.append(Block(language=language, facts=facts, text=body))
    return found


def copy_tree(folder: Path) -> Path:
    """A copy of the code and of docs/ at `folder`, which must not exist, without caches."""

    def left_out(place: str, names: list[str]) -> set[str]:
        hidden = {name for name in names if name.startswith(".") or name == "__pycache__"}
        return hidden | LEFT_OUT.intersection(names) if Path(place) == ROOT else hidden

    return Path(shutil.copytree(ROOT, folder, ignore=left_out))


def follow(page: str, title: str, tree: Path) -> list[str]:
    """Do in `tree` what the section `title` says; the paths it touched, each once, in order."""
    touched = []
    for block in blocks(section(page, title)):
        path = tree / block.facts.get("file", block.facts.get("into", ""))
        if "file" in block.facts:
            assert not path.exists(), path
            path.write_text(block.text, encoding="utf-8")
        else:
            path.write_text(_changed(path.read_text(encoding="utf-8"), block), encoding="utf-8")
        touched.append(path.relative_to(tree).as_posix())
    return list(dict.fromkeys(touched))


def _changed(source: str, block: Block) -> str:
    if block.language == "diff":
        return patched(source, block.text)
    if "table" in block.facts:
        row = textwrap.dedent(block.text).strip().removesuffix(",")
        row = textwrap.indent(row, " " * 4) + ",\n"
        return with_lines(source, end_of_table(source, block.facts["table"]), row)
    return with_lines(source, end_of_fields(source, block.facts["class"]), block.text)


def with_lines(source: str, after: int, text: str) -> str:
    """`source` with `text` behind its first `after` lines."""
    lines = source.splitlines(keepends=True)
    return "".join([*lines[:after], text, *lines[after:]])


def end_of_table(source: str, name: str) -> int:
    """The number of lines up to the closing bracket, on a line of its own, of a table."""
    for node in ast.parse(source).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
        if any(isinstance(each, ast.Name) and each.id == name for each in targets):
            assert node.end_lineno is not None and node.end_lineno > node.lineno, name
            return node.end_lineno - 1
    raise AssertionError(f"no table {name}")


def end_of_fields(source: str, name: str) -> int:
    """The number of lines up to the end of the last field of a class."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            fields = [each for each in node.body if isinstance(each, ast.AnnAssign)]
            return fields[-1].end_lineno or 0
    raise AssertionError(f"no class {name}")


def patched(source: str, diff: str) -> str:
    """`source` after a diff without line numbers; AssertionError where it does not fit once."""
    lines = diff.splitlines()
    old = "".join(f"{line[1:]}\n" for line in lines if not line.startswith("+"))
    new = "".join(f"{line[1:]}\n" for line in lines if not line.startswith("-"))
    assert source.count(old) == 1, f"these lines stand there {source.count(old)} times:\n{old}"
    return source.replace(old, new)


def run_in(tree: Path, *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run Python with `arguments` in `tree` to its end; stdout and stderr as text."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=tree,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
