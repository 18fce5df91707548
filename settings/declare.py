# SPDX-License-Identifier: Apache-2.0
"""How a setting is declared: once, as a field of a frozen dataclass.

    @dataclass(frozen=True, kw_only=True)
    class OptimiserSettings:
        GROUP: ClassVar = Group("optimisation", task=BOTH)

        lr: float = setting(0.002, "--lr", bounds=POSITIVE_RATE, help="base learning rate")

The parser, `--help`, docs/flags.md, `--set`, `paths.yml`, the environment, `--from_run`, the checks
of useless settings, the rules of `--resume` and the tree `cfg` are made from these fields.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from settings.tree import Settings

Task = Literal["segment", "classify", "both"]
SEGMENT: Task = "segment"
CLASSIFY: Task = "classify"
BOTH: Task = "both"

METADATA = "setting"  # key of a `Declaration` in the metadata of a dataclass field


class Resume(enum.Enum):
    """What `--resume` does where a setting differs from that of the checkpoint."""

    APPLIED = "read anew at every step, batch, epoch or validation: holds from there on"
    BETWEEN_EPOCHS = "says what an epoch draws: refused inside an epoch"
    REFUSED = "the state would not fit, or the training become another one: refused"
    IN_FILE = "refused by a comparison with an entry of the file of its own"
    UNRELATED = "decides nothing about a training that goes on"


APPLIED, BETWEEN_EPOCHS, REFUSED = Resume.APPLIED, Resume.BETWEEN_EPOCHS, Resume.REFUSED
IN_FILE, UNRELATED = Resume.IN_FILE, Resume.UNRELATED


class Bounds(NamedTuple):
    """A finite range of numbers, inclusive; `above`: the lower end is excluded."""

    low: float
    high: float
    above: bool = False


class Need(NamedTuple):
    """Without `holds` a setting has no effect; `text` says what the user must add."""

    holds: Callable[[Settings], object]
    text: str


@dataclass(frozen=True, kw_only=True)
class Group:
    """What the settings of one dataclass have in common.

    task: who reads them. resume: see `Resume`. decides: whether another value makes another
    dumped file, so that an interrupted dump starts anew.
    """

    title: str
    task: Task = SEGMENT
    resume: Resume = APPLIED
    decides: bool = True


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """Everything about one setting but its name, type and default.

    flags: spellings on the command line, the first is the name that users know; none: a key alone.
    help: what it does. bounds: of a number, or of each in a tuple. choices: all values there are.
    parse: text of the command line to value, where type and bounds do not say it; raises
    `argparse.ArgumentTypeError`. check: value to what is wrong with it, whatever its source; None:
    nothing. words: several words may follow the flag. counts: how many values a tuple of no fixed
    length may have. empty: an empty list may be given. repeated: the flag may stand several times.
    path: a file or folder. folder: one that a relative path of `paths.yml` counts from the project.
    some_above_zero: not all of them 0. metavar: what help calls the value; several: so many words
    follow the flag, one per value.
    needs: without it the setting has no effect. excludes: flags that contradict it. idle: the
    default, spelled out, counts as left out (True), or such a value. classify: the default with
    `--task classify`. inherited: an evaluation takes it over from the run of `--from_run`.
    task, resume, decides: where they differ from those of the group.
    """

    flags: tuple[str, ...] = ()
    help: str = ""
    bounds: Bounds | None = None
    choices: tuple[str, ...] = ()
    parse: Callable[[str], object] | None = None
    check: Callable[[Any], str | None] | None = None
    words: bool = False
    counts: tuple[int, ...] = ()
    empty: bool = False
    repeated: bool = False
    path: bool = False
    folder: bool = False
    some_above_zero: bool = False
    metavar: str | tuple[str, ...] | None = None
    needs: Need | None = None
    excludes: tuple[str, ...] = ()
    idle: object = False
    classify: object = None
    inherited: bool = False
    task: Task | None = None
    resume: Resume | None = None
    decides: bool | None = None


def setting(default: Any, *flags: str, **facts: Any) -> Any:
    """A field of a settings dataclass; `facts` are those of `Declaration`.

    TypeError for an unknown fact.
    """
    declared = Declaration(flags=flags, **facts)
    return dataclasses.field(default=default, metadata={METADATA: declared})
