# SPDX-License-Identifier: Apache-2.0
"""Which network is built, and from which weights it starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from settings.declare import BOTH, IN_FILE, SEGMENT, UNRELATED, Group, Need, setting
from settings.needs import SNAPSHOT, TRAINS


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """Which network, and the file that its weights come from."""

    GROUP: ClassVar[Group] = Group(title="network", task=BOTH, resume=UNRELATED)

    arch: str = setting(
        "ocrnet.HRNet_Mscale",
        "--arch",
        help="network, module.Function; `help` lists all",
        inherited=True,
        resume=IN_FILE,
    )
    snapshot: str | None = setting(
        None,
        "--snapshot",
        path=True,
        help="load the weights of a file or folder, any known layout, or of a name to fetch: "
        "hf:REPO[@REV], timm:NAME, torchvision:NAME, https://...",
        metavar="FILE",
    )
    snapshot_pe: str | None = setting(
        None,
        "--snapshot_pe",
        path=True,
        help="take only the position tables of a checkpoint",
        metavar="FILE",
        needs=TRAINS,
        excludes=("snapshot", "resume"),
        task=SEGMENT,
    )
    allow_partial: str = setting(
        "",
        "--allow_partial",
        help="prefixes of keys of --snapshot that need not fit the network",
        metavar="P,P",
        needs=SNAPSHOT,
    )
    from_run: str | None = setting(
        None,
        "--from_run",
        path=True,
        help="network and evaluation settings of DIR/run.json",
        metavar="DIR",
        decides=False,
    )
    restore_optimizer: bool = setting(
        False,
        "--restore_optimizer",
        help="take the optimiser's state of --snapshot too",
        needs=Need(
            lambda s: s.network.snapshot and not s.inference.eval, "--snapshot, in training"
        ),
    )
