# SPDX-License-Identifier: Apache-2.0
"""A runx farm submission becomes a Slurm job; stand-ins for Slurm run it as two nodes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from scripts import submit_job
from scripts.setup_local import runx_settings
from tests.program import ROOT, TINY, environment

RUNX = " cd /logs/e/r/code; PYTHONPATH=/logs/e/r/code exec python train.py --lr 0.1 --d '$(ls)' "
SBATCH = '#!/bin/sh\ncp "$1" "$SEEN/job"\necho Submitted batch job 7\n'
# One machine plays all nodes: the job runs at once, every node in the background.
SBATCH_THAT_RUNS = """#!/bin/sh
export SLURM_JOB_ID=$$ SLURM_JOB_NODELIST=one SLURM_JOB_NUM_NODES=$(
  sed -n 's/^#SBATCH --nodes=//p' "$1")
bash "$1" > "$SEEN/output" 2>&1 || echo "exit $?" >> "$SEEN/output"
echo Submitted batch job $$
"""
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
for ((i = 0; i < SLURM_JOB_NUM_NODES; i++)); do SLURM_NODEID=$i "$@" & jobs+=($!); done
for job in "${jobs[@]}"; do wait "$job" || code=$?; done
exit ${code:-0}
"""
SCONTROL = "#!/bin/sh\necho 127.0.0.1\necho 127.0.0.2\n"


def fake_slurm(folder: Path, **programs: str) -> str:
    """A PATH with these programs, scripts/submit_job and this interpreter in front."""
    folder.mkdir()
    for name, text in programs.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    front = [folder, ROOT / "scripts", Path(sys.executable).parent]
    return os.pathsep.join([*map(str, front), os.environ["PATH"]])


def submit_through_runx(
    place: Path, path: str, cmd: str, hparams: dict[str, object], resources: dict[str, object]
) -> Path:
    """A real `python -m runx.runx` without -i; returns the run directory."""
    (place / "seen").mkdir()
    farm = {"SUBMIT_CMD": "submit_job", "RESOURCES": resources}
    settings = {**runx_settings(place / "logs"), "FARM": "draco_here", "draco_here": farm}
    (place / "runx.yml").write_text(yaml.safe_dump(settings))
    (place / "job.yml").write_text(yaml.safe_dump({"CMD": cmd, "HPARAMS": [hparams]}))
    line = ["-m", "runx.runx", str(place / "job.yml"), "-c", str(place / "runx.yml")]
    done = subprocess.run(
        [sys.executable, *line], cwd=ROOT, capture_output=True, text=True, check=True,
        env=environment(PATH=path, SEEN=str(place / "seen")), timeout=280,
    )  # fmt: skip
    assert "Submitted batch job" in done.stdout, done.stdout + done.stderr
    return next((place / "logs" / "job").iterdir())


def test_runx_submits_a_job_of_two_nodes(tmp_path: Path) -> None:
    path = fake_slurm(tmp_path / "bin", sbatch=SBATCH)
    run = submit_through_runx(
        tmp_path, path, "python -m torch.distributed.launch --nproc_per_node=8 train.py",
        {"lr": 0.1, "result_dir": "LOGDIR", "SUBMIT_JOB.NODES": 2},
        {"gpu": 4, "cpu": 16, "mem": 200, "duration": 1.5, "account": "vision", "requeue": True},
    )  # fmt: skip
    job = (tmp_path / "seen" / "job").read_text()
    options = {line.removeprefix("#SBATCH ") for line in job.splitlines() if "#SBATCH" in line}
    assert {
        "--nodes=2", "--ntasks-per-node=1", "--gres=gpu:4", "--cpus-per-task=16", "--mem=200G",
        "--time=90", "--account=vision", "--requeue", f"--output={run}/gcf_log/%j.out",
    } <= options, options  # fmt: skip
    assert any(option.startswith("--job-name=job") for option in options)
    node = (run / "gcf_log" / "node.sh").read_text()
    assert f"cd {run}/code;" in node and f"exec python {launcher(4)} train.py --lr 0.1" in node
    assert "torch.distributed.launch" not in node
    for text in (job, node):
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)


def launcher(processes: int) -> str:
    return submit_job.LAUNCHER.format(processes=processes)


@pytest.mark.parametrize(
    ("start", "gpus", "processes"),
    [
        ("python train.py", 8, 8),
        ("python train.py", None, 1),
        ("python -m torch.distributed.launch --nproc_per_node=8 train.py", 2, 2),
        ("python -m torch.distributed.run --standalone --nproc-per-node=3 train.py", 0, 3),
        ("/opt/env/bin/python3.12 train.py", 1, 1),
    ],
)
def test_every_way_to_start_becomes_torchrun_over_the_nodes(
    start: str, gpus: int | None, processes: int
) -> None:
    command, count = submit_job.node_command(f" cd /x; A= exec {start} --lr 1 b.py ", gpus)
    assert count == processes
    assert (
        command == f"cd /x; A= exec {start.split()[0]} {launcher(processes)} train.py --lr 1 b.py"
    )


def test_shell_text_of_the_command_is_kept(tmp_path: Path) -> None:
    args, more = submit_job.parse(["--command", RUNX, "--logdir", str(tmp_path)])
    job = submit_job.write_job(args, more)
    node = (job.parent / "node.sh").read_text()
    assert node.rstrip().endswith("train.py --lr 0.1 --d '$(ls)'")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--command", "cd x; ./run.sh"], "no `python PROGRAM.py`"),
        (["--command", "python train.py", "--nodes", "0"], "at least 1"),
        (["--command", "python train.py", "stray"], "'stray' belongs to no option"),
        (["--command", "python train.py"], "sbatch is not on the PATH"),
    ],
)
def test_what_can_not_be_submitted_is_one_line(
    tmp_path: Path,
    options: list[str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert submit_job.main([*options, "--logdir", str(tmp_path / "log")]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and words in lines[0]


PROGRAM = ["--command", "python train.py"]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (["--duration", "inf"], "--duration: inf: a number of at least 0 and at most 87600"),
        (["--duration", "nan"], "--duration: nan"),
        (["--duration", "1e300"], "--duration: 1e300"),
        (["--duration", "-1"], "--duration"),
        (["--nodes", "-1"], "--nodes"),
        (["--nodes", "9" * 5000], "--nodes: 999"),
        (["--gpu", "1e3"], "--gpu: 1e3: a whole number"),
        (["--mem", str(10**30)], "--mem"),
        (["--cpu", "x"], "--cpu: x"),
        (["--logdir", "n" * 300], "cannot be written: File name too long"),
        (["--logdir", "/dev/null/log"], "cannot be written: Not a directory"),
        (["--logdir", "a\0b"], "cannot be written"),
        (["--logdir"], "--logdir: expected one argument"),
    ],
)
def test_numbers_and_folders_without_sense_are_one_line(
    option: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit_job.main([*PROGRAM, "--logdir", str(tmp_path / "log"), *option]) == 2
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and words in lines[0]
    assert shown.err == "" and not list(tmp_path.iterdir())


def test_a_refusal_of_slurm_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refusal = "#!/bin/sh\necho 'sbatch: error: invalid partition' >&2\nexit 1\n"
    monkeypatch.setenv("PATH", fake_slurm(tmp_path / "bin", sbatch=refusal))
    assert submit_job.main(["--command", "python a.py", "--logdir", str(tmp_path)]) == 2
    assert "invalid partition" in capsys.readouterr().out


@pytest.mark.slow
def test_two_nodes_train_together(street_root: Path, tmp_path: Path) -> None:
    """The written job really runs: srun starts torchrun twice, the two agree on one run."""
    path = fake_slurm(tmp_path / "bin", sbatch=SBATCH_THAT_RUNS, srun=SRUN, scontrol=SCONTROL)
    settings = [item for item in TINY if "." in item and "=" in item]
    hparams = {
        "dataset": "synthetic", "arch": "ocrnet.HRNet_Mscale", "segattn_bot_ch": 8,
        "set": " --set ".join([*settings, f"DATASET.SYNTHETIC_DIR={street_root}"]),
        "class_uniform_pct": 0, "crop_size": 64, "bs_trn": 2, "max_epoch": 1, "num_workers": 0,
        "device": "cpu", "result_dir": "LOGDIR", "SUBMIT_JOB.NODES": 2,
    }  # fmt: skip
    run = submit_through_runx(tmp_path, path, "python train.py", hparams, {"gpu": 1})
    output = (tmp_path / "seen" / "output").read_text()
    assert json.loads((run / "status.json").read_text())["status"] == "done", output
    assert json.loads((run / "run.json").read_text())["world_size"] == 2
    assert "2 x cpu" in (run / "logging.log").read_text()


def test_a_duration_below_a_minute_is_a_limit_all_the_same(tmp_path: Path) -> None:
    args, _ = submit_job.parse(
        ["--command", "python train.py", "--logdir", str(tmp_path), "--duration", "0.001"]
    )
    assert "--time=1" in submit_job.directives(args, [])


@pytest.mark.parametrize("flag", ["--name", "--account"])
def test_a_line_break_in_an_option_does_not_become_a_command_of_the_job(
    flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--command", "python train.py", "--logdir", str(tmp_path / "job"), flag, "x\ntouch y"]
    assert submit_job.main(words) == 2
    assert "is one line of text" in capsys.readouterr().out
    assert not (tmp_path / "job" / "job.sbatch").exists()
