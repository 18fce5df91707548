# SPDX-License-Identifier: Apache-2.0
"""What worker processes do about signals, and about the end of the process that they work for."""

from __future__ import annotations

import os
import signal
import threading

GRACE_SECONDS = 30
LOOK_SECONDS = 1.0  # between two looks at whether the main process is still there


def survive_signals() -> None:
    """In a worker process: outlive the signals that a whole run receives, but not the run.

    Ctrl-C, Slurm and torchrun signal every process of a run: a worker that died of it would take
    the run down before it has saved. So SIGINT is left to the main process, and SIGTERM ends a
    worker only `GRACE_SECONDS` later, unless the main process itself sent it. A worker whose main
    process is gone ends by itself.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_await_end, args=(os.getppid(),), daemon=True).start()


def _await_end(main_process: int) -> None:
    """Take every SIGTERM of a worker process; only here does the kernel tell who sent it."""
    while True:
        found = signal.sigtimedwait({signal.SIGTERM}, LOOK_SECONDS)
        if found is not None and found.si_pid == main_process:
            os._exit(0)
        if os.getppid() != main_process:
            os._exit(1)
        if found is not None:
            signal.alarm(GRACE_SECONDS)
