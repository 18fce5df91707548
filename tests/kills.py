# SPDX-License-Identifier: Apache-2.0
"""Kill a training at random moments, go on, and compare it with one that nobody disturbed.

    python -m tests.kills --kills 40                 # one process, two loader workers
    python -m tests.kills --kills 40 --ranks 2       # torchrun --max-restarts=2, one rank at a time

The run has validation, weight average, accumulation and two workers. Afterwards the weights, the
optimiser, the random states, the best checkpoint and the val rows of metrics.csv must be equal to
the last bit, and no half-written file may be left. Exit code 1 with what differs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from datasets.synthetic import ScenePlan, write_synthetic
from runtime.files import PARTIAL
from tests.program import ROOT, TINY, command, environment

PATIENCE = 180.0  # seconds until a started run must show a sign of life


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is trained: `val_iters` validates by steps instead of epochs."""

    root: Path
    epochs: int
    ranks: int = 1
    val_iters: int | None = None

    def line(self, directory: Path) -> list[str]:
        """The command that trains in `directory`, or goes on there."""
        flags = [
            *TINY,
            "--dataset", "synthetic", "--set", f"DATASET.SYNTHETIC_DIR={self.root}",
            "--set", f"DATASET.CENTROID_ROOT={self.root}/centroids", "--class_uniform_pct", "0.5",
            "--class_uniform_tile", "64", "--crop_size", "64,64", "--bs_trn", "2",
            "--accum_steps", "2", "--ema", "0.9", "--mscale_dropout", "--lr", "0.02",
            "--num_workers", "2", "--save_iters", "3", "--deterministic", "--no_progress",
            "--max_epoch", str(self.epochs), "--resume", "auto", "--result_dir", str(directory),
        ]  # fmt: skip
        if self.val_iters:
            flags += ["--val_iters", str(self.val_iters)]
        line = command("train.py", *flags, ranks=self.ranks)
        if self.ranks > 1:
            line.insert(line.index("train.py"), "--max-restarts=2")
        return line


def start(plan: Plan, directory: Path) -> subprocess.Popen[bytes]:
    """Start or go on; what it prints goes to `directory`.log."""
    with directory.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(
            plan.line(directory), cwd=ROOT, env=environment(), stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip


def read_status(directory: Path) -> dict[str, Any]:
    """status.json; {} before it is there."""
    try:
        status: dict[str, Any] = json.loads((directory / "status.json").read_text())
    except OSError:
        return {}
    return status


def await_life(process: subprocess.Popen[bytes], directory: Path, before: int) -> int:
    """Wait until another process than `before` says it runs; its id, 0 when the run has ended."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        status = read_status(directory)
        pid = int(status.get("pid", 0))
        if pid != before and status.get("status") == "running":
            return pid
        if process.poll() is not None:
            return 0
        time.sleep(0.01)
    raise TimeoutError(f"no sign of life in {directory}")


def parents() -> dict[int, int]:
    """Process id -> id of its parent, of all processes."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            found[int(path.parent.name)] = int(path.read_text().rpartition(") ")[2].split()[1])
        except OSError:
            continue
    return found


def rank_processes(launcher: int) -> list[int]:
    """The ranks that torchrun has started."""
    return [pid for pid, parent in parents().items() if parent == launcher]


def train_undisturbed(plan: Plan, directory: Path) -> tuple[float, float]:
    """Train to the end; seconds from the first sign of life to the first checkpoint, and on."""
    process = start(plan, directory)
    await_life(process, directory, 0)
    began = time.monotonic()
    while not list(directory.glob("last_checkpoint_ep*.pth")) and process.poll() is None:
        time.sleep(0.01)
    first = time.monotonic()
    if process.wait() != 0:
        raise RuntimeError(directory.with_suffix(".log").read_text()[-2000:])
    return first - began, time.monotonic() - first


def train_killed(
    plan: Plan, directory: Path, kills: int, longest: float, rng: random.Random
) -> int:
    """Train to the end, killed up to `kills` times, up to `longest` seconds after a start.

    Returns how many kills struck a running process. With several ranks one of them is killed while
    torchrun may still start them again, else all.
    """
    struck, process, pid = 0, start(plan, directory), 0
    while struck < kills:
        pid = await_life(process, directory, pid)
        if not pid:
            if process.wait() == 0:
                break
            process = start(plan, directory)
            continue
        time.sleep(rng.uniform(0, longest))
        if process.poll() is not None:
            continue
        struck += 1
        ranks = rank_processes(process.pid) if plan.ranks > 1 else []
        if ranks and rng.random() < 0.7:
            try:
                os.kill(rng.choice(ranks), signal.SIGKILL)
            except ProcessLookupError:
                struck -= 1
        else:
            os.killpg(process.pid, signal.SIGKILL)
            for rank in ranks:  # each has a session of its own
                kill_session(rank)
            process.wait()
            process = start(plan, directory)
    while process.wait() != 0:
        if not read_status(directory):
            break
        process = start(plan, directory)
    return struck


def kill_session(pid: int) -> None:
    """SIGKILL to the session of `pid`, if it is still there."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def val_rows(directory: Path) -> list[str]:
    """The val rows of metrics.csv without their time."""
    lines = (directory / "metrics.csv").read_text().splitlines()
    return [line.rpartition(",timestamp,")[0] for line in lines if line.startswith("val")]


def differences(first: Any, second: Any, name: str = "") -> list[str]:
    """Names of the entries of two checkpoints that are not equal to the last bit."""
    if type(first) is not type(second):
        return [name]
    if isinstance(first, dict):
        names = sorted(first.keys() | second.keys(), key=str)
        if first.keys() != second.keys():
            return [f"{name}: other entries"]
        return [d for key in names for d in differences(first[key], second[key], f"{name}.{key}")]
    if isinstance(first, list | tuple):
        if len(first) != len(second):
            return [f"{name}: another length"]
        pairs = enumerate(zip(first, second, strict=True))
        return [d for key, (a, b) in pairs for d in differences(a, b, f"{name}[{key}]")]
    if isinstance(first, torch.Tensor):
        return [] if torch.equal(first, second) else [name]
    return [] if first == second else [name]


def compare(wanted: Path, got: Path) -> list[str]:
    """What is not as it should be in `got`, one line each."""
    problems = []
    names = [sorted(path.name for path in each.glob("*.pth")) for each in (wanted, got)]
    if names[0] != names[1]:
        return [f"checkpoints {names[1]}, wanted {names[0]}"]
    for name in names[0]:
        first, second = (torch.load(each / name, weights_only=True) for each in (wanted, got))
        del first["command"], second["command"]
        problems += [f"{name}: {text}" for text in differences(first, second)]
    rows = val_rows(wanted), val_rows(got)
    if rows[0] != rows[1]:
        problems.append(f"metrics.csv: {len(rows[1])} val rows, wanted {len(rows[0])}, or others")
    left = [path.name for path in got.rglob(".*") if PARTIAL.match(path.name)]
    problems += [f"{name} is left" for name in left]
    return problems


def try_kills(
    folder: Path, kills: int, ranks: int = 1, val_iters: int | None = None, seed: int = 0
) -> tuple[int, list[str]]:
    """Train twice below `folder`, once killed; how many kills struck, and what differs."""
    root = folder / "streets"
    write_synthetic(root, ScenePlan(size=(64, 128), train=12, val=4, test=2, seed=0))
    plan = Plan(root=root, epochs=kills + 4, ranks=ranks, val_iters=val_iters)
    (folder / "whole").mkdir()
    (folder / "killed").mkdir()
    before, after = train_undisturbed(plan, folder / "whole")
    longest = before + 1.5 * after / plan.epochs
    struck = train_killed(plan, folder / "killed", kills, longest, random.Random(seed))
    return struck, compare(folder / "whole", folder / "killed")


def main() -> int:
    """Print what was found; 0 if nothing differs."""
    parser = argparse.ArgumentParser(description="kill a training again and again")
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--val_iters", type=int, help="validate by steps, not by epochs")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        struck, problems = try_kills(
            Path(folder), args.kills, args.ranks, args.val_iters, args.seed
        )
        rows = len(val_rows(Path(folder) / "killed"))
    print("\n".join(problems))
    verdict = "different" if problems else "equal to the last bit"
    print(f"{struck} kills, {args.ranks} processes, {rows} val rows: {verdict}")
    return 1 if problems or not struck else 0


if __name__ == "__main__":
    sys.exit(main())
