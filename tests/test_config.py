# SPDX-License-Identifier: Apache-2.0
"""Where values of the configuration come from, and which source wins."""

from __future__ import annotations

import ast
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from config import ModelConfig, UserError, parse_args
from settings import Settings, catalogue, flag_values, read_settings, sources, tree, tree_of
from settings.kinds import OPTIMISERS, SCHEDULES
from settings.published import REPLACED
from tests.program import ROOT, environment


def resolved(*argv: str) -> Settings:
    return read_settings(list(argv))


@pytest.fixture
def paths_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "paths.yml"
    monkeypatch.setattr(tree, "PROJECT_ROOT", tmp_path)
    monkeypatch.setattr(sources, "PATHS_FILE", "paths.yml")
    return path


def test_each_source_overrides_the_one_before(
    paths_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not resolved().DATASET.CITYSCAPES_DIR
    paths_file.write_text("DATASET: {CITYSCAPES_DIR: /from/paths}\n")
    assert resolved().DATASET.CITYSCAPES_DIR == "/from/paths"
    monkeypatch.setenv("HISEG_CITYSCAPES_DIR", "/from/environment")
    assert resolved().DATASET.CITYSCAPES_DIR == "/from/environment"
    flag = ("--set_cityscapes_root", "/from/flag")
    assert resolved(*flag).DATASET.CITYSCAPES_DIR == "/from/flag"
    last = (*flag, "--set", "CITYSCAPES_DIR=/from/set")
    assert resolved(*last).DATASET.CITYSCAPES_DIR == "/from/set"


def test_relative_directories_of_paths_yml_count_from_the_project(paths_file: Path) -> None:
    paths_file.write_text("DATASET: {CAMVID_DIR: data/camvid}\n")
    root = resolved().DATASET.CAMVID_DIR
    assert root == str(paths_file.parent / "data/camvid")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("DATASET: {CITYSCAPE_DIR: /x}", ["paths.yml", "CITYSCAPE_DIR", "DATASET.CITYSCAPES_DIR"]),
        ("MODEL: {hrnet_width: wide}", ["paths.yml", "MODEL.hrnet_width", "int"]),
        ("- a list", ["paths.yml", "mapping", "list"]),
        ("DATASET: {", ["paths.yml", "YAML"]),
    ],
)
def test_wrong_paths_yml_is_one_line(paths_file: Path, text: str, words: list[str]) -> None:
    paths_file.write_text(text)
    with pytest.raises(UserError) as error:
        resolved()
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_unknown_environment_variable_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HISEG_CAMVIDDIR", "/x")
    with pytest.raises(UserError, match="HISEG_CAMVIDDIR.*HISEG_CAMVID_DIR"):
        resolved()


def test_flag_and_tree_agree_whichever_was_given() -> None:
    told = read_settings(["--set", "LOSS.OCR_ALPHA=0.7", "--n_scales", "0.5,1.0"])
    assert flag_values(told)["ocr_alpha"] == told.LOSS.OCR_ALPHA == 0.7
    assert flag_values(told)["n_scales"] == told.MODEL.n_scales == (0.5, 1.0)


def test_cfg_shows_the_settings_of_this_process_and_takes_no_other(tmp_path: Path) -> None:
    from config import cfg

    assert not cfg.DATASET.CAMVID_DIR and ModelConfig() == cfg.MODEL  # the defaults
    told = parse_args(["--set", f"CAMVID_DIR={tmp_path}", "--n_scales", "0.5,1.0", "--lr", "0.1"])
    assert cfg.settings is told
    assert str(tmp_path) == cfg.DATASET.CAMVID_DIR and cfg.MODEL.n_scales == (0.5, 1.0)
    assert (cfg.LOSS.OCR_ALPHA, cfg.settings.optimiser.lr) == (0.4, 0.1)
    assert cfg.to_dict() == tree_of(told)
    assert cfg.expand("ASSETS_PATH/a.pth") == f"{cfg.ASSETS_PATH}/a.pth"
    with pytest.raises(AttributeError, match="cfg is frozen"):
        parse_args([])
    assert cfg.settings is told


def test_nothing_writes_to_cfg() -> None:
    from config import cfg

    for owner, name in ((cfg, "MODEL"), (cfg, "DATASET"), (cfg, "settings"), (cfg, "mine")):
        with pytest.raises(AttributeError, match=f"cfg is read-only; {name} is set by flags"):
            setattr(owner, name, None)
    for section in (cfg.DATASET, cfg.MODEL, cfg.LOSS):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(section, dataclasses.fields(section)[0].name, "x")


@pytest.mark.parametrize("module", ["config", "settings"])
def test_configuration_imports_no_torch(module: str) -> None:
    code = f"import {module}, sys; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("program", ["train.py", "eval.py"])
def test_help_answers_without_torch(program: str) -> None:
    code = (
        f"import runpy, sys; sys.argv = ['{program}', '--help']\n"
        f"try: runpy.run_path('{program}', run_name='__main__')\n"
        "except SystemExit: sys.exit(3 if 'torch' in sys.modules else 0)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment(), capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0
    assert "--n_scales" in result.stdout


def attributes_read(path: Path) -> set[str]:
    """Names of the attributes that the code of a file looks at."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return {each.attr for each in nodes if isinstance(each, ast.Attribute)}


def test_every_flag_is_read_somewhere() -> None:
    """A flag that no code looks at would promise what does not happen."""
    files = [ROOT / "train.py", ROOT / "eval.py", ROOT / "config.py"]
    files += [ROOT / "settings" / f"{name}.py" for name in ("kinds", "resolve", "spellings")]
    files += sorted((ROOT / "assembly").rglob("*.py"))
    read = set().union(*map(attributes_read, files))
    # named by the rows of optimisers and schedules, whose makers are called with them
    kinds = SCHEDULES.values()
    curves = [curve for kind in kinds for curve in (kind.by_epoch, kind.by_iteration) if curve]
    rows = [kind.reads.values() for kind in OPTIMISERS.values()]
    rows += [curve.takes.values() for curve in curves] + [kind.also for kind in kinds]
    rows += [kind.requires for kind in kinds]
    read = read.union(*rows)
    # said by their help: the launcher's environment decides, loading weights is the default
    explained = {*REPLACED, "global_rank", "restore_net", "init_decoder"}
    explained |= {"set", "sgd"}  # read as text before there are settings; says the default
    explained |= {each.name for each in catalogue().values() if each.key}
    flags = [each for each in catalogue().values() if each.declared.flags]
    assert len(flags) > 200
    unread = [each.name for each in flags if each.name not in explained and each.field not in read]
    assert not unread


def test_a_run_gives_its_test_scale_and_one_of_an_earlier_version_nothing(tmp_path: Path) -> None:
    names = ("arch", "dataset", "cv", "pre_size", "map_crop_val")
    old = {name: flag_values(Settings())[name] for name in names}
    config = tree_of(Settings())
    for saved, wanted in ((old, None), ({**old, "test_scale": [64, 32]}, (64, 32))):
        run_file = {"flags": saved, "config": {**config, "MODEL": {}, "DATASET": {}}}
        (tmp_path / "run.json").write_text(json.dumps(run_file))
        told = read_settings(["--from_run", str(tmp_path), "--snapshot", "x", "--eval", "val"])
        assert told.augmentation.test_scale == wanted and told.augmentation.size_divisor == 1


def test_the_home_directory_is_expanded_in_every_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("HISEG_KITTI_DIR", "~/kitti")
    told = read_settings([
        "--set", "DATASET.CUSTOM_YAML=~/x.yml", "--result_dir", "~/out", "--snapshot", "~/a.pth",
        "--eval", "folder", "--eval_folder", "~/pictures",
    ])  # fmt: skip
    assert told.DATASET.CUSTOM_YAML == "/home/me/x.yml"
    assert told.DATASET.KITTI_DIR == "/home/me/kitti"
    assert (told.run.result_dir, told.network.snapshot) == ("/home/me/out", "/home/me/a.pth")
    assert told.inference.eval_folder == "/home/me/pictures"
