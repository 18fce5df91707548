# SPDX-License-Identifier: Apache-2.0
"""Run the real programs as a user would, on a tiny network."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Four channels, one module and block a stage: seconds on one core, all code paths.
TINY = [
    "--arch", "ocrnet.HRNet_Mscale",
    "--set", "MODEL.hrnet_width=4",
    "--set", "MODEL.hrnet_modules=1,1,1",
    "--set", "MODEL.hrnet_blocks=1",
    "--set", "MODEL.ocr_mid_channels=16",
    "--set", "MODEL.ocr_key_channels=8",
    "--segattn_bot_ch", "8",
]  # fmt: skip


def environment(**extra: str) -> dict[str, str]:
    """The caller's environment without HISEG_ settings, one thread a process."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HISEG_")}
    return {**kept, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **extra}


def command(program: str, *flags: str, ranks: int = 1) -> list[str]:
    """The argument list that starts `program`, under the launcher for several ranks."""
    launcher = []
    if ranks > 1:
        launcher = ["-m", "torch.distributed.run", f"--nproc_per_node={ranks}"]
        launcher += ["--master_port=0", "--standalone"][1:]
    return [sys.executable, *launcher, program, *flags]


def run(
    program: str, *flags: str, ranks: int = 1, timeout: float = 300, **extra: str
) -> subprocess.CompletedProcess[str]:
    """Run `program` to its end from the project root; stdout and stderr as text."""
    return subprocess.run(
        command(program, *flags, ranks=ranks),
        cwd=ROOT,
        env=environment(**extra),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def free_port() -> str:
    """A port of this machine that nobody uses at the moment."""
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        return str(own.getsockname()[1])


def street_flags(root: Path, directory: Path) -> list[str]:
    """Flags that read the synthetic streets below `root` and write below `directory` alone."""
    return [
        "--dataset", "synthetic", "--set", f"DATASET.SYNTHETIC_DIR={root}", "--num_workers", "0",
        "--set", f"DATASET.CENTROID_ROOT={directory}/centroids", "--result_dir", str(directory),
    ]  # fmt: skip


def assert_one_line_error(result: subprocess.CompletedProcess[str], *words: str) -> str:
    """The program ended with exit code 2 and one `error:` line holding all `words`."""
    shown = f"exit code {result.returncode}\n{result.stdout}\n{result.stderr}"
    assert result.returncode == 2, shown
    lines = [line for line in result.stdout.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, shown
    assert lines[0] in result.stderr.splitlines(), shown
    assert "Traceback" not in result.stdout + result.stderr, shown
    for word in words:
        assert word in lines[0], f"{word!r} not in {lines[0]!r}"
    return lines[0]
