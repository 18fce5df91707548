# SPDX-License-Identifier: Apache-2.0
"""train.py and eval.py with HANet blocks: flags, positions, images of gates, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from network.convert.hanet import official_name
from tests.program import TINY, assert_one_line_error, run, street_flags

pytestmark = pytest.mark.slow
HANET = [
    "--hanet", "1", "1", "1", "1", "1", "--hanet_set", "3,16,3", "--hanet_pos", "2", "1",
    "--pos_noise", "0.3", "--dropout", "0.1",
]  # fmt: skip
SMALL = ["--arch", "network.deepv3.DeepMobileNetV3PlusD_HANet", *HANET, "--aux_loss"]


@pytest.fixture(scope="module")
def trained(street_root: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A checkpoint of the mobile network after a few steps."""
    directory = tmp_path_factory.mktemp("hanet")
    result = run(
        "train.py", *SMALL, *street_flags(street_root, directory), "--class_uniform_tile", "64",
        "--crop_size", "64,96", "--bs_trn", "2", "--max_iter", "4", "--lr_by", "iter",
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert "aux" in result.stdout
    facts = json.loads((directory / "run.json").read_text())
    assert facts["config"]["MODEL"]["hanet"] == [1, 1, 1, 1, 1]
    return str(next(directory.glob("best_checkpoint_ep*.pth")))


@pytest.mark.parametrize("program", [["eval.py"], ["train.py", "--eval", "val"]])
def test_dump_attention_shows_every_block_in_folder_and_report(
    program: list[str], trained: str, street_root: Path, tmp_path: Path
) -> None:
    result = run(
        *program, "--snapshot", trained, *street_flags(street_root, tmp_path), "--dump_attention",
        "--dump_all_images", "--do_flip", "--test_mode",
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    pictures = tmp_path / "best_images"
    for block in range(5):
        assert len(list(pictures.rglob(f"*_gate_{block}.png"))) == 4
    page = (pictures / "index.html").read_text()
    assert "Height attention" in page and "Gates 4" in page


def test_a_wrong_reduction_is_one_line_that_names_the_right_one(
    trained: str, street_root: Path, tmp_path: Path
) -> None:
    wrong = ["--hanet_set", "3", "64", "3"]
    result = run("eval.py", "--snapshot", trained, *street_flags(street_root, tmp_path), *wrong)
    assert_one_line_error(
        result, "trained with reduction 16", "file: --hanet_set 3 16 3, network: --hanet_set 3 64 3"
    )


def published(trained: str, path: Path, *, with_head: bool) -> str:
    """The weights in the layout of the published files, with or without the auxiliary head."""
    state = torch.load(trained, weights_only=True)["state_dict"]
    named = {f"module.{official_name(key)}": value for key, value in state.items()}
    kept = {key: value for key, value in named.items() if with_head or ".dsn." not in key}
    torch.save({"state_dict": kept}, path)
    return str(path)


@pytest.mark.parametrize("with_head", [True, False])
def test_an_evaluation_asks_for_no_auxiliary_head(
    trained: str, street_root: Path, tmp_path: Path, with_head: bool
) -> None:
    file = published(trained, tmp_path / "file.pth", with_head=with_head)
    net = SMALL[:-1] if with_head else SMALL
    flags = [*net, "--snapshot", file, *street_flags(street_root, tmp_path)]
    result = run("eval.py", *flags, "--test_mode")
    assert result.returncode == 0, result.stdout + result.stderr
    assert ("9 dropped (dsn." if with_head else "8 missing (dsn.") in result.stdout
    flags = [*net, "--snapshot", file, *street_flags(street_root, tmp_path / "training")]
    flags += ["--class_uniform_tile", "64", "--crop_size", "64,96"]
    hint = "--aux_loss builds the auxiliary head" if with_head else "--allow_partial dsn"
    assert_one_line_error(run("train.py", *flags), hint)


def test_a_network_without_positions_stays_without_them(street_root: Path, tmp_path: Path) -> None:
    flags = [
        *SMALL[:-1], *street_flags(street_root, tmp_path), "--class_uniform_tile", "64",
        "--crop_size", "64,96", "--bs_trn", "2", "--max_iter", "1",
    ]  # fmt: skip
    result = run("train.py", *flags, "--no_pos_dataset")
    assert result.returncode == 0, result.stdout + result.stderr
    assert_one_line_error(run("train.py", *flags, "--resume", "auto"), "--no_pos_dataset")
    snapshot = str(next(tmp_path.glob("best_checkpoint_ep*.pth")))
    content, old = torch.load(snapshot, weights_only=True), str(tmp_path / "old.pth")
    assert content.pop("positions") is False
    torch.save(content, old)  # as written before that entry was kept
    for file in (snapshot, old):
        evaluation = [*street_flags(street_root, tmp_path / "eval"), "--test_mode"]
        result = run("eval.py", "--snapshot", file, *evaluation)
        assert result.returncode == 0, result.stdout + result.stderr
        assert ("blocks get no row positions" in result.stdout) == (file == snapshot)
        protocol = json.loads((tmp_path / "eval" / "results.json").read_text())["protocol"]
        assert ("positions" in protocol) == (file == snapshot)


def test_dump_attention_needs_a_block(street_root: Path, tmp_path: Path) -> None:
    flags = [*TINY, *street_flags(street_root, tmp_path), "--class_uniform_tile", "64"]
    result = run("train.py", *flags, "--crop_size", "64,64", "--max_epoch", "1")
    assert result.returncode == 0, result.stdout + result.stderr
    snapshot = str(next(tmp_path.glob("best_checkpoint_ep*.pth")))
    result = run("eval.py", *flags, "--snapshot", snapshot, "--dump_attention")
    assert_one_line_error(result, "--dump_attention", "no HANet block")
