# SPDX-License-Identifier: Apache-2.0
"""How a worker process starts, and when it ends: it serves one run and must not outlive it."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import threading
from collections.abc import Iterator

from runtime.heap import keep_freed_memory

GRACE_SECONDS = 30
LOOK_SECONDS = 1.0  # between two looks at whether the main process is still there

# A fork inherits objects that are garbage already, but not the threads that some of them own: a
# video decoder collected there would wait forever for its threads. So a child collects only what
# is its own, which also leaves the inherited memory shared.
os.register_at_fork(after_in_child=gc.freeze)


def set_up() -> None:
    """In a worker process for images: use one thread, keep freed memory, survive signals."""
    import cv2  # not for those who only want to know how a worker ends

    cv2.setNumThreads(0)
    keep_freed_memory()
    survive_signals()


@contextlib.contextmanager
def deaths_deferred() -> Iterator[None]:
    """Inside, which starts processes, the death of another one is noted; it is raised at the end.

    torch raises it as an error wherever the program is at that moment. In what Python calls around
    a fork the error would be printed and lost, with the lock of `logging` still held.
    """
    handler = signal.getsignal(signal.SIGCHLD)
    dead: list[int] = []
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield  # nobody asked, or no signal is handled in this thread
        return
    signal.signal(signal.SIGCHLD, lambda number, frame: dead.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, handler)
    if dead:
        handler(signal.SIGCHLD, None)


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
