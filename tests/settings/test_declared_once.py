# SPDX-License-Identifier: Apache-2.0
"""A setting has one home: its field says everything, and nothing else knows its own truth."""

from __future__ import annotations

import ast
import collections
import dataclasses
import re
from typing import Any

from settings import Settings, build_parser, catalogue
from settings.catalogue import Setting, groups
from settings.declare import METADATA, Declaration
from settings.published import WITHOUT_EFFECT
from tests.program import ROOT
from tests.settings.syntax import functions, parameters, trees

PARSER = "settings/parser.py"  # the one place where argparse hands its Namespace over
UNPICKLED = "network/convert/checkpoint.py"  # in the list of what a published file may hold
BARE = {"given", "notes", "ASSETS_PATH"}  # of `Settings`, no groups: found while reading, or a root


def fields() -> list[tuple[str, dataclasses.Field[Any]]]:
    return [(group, item) for group, cls in groups().items() for item in dataclasses.fields(cls)]


def test_every_field_of_every_group_says_what_it_is() -> None:
    assert len(fields()) > 250
    for group, item in fields():
        declared = item.metadata.get(METADATA)
        assert isinstance(declared, Declaration), f"{group}.{item.name} is declared by setting()"
        assert declared.help.strip(), f"{group}.{item.name} has no help"


def test_settings_are_groups_and_what_reading_them_found() -> None:
    names = {item.name for item in dataclasses.fields(Settings)}
    assert names - set(groups()) == BARE


def holds_numbers(setting: Setting) -> bool:
    return re.search(r"\b(int|float)\b", str(setting.kind)) is not None


def test_every_number_has_bounds() -> None:
    """Or a converter of its own, whose bounds are tested with those of the flags."""
    numbers = [each for each in catalogue().values() if holds_numbers(each)]
    assert len(numbers) > 100
    for each in numbers:
        bounds, parse = each.declared.bounds, each.declared.parse
        assert bounds is not None or parse is not None, each.name
        assert bounds is None or bounds.low < bounds.high, each.name


def test_every_default_is_a_value_that_could_be_typed() -> None:
    for each in catalogue().values():
        bounds, choices = each.declared.bounds, each.declared.choices
        parts = each.default if isinstance(each.default, tuple) else (each.default,)
        if bounds is not None and each.default is not None:
            for part in parts:
                assert bounds.low <= part <= bounds.high, each.name  # type: ignore[operator]
        if choices and each.default is not None:
            assert each.default in choices, each.name


def test_every_flag_belongs_to_one_setting() -> None:
    spellings = [flag for each in catalogue().values() for flag in each.declared.flags]
    spellings += [f"--{name}" for name in WITHOUT_EFFECT]
    assert [flag for flag, count in collections.Counter(spellings).items() if count > 1] == []
    parser = {option for action in build_parser()._actions for option in action.option_strings}
    assert parser == {*spellings, "--help", "-h"}


def test_the_page_of_flags_names_them_all() -> None:
    page = (ROOT / "docs" / "flags.md").read_text(encoding="utf-8")
    rows = {line.split("|")[1] for line in page.splitlines() if line.startswith("| `")}
    named = {name for cell in rows for name in re.findall(r"`([^`]+)`", cell)}
    for each in catalogue().values():
        assert set(each.declared.flags) <= named, each.name
        assert not each.key or each.key in named
    assert {f"--{name}" for name in WITHOUT_EFFECT} <= named


def test_what_a_setting_excludes_is_a_flag() -> None:
    for each in catalogue().values():
        assert set(each.declared.excludes) <= set(catalogue()), each.name


def test_the_search_reads_all_code() -> None:
    packages = {path.split("/")[0] for path in trees() if "/" in path}
    assert {"settings", "assembly", "engine", "network", "tools", "scripts"} <= packages
    assert {"train.py", "eval.py", "config.py", PARSER} <= set(trees())


def names_in(annotation: ast.expr | None) -> set[str]:
    """The last parts of all names in an annotation, quoted ones too."""
    if annotation is None:
        return set()
    found: set[str] = set()
    for node in ast.walk(annotation):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= set(re.findall(r"\w+", node.value))
    return found


def test_no_namespace_is_handed_on_outside_the_parser() -> None:
    taking = {
        path
        for path, function in functions()
        for annotation in (*(each.annotation for each in parameters(function)), function.returns)
        if "Namespace" in names_in(annotation)
    }
    assert taking == {PARSER}


def test_no_other_code_even_names_a_namespace() -> None:
    naming = {
        path
        for path, tree in trees().items()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and node.attr == "Namespace")
        or (isinstance(node, ast.Name) and node.id == "Namespace")
        or (isinstance(node, ast.alias) and node.name == "Namespace")
    }
    assert naming == {PARSER, UNPICKLED}


def test_the_search_for_namespaces_finds_one() -> None:
    code = "def f(told: 'list[argparse.Namespace] | None' = None) -> Namespace: ..."
    (function,) = ast.parse(code).body
    assert isinstance(function, ast.FunctionDef)
    assert "Namespace" in names_in(parameters(function)[0].annotation)
    assert "Namespace" in names_in(function.returns)
