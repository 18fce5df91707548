# SPDX-License-Identifier: Apache-2.0
"""Turn a runx farm submission into a Slurm job: torchrun on every node, started by srun.

    submit_job --nodes 2 --gpu 8 --partition P --name N --command ' cd D; exec python train.py '
               --logdir DIR [--KEY VALUE ...]

runx calls it for a farm whose name contains `draco` (docs/cluster.md). DIR receives job.sbatch,
node.sh (what each node runs) and, from Slurm, the output of the job. Options not known here
become `#SBATCH --KEY=VALUE`. Standard library only: it runs on a login node.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

# Everything before the interpreter, the interpreter, a launcher of one node, the program.
COMMAND = re.compile(
    r"(?P<before>(?:.*?[;&\s])?)(?P<python>[^\s;&]*python[\d.]*)\s+"
    r"(?P<launcher>-m\s+torch\.distributed\.(?:launch|run)(?:\s+--\S+)*\s+)?"
    r"(?P<program>\S+\.py(?:\s.*)?)",
    re.DOTALL,
)
PER_NODE = re.compile(r"--nproc[_-]per[_-]node[=\s](\d+)")

JOB = """\
#!/bin/bash
# Written by scripts/submit_job; node.sh beside it is what every node runs.
{directives}

MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_ADDR MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
srun --ntasks-per-node=1 --kill-on-bad-exit=1 bash {node}
"""

LAUNCHER = (
    "-m torch.distributed.run --nnodes=$SLURM_JOB_NUM_NODES --node_rank=$SLURM_NODEID "
    "--nproc_per_node={processes} --master_addr=$MASTER_ADDR --master_port=$MASTER_PORT"
)


class SubmitError(Exception):
    """The submission cannot become a job; the message says why in one line."""


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are one line, which runx shows."""

    def error(self, message: str) -> NoReturn:
        raise SubmitError(" ".join(message.split()))


@dataclass(frozen=True, kw_only=True)
class Request:
    """What runx asks for; gpu, cpu, mem, duration: per node, hours, None to leave it to Slurm."""

    command: str
    logdir: Path
    name: str
    nodes: int
    gpu: int | None
    cpu: int | None
    mem: int | None
    duration: float | None
    image: str | None


def number(kind: type, low: float, high: float) -> Callable[[str], float]:
    """A converter of numbers `low`..`high`."""

    def convert(text: str) -> float:
        try:
            value: float = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            name = "whole number" if kind is int else "number"
            shown = text if len(text) <= 40 else f"{text[:37]}..."
            raise argparse.ArgumentTypeError(
                f"{shown}: a {name} of at least {low} and at most {high} wanted"
            )
        return value

    return convert


def parse(argv: Sequence[str]) -> tuple[Request, list[str]]:
    """Known options, and all others as the text behind `#SBATCH `."""
    parser = _Parser(prog="submit_job", allow_abbrev=False)
    parser.add_argument("--command", required=True, help="the command of the run, shell text")
    parser.add_argument("--logdir", required=True, type=Path, help="where job files and output go")
    parser.add_argument("--name", default="hiseg", help="name of the job")
    parser.add_argument("--nodes", type=number(int, 1, 10**6), default=1, help="number of nodes")
    parser.add_argument(
        "--gpu", type=number(int, 0, 1024), help="GPUs and processes per node; 0: none"
    )
    parser.add_argument("--cpu", type=number(int, 0, 65536), help="CPU cores per node")
    parser.add_argument("--mem", type=number(int, 0, 10**6), help="memory per node, GB")
    parser.add_argument("--duration", type=number(float, 0, 87600), help="time limit, hours")
    parser.add_argument("--image", help="not used: Slurm runs the environment you submit from")
    found, unknown = parser.parse_known_args(argv)
    return Request(**vars(found)), passed_on(unknown)


def passed_on(words: Sequence[str]) -> list[str]:
    """`--key value`, `--key=value` and bare `--key` as Slurm options."""
    options: list[str] = []
    for word in words:
        if word.startswith("--"):
            options.append(word)
        elif options and "=" not in options[-1]:
            options[-1] += f"={word}"
        else:
            raise SubmitError(f"{word!r} belongs to no option")
    return options


def node_command(command: str, processes: int | None) -> tuple[str, int]:
    """`command` with torchrun over the nodes as its launcher, and the processes per node.

    A launcher that is there is replaced; its number of processes counts when `processes`
    (the GPUs) is None or 0.
    """
    match = COMMAND.fullmatch(command.strip())
    if match is None:
        raise SubmitError(f"no `python PROGRAM.py` in the command: {command.strip()}")
    count = processes
    if not count:
        named = PER_NODE.search(match["launcher"] or "")
        count = int(named[1]) if named else 1
    launcher = LAUNCHER.format(processes=count)
    return f"{match['before']}{match['python']} {launcher} {match['program']}", count


def directives(request: Request, more: Sequence[str]) -> list[str]:
    """The `#SBATCH` options; TERM comes early, so that training saves before the end."""
    options = [
        f"--job-name={request.name}",
        f"--nodes={request.nodes}",
        "--ntasks-per-node=1",
        f"--output={request.logdir.resolve()}/%j.out",
        "--open-mode=append",
        "--signal=TERM@120",
    ]
    if request.gpu:
        options.append(f"--gres=gpu:{request.gpu}")
    if request.cpu:
        options.append(f"--cpus-per-task={request.cpu}")
    if request.mem:
        options.append(f"--mem={request.mem}G")
    if request.duration:
        # in minutes; 0 would mean no limit
        options.append(f"--time={max(1, round(60 * request.duration))}")
    broken = [option for option in (*options, *more) if re.search(r"[\x00-\x1f]", option)]
    if broken:  # what follows a line break would be a command of the job
        raise SubmitError(f"{broken[0]!r}: an option of Slurm is one line of text")
    return [*options, *more]


def write_job(request: Request, more: Sequence[str]) -> Path:
    """Write node.sh and job.sbatch to the log directory; returns the latter.

    SubmitError where they cannot be written.
    """
    command, _ = node_command(request.command, request.gpu)
    try:
        folder: Path = request.logdir.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        node, job = folder / "node.sh", folder / "job.sbatch"
        lines = "\n".join(f"#SBATCH {option}" for option in directives(request, more))
        text = JOB.format(directives=lines, node=shlex.quote(str(node)))
        node.write_bytes(os.fsencode(f"#!/bin/bash\n{command}\n"))
        job.write_bytes(os.fsencode(text))
    except (OSError, RuntimeError, ValueError) as error:  # the last two: loops of links, NUL
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        shown = str(request.logdir)
        shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
        raise SubmitError(f"--logdir {shown} cannot be written: {reason}") from error
    return job


def submit(job: Path) -> str:
    """Hand the job to Slurm; what sbatch says."""
    try:
        done = subprocess.run(["sbatch", str(job)], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise SubmitError(f"sbatch is not on the PATH; the job is {job}") from None
    if done.returncode:
        raise SubmitError(f"sbatch refused {job}: {' '.join(done.stderr.split())}")
    return done.stdout.strip()


def main(argv: Sequence[str] | None = None) -> int:
    """Write and submit the job; exit code 2 with one line on stdout when that fails."""
    try:
        request, more = parse(sys.argv[1:] if argv is None else argv)
        job = write_job(request, more)
        if request.image:
            print(
                f"--image {request.image} is not used; pass container options of your Slurm instead"
            )
        print(f"{submit(job)} ({job})")
    except SubmitError as error:
        print(f"error: {error}")  # runx shows stderr only at the end
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
