# SPDX-License-Identifier: Apache-2.0
"""Every number and every file name of a command line is checked before anything is built."""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

from config import UserError, wrong_input
from settings import build_parser, catalogue, read_flags, read_settings, sources, tree
from settings.catalogue import keys
from settings.published import WITHOUT_EFFECT
from tests.program import ROOT

SENSELESS = ("inf", "-inf", "nan", "1e300", "-1e300", str(10**30), "-1")
# Where one of them has a meaning, and which.
MEANT = {
    "rlx_off_epoch": ("-1",),  # never
    "rlx_off_iter": ("-1",),
    "eval_f1_start": ("-1",),  # all images
    "hanet_set": ("-1",),  # a negative reduction is an expansion
}
LONG_NAME = "n" * 256
# Text whose meaning is another than a number or a file.
TEXTS = {
    "help",
    "allow_partial",
    "param_rules",
    "set",
    "arch",
    "train_only",
    "aa",
    "dist_url",
    "dump_masks",
    "trunk",
    "tracker",
}


def shown() -> list[argparse.Action]:
    hidden = {*WITHOUT_EFFECT, "init_decoder"}
    return [action for action in build_parser()._actions if action.dest not in hidden]


def takes_files(action: argparse.Action) -> bool:
    return any(word in str(action.metavar) for word in ("FILE", "DIR", "NAME"))


def file_flags() -> list[argparse.Action]:
    return [action for action in shown() if takes_files(action)]


def numeric() -> list[argparse.Action]:
    return [
        action
        for action in shown()
        if action.nargs != 0
        and not action.choices
        and action.dest not in TEXTS
        and not takes_files(action)
        and action.dest not in ("date", "exp")  # parts of a path
    ]


def values_of(action: argparse.Action, word: str) -> list[list[str]]:
    """`word` in the places that a value of `action` has."""
    default = catalogue()[action.dest].default
    count = len(default) if isinstance(default, tuple) else 2
    if action.dest in ("scales", "extra_scales", "eval_f1_th", "n_scales"):
        return [[word], [f"1,{word}"]]
    if isinstance(action.nargs, int):
        return [[word] * action.nargs, ["64", word]]
    if action.nargs == "+":
        return [["1"] * (count - 1) + [word]]
    return [[word], [",".join(["1"] * (count - 1) + [word])]]


@pytest.mark.parametrize("action", numeric(), ids=lambda action: str(action.dest))
def test_no_flag_takes_a_number_without_sense(action: argparse.Action) -> None:
    for word in SENSELESS:
        if word in MEANT.get(action.dest, ()):
            continue
        for values in values_of(action, word):
            first = action.option_strings[0]
            argv = [first, *values] if len(values) > 1 else [f"{first}={values[0]}"]
            with pytest.raises(UserError) as error:
                read_flags(argv)
            assert "\n" not in str(error.value) and len(str(error.value)) < 300


@pytest.mark.parametrize("action", file_flags(), ids=lambda action: action.dest)
def test_no_flag_takes_a_name_that_no_file_can_have(action: argparse.Action) -> None:
    for name in (LONG_NAME, f"a/{LONG_NAME}/b", "ü" * 128, "d/" * 2100, "a\0b"):
        with pytest.raises(UserError, match="bytes|no file has such a name") as error:
            read_flags([f"{action.option_strings[0]}={name}"])
        assert len(str(error.value)) < 300


def numbers_of_the_tree() -> list[str]:
    return [key for key, each in keys().items() if re.search(r"\b(int|float)\b", str(each.kind))]


@pytest.mark.parametrize("key", numbers_of_the_tree())
def test_every_number_of_the_tree_has_a_finite_range(key: str) -> None:
    bounds = keys()[key].declared.bounds
    assert bounds is not None
    low, high = bounds.low, bounds.high
    assert -1e7 < low <= high < 1e7
    with pytest.raises(UserError, match=key):
        read_settings(["--set", f"{key}={','.join(['1e300'] * 5)}"])


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("MODEL.hrnet_modules=1,0,1", "0 is outside 1..16"),
        ("MODEL.hrnet_modules=-1,1,1", "-1 is outside"),
        ("DATASET.CLASS_UNIFORM_BIAS=inf,1,1", "inf is outside 0..1000"),
        ("DATASET.CLASS_UNIFORM_BIAS=-1,1,1", "-1.0 is outside"),
        ("DATASET.CLASS_UNIFORM_BIAS=0,0,0", "at least one above 0"),
        ("LOSS.CLASS_WEIGHTS=0,0", "at least one above 0"),
        (f"DATASET.CUSTOM_YAML=/{LONG_NAME}/set.yml", "a name of 256 bytes"),
        (f"ASSETS_PATH={LONG_NAME}", "a name of 256 bytes"),
        (f"MODEL.pretrained={LONG_NAME}", "a name of 256 bytes"),
        ("MODEL.hanet_pooling=median", "median: there are mean, max"),
        ("MODEL.batch_attention=often", "often: there are never, training, always"),
        ("=3", "KEY=VALUE wanted"),
    ],
)
def test_keys_without_sense_are_named(entry: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        read_settings(["--set", entry])
    assert entry.split("=")[0] in str(error.value)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--lr", "inf"], "--lr: inf must be above 0 and at most 1000"),
        (["--seed", str(2**63)], "at most 9223372036854775807"),
        (["--seed", "9" * 5000], "--seed"),
        (["--start_epoch", "5", "--max_epoch", "2"], "--start_epoch 5: nothing to train"),
        (["--num_workers", "1000000"], "at most 512"),
        (["--bs_trn", "1000000"], "at most 65536"),
        (["--param_rules", "head:lr=1e300"], "KEY:lr=FACTOR"),
        (["--dist_timeout", "0"], "at least 1"),
    ],
)
def test_numbers_of_a_training_have_bounds(argv: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_settings(argv)


def test_the_largest_seed_can_be_used() -> None:
    from runtime.seeds import random_state, seed_everything, set_random_state

    before = random_state()
    seed_everything(read_settings(["--seed", str(2**63 - 1)]).run.seed, 1, False)
    set_random_state(before)


@pytest.mark.parametrize("value", ["x", "-1", "1.5", "9" * 30, ""])
def test_a_wrong_local_rank_names_the_variable(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", value)
    with pytest.raises(UserError, match="environment LOCAL_RANK: "):
        read_settings([])


def test_yaml_of_any_depth_or_kind_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "paths.yml"
    for text in (
        "[" * 5000,
        "a: " + "{b: " * 3000 + "}" * 3000,
        "a: 2001-99-99",
        "- 1",
        "a: [",
        "\0",
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=r"paths\.yml: ") as error:
            sources.read_yaml(path)
        assert "\n" not in str(error.value)


def test_a_local_settings_file_that_names_itself_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "PROJECT_ROOT", tmp_path)
    monkeypatch.setattr(sources, "PATHS_FILE", "paths.yml")
    (tmp_path / "paths.yml").write_text("DATASET: &a\n  CAMVID_DIR: *a\n")
    with pytest.raises(UserError, match="DATASET.CAMVID_DIR"):
        read_settings([])


def test_a_line_is_shown_on_any_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(io.StringIO()):
        assert wrong_input("--arch é\udce9\nü is no architecture") == 2
    assert shown.buffer.getvalue() == b"error: --arch \\xe9\\udce9 \\xfc is no architecture\n"


@pytest.mark.slow
def test_an_arch_that_stdout_can_not_show_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "train.py", "--arch", b"oc\xe9", "--result_dir", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=120)
    assert result.returncode == 2
    assert b"Traceback" not in result.stdout + result.stderr
