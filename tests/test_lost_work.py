# SPDX-License-Identifier: Apache-2.0
"""What was trained stays, whatever comes after it: real programs, real directories."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.program import ROOT, TINY, assert_one_line_error, command, environment, run, street_flags
from tools import sweep

pytestmark = pytest.mark.slow


def flags(root: Path, directory: Path, *more: str) -> list[str]:
    """A training of two epochs, validated after each."""
    return [
        *TINY, *street_flags(root, directory), "--class_uniform_pct", "0", "--crop_size", "64,64",
        "--bs_trn", "4", "--max_epoch", "2", "--lr", "0.01", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def trained(street_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("trained") / "runs" / "a"
    result = run("train.py", *flags(street_root, directory))
    assert result.returncode == 0, result.stdout + result.stderr
    return directory


def contents(directory: Path) -> dict[str, bytes]:
    """Every file directly in the directory."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def status(directory: Path) -> dict:
    return json.loads((directory / "status.json").read_text())


def test_a_second_start_touches_nothing_and_names_the_ways_out(
    street_root: Path, trained: Path
) -> None:
    before = contents(trained)
    for ranks in (1, 2):
        result = run(
            "train.py", *flags(street_root, trained, "--seed", "1", "--max_epoch", "1"), ranks=ranks
        )
        assert result.returncode != 0
        assert "holds a run (last_checkpoint_ep1.pth)" in result.stdout
        assert "--resume auto goes on with it, another --result_dir" in result.stdout
        assert contents(trained) == before
    assert_one_line_error(run("train.py", *flags(street_root, trained)), "holds a run")


def test_an_evaluation_in_the_directory_of_a_training_has_its_own_folder(
    street_root: Path, trained: Path, tmp_path: Path
) -> None:
    """Of another checkpoint, too: the scores of the run stay what they were."""
    before, best = contents(trained), sweep.read_run(trained).best
    content = torch.load(next(trained.glob("best*.pth")), weights_only=True)
    other = tmp_path / "other.pth"
    torch.save({**content, "state_dict": content["state_dict"]}, other)
    for program, more in (("eval.py", []), ("train.py", ["--eval", "val"])):
        result = run(
            program, *more, *street_flags(street_root, trained), "--snapshot", str(other),
            "--dump_all_images",
        )  # fmt: skip
        assert result.returncode == 0, result.stdout + result.stderr
        assert f"{trained} holds a training: this evaluation is in {trained}/eval" in result.stdout
        assert contents(trained) == before
    inner = trained / "eval"
    for name in ("results.json", "run.json", "metrics.csv", "best_images/index.html"):
        assert (inner / name).is_file(), name
    runs = sweep.read_runs(trained.parent)
    assert [(each.name, each.best) for each in runs] == [("a", best)]
    assert runs[0].report == inner / "best_images" / "index.html"
    again = run("eval.py", "--from_run", str(trained), "--num_workers", "0",
                "--set", f"DATASET.SYNTHETIC_DIR={street_root}",
                "--result_dir", str(tmp_path / "again"))  # fmt: skip
    assert again.returncode == 0, again.stdout + again.stderr
    score = json.loads((tmp_path / "again" / "results.json").read_text())["metrics"]["mean_iu"]
    assert score == pytest.approx(best, abs=2e-4)


def test_a_summary_ends_done_and_leaves_a_training_alone(street_root: Path, trained: Path) -> None:
    before = contents(trained)
    result = run("train.py", *flags(street_root, trained, "--summary"))
    assert result.returncode == 0, result.stdout + result.stderr
    assert contents(trained) == before
    assert status(trained / "summary")["status"] == "done"


def test_a_training_that_ended_before_its_first_checkpoint_starts_again(
    street_root: Path, tmp_path: Path
) -> None:
    streets = Path(shutil.copytree(street_root, tmp_path / "streets"))
    label = next(streets.rglob("train/*/*_gtFine_labelIds.png"))
    hidden = label.rename(tmp_path / "hidden.png")
    line = ["train.py", *flags(streets, tmp_path / "run", "--max_epoch", "1")]
    assert_one_line_error(run(*line), label.name)
    hidden.rename(label)
    assert run(*line).returncode == 0


def break_validation(root: Path, folder: Path) -> tuple[Path, Path]:
    """A copy of the set with one damaged validation image, whose header is whole."""
    streets = Path(shutil.copytree(root, folder / "streets"))
    picture = sorted(streets.rglob("val/*/*_leftImg8bit.png"))[1]
    shutil.copy(picture, folder / "whole.png")
    content = bytearray(picture.read_bytes())
    content[-200:-100] = bytes(100)  # zlib and PNG both have checksums
    picture.write_bytes(content)
    return streets, picture


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize(
    "length", [("--max_epoch", "6", "--val_freq", "6"), ("--max_iter", "12", "--val_iters", "12")]
)
def test_a_broken_validation_picture_costs_no_training(
    street_root: Path, tmp_path: Path, ranks: int, length: tuple[str, ...]
) -> None:
    """The second image is that of rank 1; its name stands in rank 0's status.json."""
    streets = Path(shutil.copytree(street_root, tmp_path / "streets"))
    picture = sorted(streets.rglob("val/*/*_leftImg8bit.png"))[1]
    whole, directory = picture.read_bytes(), tmp_path / "run"
    line = ["train.py", *TINY, *street_flags(streets, directory), "--class_uniform_pct", "0",
            "--crop_size", "64,64", "--bs_trn", "2", *length]  # fmt: skip
    process = subprocess.Popen(
        command(*line, ranks=ranks), cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True
    )
    while not (directory / "run.json").exists() and process.poll() is None:
        time.sleep(0.01)
    picture.write_bytes(whole[:-200])  # after all checks, before it is read
    shown, _ = process.communicate(timeout=200)
    assert process.returncode != 0
    assert picture.name in status(directory)["reason"], shown
    assert status(directory)["status"] == "failed"
    assert "gloo" not in shown
    content = torch.load(next(directory.glob("last*.pth")), weights_only=True)
    trained = content["progress"]["iteration"]
    assert trained == (12 if "--max_iter" in length else 6 * 4 // ranks)
    picture.write_bytes(whole)
    result = run(*line, "--resume", "auto", ranks=ranks)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"({trained} steps in all)" in result.stdout
    assert (directory / "metrics.csv").read_text().count("mean_iu") == 1


@pytest.mark.parametrize("ranks", [1, 2])
def test_an_evaluation_names_the_broken_picture_whatever_rank_meets_it(
    street_root: Path, trained: Path, tmp_path: Path, ranks: int
) -> None:
    streets, picture = break_validation(street_root, tmp_path)
    result = run(
        "eval.py", *street_flags(streets, tmp_path / "run"), "--snapshot",
        str(next(trained.glob("best*.pth"))), ranks=ranks,
    )  # fmt: skip
    assert result.returncode != 0
    assert picture.name in status(tmp_path / "run")["reason"]
    assert "gloo" not in result.stdout


def test_an_evaluation_that_is_stopped_says_so(
    street_root: Path, trained: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    picture = next(street_root.rglob("val/*/*_leftImg8bit.png"))
    for number in range(2000):
        os.link(picture, photos / f"{number}.png")
    process = subprocess.Popen(
        command("eval.py", "--eval", "folder", "--eval_folder", str(photos), "--snapshot",
                str(next(trained.glob("best*.pth"))), "--num_workers", "1", "--dump_assets",
                "--result_dir", str(tmp_path / "run")),
        cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list((tmp_path / "run").rglob("*_prediction.png")) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGTERM)
    shown, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert shown.splitlines()[-1] == "interrupted: stopped by SIGTERM"
    assert status(tmp_path / "run")["status"] == "interrupted"
    assert not list((tmp_path / "run").rglob(".*.partial"))


def test_a_loader_process_that_is_killed_ends_the_training_with_the_reason(
    street_root: Path, tmp_path: Path
) -> None:
    line = flags(street_root, tmp_path / "run", "--max_epoch", "500", "--num_workers", "2")
    process = subprocess.Popen(
        command("train.py", *line), cwd=ROOT, env=environment(), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list((tmp_path / "run").glob("last*.pth")) and time.monotonic() < deadline:
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    began = time.monotonic()
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - began < 60
    assert process.returncode == 3
    assert re.match(
        r"failed: loader process \d+ .*out of memory\?.*--resume auto", out.splitlines()[-1]
    )
    assert "Traceback" not in err
    assert "loader process" in status(tmp_path / "run")["reason"]


def test_a_network_of_nan_scores_is_never_best(street_root: Path, tmp_path: Path) -> None:
    """Weights so large that the scores overflow: everything is class 0, often a common class."""
    directory = tmp_path / "run"
    first = run("train.py", *flags(street_root, directory, "--max_epoch", "1"))
    assert first.returncode == 0, first.stdout + first.stderr
    path = next(directory.glob("last*.pth"))
    kept = next(directory.glob("best*.pth")).read_bytes()
    content = torch.load(path, weights_only=True)
    for value in content["state_dict"].values():
        if value.is_floating_point() and value.ndim == 4:
            value.mul_(1e30)
    path.unlink()
    torch.save(content, path)
    result = run("train.py", *flags(street_root, directory, "--resume", "auto", "--lr", "1e-30"))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "NaN or infinite scores in 4 of 4 images" in result.stdout
    assert "the best checkpoint stays as it is" in result.stdout
    assert [each.read_bytes() for each in directory.glob("best*.pth")] == [kept]
    run_facts = sweep.read_run(directory)
    assert len(run_facts.scores) == 1 and run_facts.best == content["progress"]["best"]
    json.loads((directory / "status.json").read_text(), parse_constant=pytest.fail)


def test_a_disk_that_fills_up_ends_an_evaluation_in_one_line(
    street_root: Path, trained: Path, tmp_path: Path
) -> None:
    """No file may grow beyond 10 kB, as on a full disk: images, submission, results, page."""
    line = command(
        "eval.py", *street_flags(street_root, tmp_path / "run"), "--snapshot",
        str(next(trained.glob("best*.pth"))), "--dump_all_images", "--dump_for_submission",
    )  # fmt: skip
    result = subprocess.run(
        ["bash", "-c", "ulimit -f 10; exec " + " ".join(line)],
        cwd=ROOT, env=environment(), capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert_one_line_error(result, str(tmp_path / "run"), "File too large; free some space")
    assert not list((tmp_path / "run").rglob(".*.partial"))


def test_half_written_files_of_a_killed_run_are_gone_after_the_next_start(
    street_root: Path, trained: Path
) -> None:
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    pid = done.stdout.strip()
    left = trained / f".last_checkpoint_ep1.pth.{pid}.partial"
    left.write_bytes(b"half")
    result = run("train.py", *flags(street_root, trained, "--resume", "auto"))
    assert result.returncode == 0, result.stdout + result.stderr
    assert not left.exists()
