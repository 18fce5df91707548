# SPDX-License-Identifier: Apache-2.0
"""The weights that settings name, brought to this machine once for all processes of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from assembly.snapshot import Snapshot
from network.fetch import Fetched, fetch
from runtime import distributed
from runtime.distributed import World
from runtime.errors import UserError
from runtime.remote import is_remote
from settings import Settings

FETCHED = "fetched"  # entry of checkpoints and run.json
Names = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Where the files of `--snapshot` and `--pretrained` came from, and where they lie now.

    found: by the name of the setting, what was fetched. kept: what a resumed checkpoint says about
    a start that lies behind it.
    """

    found: dict[str, Fetched] = field(default_factory=dict)
    kept: dict[str, Names] = field(default_factory=dict)

    @property
    def facts(self) -> dict[str, dict[str, Names]]:
        """The entry of a checkpoint and of run.json: typed names and their revisions."""
        facts = self.kept | {
            setting: {"name": each.name, "revision": each.revision}
            for setting, each in self.found.items()
        }
        return {FETCHED: facts} if facts else {}

    def localised(self, settings: Settings) -> Settings:
        """`settings` with a file of this machine in place of each remote name.

        A start that lies behind a resumed checkpoint needs no weights any more.
        """
        network, model = settings.network, settings.MODEL
        if found := self.found.get("snapshot"):
            network = replace(network, snapshot=found.path)
        if is_remote(model.pretrained):
            start = self.found.get("pretrained")
            model = replace(model, pretrained=start.path if start else "")
        return replace(settings, network=network, MODEL=model)


def fetch_weights(
    settings: Settings, world: World, tell: Callable[[str], None], resumed: Snapshot | None = None
) -> Weights:
    """Fetch what `--snapshot` and `--pretrained` name; collective.

    Nothing is fetched for `--pretrained` where `resumed` holds what became of it. Raises UserError
    on every rank if any rank cannot get the weights.
    """
    names = {"snapshot": settings.network.snapshot or ""}
    kept: dict[str, Any] = {}
    if resumed is None:
        names["pretrained"] = settings.MODEL.pretrained
    else:
        kept = resumed.facts.get(FETCHED, {})
    found = {
        setting: fetch_once(f"--{setting} ", name, world, tell)
        for setting, name in names.items()
        if is_remote(name)
    }
    return Weights(found=found, kept=kept)


def fetch_once(flag: str, name: str, world: World, tell: Callable[[str], None]) -> Fetched:
    """`name` on this machine; rank 0 downloads while the others wait; collective.

    On machines that do not share its disk the first rank of each follows, then the rest of it;
    they must find the same revision. `flag` begins the lines.
    """
    first = _turn((lambda: fetch(name, tell)) if world.is_main else None, flag)[0]
    assert first is not None
    tell(flag + first.line())
    same = partial(_same, first, tell)
    is_here, leads = Path(first.path).exists(), world.local_rank == 0
    led = _turn(same if leads and not is_here else None, flag)[world.rank]
    followed = _turn(same if not leads and not is_here else None, flag)[world.rank]
    return led or followed or first


def _same(first: Fetched, tell: Callable[[str], None]) -> Fetched:
    """The weights `first` of rank 0 on another machine."""
    found = fetch(first.name, tell)
    if found.revision != first.revision:
        raise UserError(f"{first.name} is {found.revision} here, {first.revision} on rank 0")
    return found


def _turn(work: Callable[[], Fetched] | None, flag: str) -> list[Fetched | None]:
    """What `work` gives on each rank, None where there is none; collective.

    UserError on all ranks if it fails on one.
    """
    found, problem = None, ""
    if work is not None:
        try:
            found = work()
        except UserError as error:
            problem = str(error)
    every: list[tuple[Fetched | None, str]] = distributed.gather_objects((found, problem))
    for _, text in every:
        if text:
            raise UserError(flag + text)
    return [each for each, _ in every]
