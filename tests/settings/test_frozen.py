# SPDX-License-Identifier: Apache-2.0
"""Settings do not change once they are read, and a misspelt one is found before a program runs."""

from __future__ import annotations

import ast
import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from assembly.snapshot import Snapshot, adopted
from settings import Settings, read_settings, with_task
from settings.catalogue import groups
from tests.program import ROOT
from tests.settings.syntax import parameters, trees

GROUPS = tuple(groups())
TYPES = {"Settings", "ModelConfig", *(cls.__name__ for cls in groups().values())}


@pytest.mark.parametrize("group", GROUPS)
def test_no_field_of_a_group_can_be_assigned(group: str) -> None:
    part = getattr(read_settings([]), group)
    for item in dataclasses.fields(part):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, item.name, getattr(part, item.name))
        with pytest.raises(dataclasses.FrozenInstanceError):
            delattr(part, item.name)
    with pytest.raises(dataclasses.FrozenInstanceError):
        part.of_no_group = 1


def test_no_group_can_be_replaced_in_place() -> None:
    told = read_settings([])
    for item in dataclasses.fields(told):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(told, item.name, getattr(told, item.name))


def test_values_themselves_cannot_change() -> None:
    told = read_settings(["--n_scales", "0.5,1.0", "--set", "LOSS.CLASS_WEIGHTS=1,2"])
    hash(told)  # no list, dictionary or set anywhere below


@pytest.mark.parametrize("group", GROUPS)
def test_groups_take_keywords_alone(group: str) -> None:
    with pytest.raises(TypeError, match="positional"):
        groups()[group](1)


def is_settings(node: ast.expr, known: set[str]) -> bool:
    """Whether an expression is a settings object: a known name, or one below `.settings`."""
    if isinstance(node, ast.Name):
        return node.id in known
    if isinstance(node, ast.Attribute):
        return node.attr == "settings" or is_settings(node.value, known)
    return False


def writes(tree: ast.Module) -> list[int]:
    """Lines that assign or delete an attribute of a settings object."""
    known = {"settings", "told"}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for each in parameters(node):
                if each.annotation is not None and ast.unparse(each.annotation) in TYPES:
                    known.add(each.arg)
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=owner, ctx=ast.Store() | ast.Del()):
                changed = [owner]
            case ast.Call(func=function, args=changed) if "setattr" in ast.unparse(function):
                pass
            case _:
                continue
        found += [node.lineno for each in changed if is_settings(each, known)]
    return found


def test_nothing_writes_to_settings() -> None:
    found = {path: lines for path, tree in trees().items() if (lines := writes(tree))}
    assert found == {}


@pytest.mark.parametrize(
    "line",
    [
        "settings.inference.eval = 'val'",
        "self.settings.run.seed += 1",
        "model.hrnet_width: int = 4",
        "del settings.MODEL",
        "object.__setattr__(settings.run, 'seed', 1)",
        "setattr(settings, name, value)",
    ],
)
def test_the_search_for_writes_finds_one(line: str) -> None:
    assert writes(ast.parse(f"def f(self, model: ModelConfig) -> None:\n    {line}")) == [2]


PROGRAM = """\
from settings import Settings


def window(settings: Settings) -> object:
    return settings.inference.slide_crop


def misspelt(settings: Settings) -> object:
    return settings.inference.slide_crp


def misplaced(settings: Settings) -> object:
    return settings.slide_crop


def written(settings: Settings) -> None:
    settings.inference.slide_pad = True
"""


@pytest.mark.slow  # mypy without a cache
def test_a_misspelt_a_misplaced_and_a_written_setting_are_errors_of_types(tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    command = [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", "--strict"]
    result = subprocess.run(
        [*command, "--cache-dir", str(tmp_path / "cache"), str(path)], cwd=ROOT, check=False,
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert result.returncode == 1, result.stdout + result.stderr
    found = [each for each in result.stdout.splitlines() if ": error: " in each]
    assert len(found) == 3
    assert 'program.py:9: error: "InferenceSettings" has no attribute "slide_crp"' in found[0]
    assert 'program.py:13: error: "Settings" has no attribute "slide_crop"' in found[1]
    assert 'program.py:17: error: Property "slide_pad" defined in "Infer' in found[2]


FACTS = {
    "arch": "segformer.B0", "num_classes": 3, "dataset": "camvid",
    "model_options": {"drop_path": 0.2, "hila_stages": [2, 4]}, "positions": False,
}  # fmt: skip


def test_what_a_checkpoint_knows_gives_new_settings_and_leaves_the_old() -> None:
    told = read_settings(["--snapshot", "x.pth", "--eval", "val"])
    same = read_settings(["--snapshot", "x.pth", "--eval", "val"])
    now = adopted(told, Snapshot("x.pth", {}, FACTS))
    assert now is not told and now != told
    assert told == same
    assert (now.network.arch, now.data.dataset) == ("segformer.B0", "camvid")
    assert (now.MODEL.drop_path, now.MODEL.hila_stages) == (0.2, (2, 4))
    assert now.data.no_pos_dataset and not told.data.no_pos_dataset
    assert (told.network.arch, told.data.dataset) == ("ocrnet.HRNet_Mscale", "cityscapes")


def test_what_the_user_typed_stays_where_a_checkpoint_says_otherwise() -> None:
    argv = ["--snapshot", "x.pth", "--eval", "val", "--dataset", "kitti", "--drop_path", "0.1"]
    now = adopted(read_settings(argv), Snapshot("x.pth", {}, FACTS))
    assert (now.data.dataset, now.MODEL.drop_path) == ("kitti", 0.1)
    assert now.network.arch == "segformer.B0"


def test_the_task_of_a_checkpoint_gives_new_settings_and_leaves_the_old() -> None:
    told = read_settings(["--snapshot", "x.pth", "--eval", "val"])
    now = with_task(told, "classify")
    assert (now.classification.task, now.data.dataset) == ("classify", "imagenet")
    assert (told.classification.task, told.data.dataset) == ("segment", "cityscapes")
    assert adopted(told, None) is told
    assert isinstance(now, Settings)
