# SPDX-License-Identifier: Apache-2.0
"""How a program ends: exit code, one line for the user, and the run's `status.json`.

0 done; 2 the user's input is wrong (one `error:` line, no traceback); 3 the run failed
(traceback on stderr, one line on stdout); 130 interrupted, after saving.
"""

from __future__ import annotations

import re
import signal
import traceback
from collections.abc import Callable
from types import FrameType
from typing import ClassVar

from config import wrong_input
from runtime import distributed
from runtime.runlog import RunLog

DONE, FAILED, INTERRUPTED = 0, 3, 130


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


class Outcome:
    """Handed to the main function, which names its log here once there is one."""

    def __init__(self) -> None:
        self.log: RunLog | None = None

    def report(self, state: str, reason: str) -> None:
        if self.log is not None:
            self.log.status(state, reason)


def one_line(error: BaseException) -> str:
    """The message on one line; without the traceback a data-loader worker wraps around it."""
    text = str(error)
    if "Original Traceback" in text:
        last = [line for line in text.strip().splitlines() if re.match(r"^[\w.]+: ", line)]
        text = last[-1].split(": ", 1)[1] if last else text
    return " ".join(text.split())


def run(main: Callable[[Outcome], int]) -> int:
    """Call `main`, turn how it ends into the exit code, leave the process group."""
    outcome = Outcome()
    try:
        return main(outcome)
    except (Interrupted, KeyboardInterrupt) as error:
        reason = one_line(error) or "interrupted"
        outcome.report("interrupted", reason)
        print(f"interrupted: {reason}", flush=True)
        return INTERRUPTED
    except ValueError as error:
        reason = one_line(error)
        outcome.report("failed", reason)
        return wrong_input(reason)
    except Exception as error:
        if StopFlag.current is not None and StopFlag.current.is_set:
            # The signal reached worker processes too, and ended one while something else than
            # a training step was running: the last checkpoint is what there is to go on from.
            reason = "stopped outside of training steps; --resume auto goes on"
            outcome.report("interrupted", reason)
            print(f"interrupted: {reason}", flush=True)
            return INTERRUPTED
        reason = f"{type(error).__name__}: {one_line(error)}"
        outcome.report("failed", reason)
        traceback.print_exc()
        print(f"failed: {reason[:500]}", flush=True)
        return FAILED
    finally:
        if outcome.log is not None:
            outcome.log.close()
        distributed.leave()
