# SPDX-License-Identifier: Apache-2.0
"""How a program ends: exit code, one line for the user, and the run's `status.json`.

0 done; 2 the user's input is wrong, a file cannot be written, or memory is short (one `error:`
line, no traceback); 3 the run failed (traceback on stderr, one line on stdout); 130 interrupted,
after saving.

Of several ranks the first one to end says why; the others, whose communication breaks, repeat it.
"""

from __future__ import annotations

import dis
import errno
import json
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import ClassVar

from runtime import distributed
from runtime.errors import Diverged, wrong_input
from runtime.memory import available, free_text, is_out_of_memory
from runtime.progress import Progress
from runtime.runlog import RunLog

DONE, WRONG, FAILED, INTERRUPTED = 0, 2, 3, 130
RAISE = dis.opmap["RAISE_VARARGS"]
# What torch says about a process that loads, and `reports.writers` about one that writes.
DEAD = r"(DataLoader worker|writer process) \(pid(?:\(s\))? ([\d, ]+)\) (.*)"
ALLOCATE = r"[Aa]llocate ([\d.]+ (?:bytes|[KMGTPE]i?B))"  # in what torch and NumPy say
ROOT = Path(__file__).resolve().parent.parent
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO)
SILENT = "another process ended without a message (killed, out of memory?): see its output"


class Interrupted(Exception):
    """SIGTERM or SIGINT arrived and everything worth keeping has been saved."""


class StopFlag:
    """Set by SIGTERM and SIGINT; the loop looks at it between steps and saves first.

    A second SIGINT stops at once.
    """

    current: ClassVar[StopFlag | None] = None

    def __init__(self) -> None:
        self.is_set = False
        StopFlag.current = self
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.is_set and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.is_set = True


def stop_between(progress: Progress) -> Progress:
    """`progress` of a validation, which ends it between two batches when the run has to stop.

    The checkpoint has already been written, so Interrupted costs no training.
    """

    def report(done: int, total: int | None) -> None:
        if StopFlag.current is not None and StopFlag.current.is_set:
            raise Interrupted("stopped in a validation, saved before it; --resume auto goes on")
        progress(done, total)

    return report


@dataclass(frozen=True)
class Ending:
    """How a run ends: `state` as in status.json, and the exit code."""

    state: str
    code: int
    reason: str

    def show(self) -> None:
        """The last line of the program."""
        if self.code == WRONG:
            wrong_input(self.reason)
        else:
            print(f"{self.state}: {self.reason[:500]}", flush=True)


class Outcome:
    """Handed to the main function, which sets its log here once there is one."""

    def __init__(self) -> None:
        self.log: RunLog | None = None

    def report(self, state: str, reason: str) -> None:
        if self.log is not None:
            self.log.status(state, reason)


def one_line(error: BaseException) -> str:
    """The message on one line, without the traceback that a data-loader worker wraps around it."""
    text = str(error)
    if "Original Traceback" in text:
        last = [line for line in text.strip().splitlines() if re.match(r"^[\w.]+: ", line)]
        text = last[-1].split(": ", 1)[1] if last else text
    return " ".join(text.split())


def _is_ours(file: str) -> bool:
    """Whether a source file belongs to this project, whose environment may lie inside it."""
    path = Path(file)
    return path.is_relative_to(ROOT) and "site-packages" not in path.parts


def is_users(error: BaseException) -> bool:
    """Whether a ValueError was written for the user: by this project, not by a library.

    Our own types are, and so is a plain ValueError raised by our code, in a loader process too.
    Others (a text that cannot be encoded, a number too large for a library) are faults of this
    program.
    """
    if not isinstance(error, ValueError):
        return False
    if type(error) is not ValueError:
        module = sys.modules.get(type(error).__module__)
        return _is_ours(getattr(module, "__file__", None) or "")
    text = str(error)
    if "Original Traceback" in text:
        frames = re.findall(r'^ *File "([^"]+)", line \d+.*\n +(\w+)', text, re.MULTILINE)
        return bool(frames) and frames[-1][1] == "raise" and _is_ours(frames[-1][0])
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None:
        return False
    code = last.tb_frame.f_code
    was_raised_here = code.co_code[last.tb_lasti] == RAISE  # not by a function without a frame
    return was_raised_here and _is_ours(code.co_filename)


def _unwritable(error: BaseException) -> str:
    """The line for a file that cannot be written or read; "" for every other error."""
    if not isinstance(error, OSError) or error.errno not in (*FULL, *UNWRITABLE):
        return ""
    what = f"{error.filename or 'a file'}: {error.strerror}"
    return f"{what}; free some space" if error.errno in FULL else what


def _shortage(error: BaseException) -> str:
    """The line for memory that was not there, with the file of this project that asked for it."""
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    ours = [str(Path(file).relative_to(ROOT)) for file in files if _is_ours(file)]
    amount = re.search(ALLOCATE, one_line(error))
    parts = [f"{amount[1]} more wanted"] if amount else []
    if ours:
        parts.append(f"by {ours[-1]}")
    left = available()
    if left is not None and "CUDA" not in str(error):
        parts.append(free_text(left))
    return (
        f"not enough memory ({', '.join(parts)}); take a smaller network, batch or crop, or a "
        "machine with more memory"
    )


def _dead_worker(error: BaseException) -> str:
    """The line for a loader or writer process that ended; "" for every other error."""
    texts = [one_line(each) for each in (error, error.__cause__, error.__context__) if each]
    matches = [re.search(DEAD, text) for text in texts]
    known = sorted(filter(None, matches), key=lambda match: "by signal" in match[3])
    if not isinstance(error, RuntimeError) or matches[0] is None:
        return ""
    found = known[-1]  # "exited unexpectedly" may have a cause that says more
    kind, how = "loader" if "Loader" in found[1] else "writer", found[3]
    how = how.split("Details are lost")[0].rstrip(". ")
    way = "out of memory? fewer --num_workers or a smaller batch need less"
    if "Bus error" in how:
        how, way = "is killed by signal: Bus error", "raise /dev/shm (docker --shm-size)"
    trains = StopFlag.current is not None
    return f"{kind} process {found[2]} {how}; {way}" + ("; --resume auto goes on" if trains else "")


def _is_broken_group(error: BaseException) -> bool:
    """Whether `error` is what the communication between ranks raises when one of them is gone."""
    words = r"gloo|nccl|closed by peer|reset by peer|broken pipe|process group|ProcessGroup"
    return isinstance(error, RuntimeError) and bool(re.search(words, str(error), re.IGNORECASE))


def _ending(error: BaseException) -> tuple[Ending, bool]:
    """How `error` ends this rank, and whether its traceback says more than the line."""
    if isinstance(error, Interrupted | KeyboardInterrupt):
        return Ending("interrupted", INTERRUPTED, one_line(error) or "interrupted"), False
    if is_users(error):
        return Ending("failed", WRONG, one_line(error)), False
    told = distributed.told_ending()
    if told:  # another rank ended first, and this one only noticed
        return Ending(**json.loads(told)), False
    if StopFlag.current is not None and StopFlag.current.is_set:
        # The signal reached worker processes too, and ended one while something other than
        # a training step was running: the last checkpoint is what a resume starts from.
        reason = "stopped outside of training steps; --resume auto goes on"
        return Ending("interrupted", INTERRUPTED, reason), False
    if isinstance(error, Diverged):
        return Ending("failed", FAILED, one_line(error)), False
    unwritable, dead = _unwritable(error), _dead_worker(error)
    if unwritable or is_out_of_memory(error):
        return Ending("failed", WRONG, unwritable or _shortage(error)), False
    if dead:
        return Ending("failed", FAILED, dead), False
    reason = f"{type(error).__name__}: {one_line(error)}"
    if _is_broken_group(error):
        reason = f"{SILENT} ({reason})"
    return Ending("failed", FAILED, reason), True


def _interrupt(number: int, frame: FrameType | None) -> None:
    """SIGTERM outside a training: there is nothing to save, so the program ends at once."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a launcher repeats it while we note the end
    raise KeyboardInterrupt("stopped by SIGTERM")


def run(main: Callable[[Outcome], int]) -> int:
    """Call `main`, turn how it ends into the exit code, leave the process group."""
    outcome = Outcome()
    in_main_thread = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _interrupt) if in_main_thread else None
    try:
        return main(outcome)
    except (Exception, KeyboardInterrupt) as error:
        ending, has_traceback = _ending(error)
        if ending.code == INTERRUPTED and (told := distributed.told_ending()):
            ending = Ending(**json.loads(told))  # a launcher stops the others when one has failed
        distributed.tell_ending(json.dumps(asdict(ending)))
        outcome.report(ending.state, ending.reason)
        if has_traceback:
            traceback.print_exc()
        ending.show()
        return ending.code
    finally:
        if outcome.log is not None:
            outcome.log.close()
        distributed.leave()
        if in_main_thread:
            StopFlag.current = None
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
