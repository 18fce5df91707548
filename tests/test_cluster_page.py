# SPDX-License-Identifier: Apache-2.0
"""docs/cluster.md: its job for Slurm and its Job for Kubernetes are read from the page and run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kills import parents, read_status
from tests.program import ROOT, TINY, environment, free_port, street_flags
from tests.scripts.test_submit_job import SRUN, fake_slurm
from tests.test_processes import await_step

PAGE = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
NOTE_REQUEUE = """#!/bin/sh
if [ "$1" = requeue ]; then echo "$2" >> "$SEEN"; else echo 127.0.0.1; fi
"""


def block(language: str, holding: str) -> str:
    """The code block of the page that holds a text."""
    found = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    return next(text for text in found if holding in text)


def short(root: Path, directory: Path, epochs: int) -> list[str]:
    """Flags of a small training."""
    return [
        *TINY, *street_flags(root, directory), "--class_uniform_pct", "0", "--crop_size", "64,64",
        "--bs_trn", "2", "--max_epoch", str(epochs), "--device", "cpu", "--no_progress",
    ]  # fmt: skip


def job() -> dict[str, Any]:
    """The Job for Kubernetes."""
    return list(yaml.safe_load_all(block("yaml", "kind: Job")))[1]


def test_pods_find_the_first_one_through_the_service() -> None:
    service, own = yaml.safe_load_all(block("yaml", "kind: Job"))
    spec, pod = own["spec"], own["spec"]["template"]
    args = pod["spec"]["containers"][0]["args"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert pod["spec"]["subdomain"] == service["metadata"]["name"]
    assert f"--master_addr={own['metadata']['name']}-0.{pod['spec']['subdomain']}" in args
    assert spec["completions"] == spec["parallelism"] and spec["completionMode"] == "Indexed"
    assert f"--nnodes={spec['completions']}" in args
    container = pod["spec"]["containers"][0]
    assert f"--nproc_per_node={container['resources']['limits']['nvidia.com/gpu']}" in args
    volumes = {each["name"] for each in pod["spec"]["volumes"]}
    assert {each["name"] for each in container["volumeMounts"]} == volumes


@pytest.mark.slow
def test_the_pods_train_together(street_root: Path, tmp_path: Path) -> None:
    container = job()["spec"]["template"]["spec"]["containers"][0]
    directory = tmp_path / "run"
    here = {
        "hiseg-0.hiseg": "127.0.0.1", "29500": free_port(), "--nproc_per_node=8":
        "--nproc_per_node=1", "/runs/first": str(directory), "--dataset=cityscapes": "--bs_val=1",
    }  # fmt: skip
    line = " ".join(container["args"])
    for old, new in here.items():
        assert old in line
        line = line.replace(old, new)
    pods = [
        subprocess.Popen(
            [sys.executable, *container["command"][1:],
             *line.replace("$(JOB_COMPLETION_INDEX)", str(index)).split(),
             *short(street_root, directory, 1)],
            cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]  # fmt: skip
    shown = [pod.communicate(timeout=200)[1] for pod in pods]
    assert [pod.returncode for pod in pods] == [0, 0], shown
    assert read_status(directory)["status"] == "done"


@pytest.mark.slow
def test_the_slurm_job_saves_and_requeues_itself_at_its_time_limit(
    street_root: Path, tmp_path: Path
) -> None:
    directory, seen = tmp_path / "run", tmp_path / "seen"
    script = block("bash", "scontrol requeue")
    here = {
        "/shared/runs/first": str(directory), "--nproc_per_node=8": "--nproc_per_node=1",
        "--dataset cityscapes": " ".join(short(street_root, directory, 500)),
        "$((20000 + SLURM_JOB_ID % 20000))": free_port(), "--save_iters 200": "--save_iters 1",
    }  # fmt: skip
    for old, new in here.items():
        assert old in script
        script = script.replace(old, new)
    (tmp_path / "job.sbatch").write_text(script)
    path = fake_slurm(tmp_path / "bin", srun=SRUN, scontrol=NOTE_REQUEUE)
    slurm = {"SLURM_JOB_ID": "77", "SLURM_JOB_NODELIST": "one", "SLURM_JOB_NUM_NODES": "2"}
    process = subprocess.Popen(
        ["bash", str(tmp_path / "job.sbatch")], cwd=ROOT, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, env=environment(PATH=path, SEEN=str(seen), **slurm),
    )  # fmt: skip
    await_step(process, directory, 1)
    for pid in tasks_of(process.pid):
        os.kill(pid, signal.SIGTERM)  # as Slurm signals the tasks, not the script
    process.wait(timeout=100)
    assert read_status(directory)["status"] == "interrupted"
    assert seen.read_text() == "77\n"


def tasks_of(job: int) -> list[int]:
    """What srun has started for a job script."""
    above = parents()
    return [child for child, parent in above.items() if above.get(parent) == job]
