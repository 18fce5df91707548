# SPDX-License-Identifier: Apache-2.0
"""A store for the processes of one start, even when torchrun starts them again.

torchrun keeps one key-value store for all starts of a run (`--max-restarts`). A process that joins
early would read addresses of dead processes from it, and wait for them for hours. So rank 0 invents
a name for this start, which prefixes all of its keys, and hands it to each rank that announces
itself with a word never used before.
"""

from __future__ import annotations

import os
import time
import uuid

from torch.distributed.distributed_c10d import PrefixStore, Store

PAUSE = 0.02  # seconds between two queries


def of_this_start(store: Store, rank: int, size: int, seconds: float) -> Store:
    """`store`, with a prefix for this start if a launcher keeps it for several starts.

    Collective. TimeoutError when not all `size` ranks come within `seconds`.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return store
    deadline = time.monotonic() + seconds
    name = uuid.uuid4().hex
    if rank:
        name = _ask(store, rank, deadline)
    else:
        _answer(store, name, size, deadline)
    return PrefixStore(f"hiseg/start/{name}", store)


def _ask(store: Store, rank: int, deadline: float) -> str:
    """Announce this rank, wait for the name, confirm it."""
    word = uuid.uuid4().hex
    store.set(f"hiseg/word/{rank}", word)
    while not store.check([f"hiseg/answer/{word}"]):
        _wait(deadline)
    name = bytes(store.get(f"hiseg/answer/{word}")).decode()
    store.set(f"hiseg/joined/{name}/{rank}", "")
    return name


def _answer(store: Store, name: str, size: int, deadline: float) -> None:
    """Give `name` to every rank that announces itself, until all other ranks have confirmed it.

    The last word of a rank may be that of a dead process: only the confirmation counts.
    """
    missing = set(range(1, size))
    while True:
        for rank in sorted(missing):
            if store.check([f"hiseg/word/{rank}"]):
                word = bytes(store.get(f"hiseg/word/{rank}")).decode()
                store.set(f"hiseg/answer/{word}", name)
        missing = {rank for rank in missing if not store.check([f"hiseg/joined/{name}/{rank}"])}
        if not missing:
            return
        _wait(deadline)


def _wait(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError("the processes of this run did not all start")
    time.sleep(PAUSE)
