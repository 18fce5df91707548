# SPDX-License-Identifier: Apache-2.0
"""From the command line of a deploy program to a network with its weights and its classes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from assembly.network import build_network
from assembly.prediction import named_classes
from assembly.snapshot import adopted, read_snapshot
from datasets.spec import DatasetSpec
from network.build import is_classifier
from network.contract import Network
from network.convert.hub import weights_file
from network.fetch import fetch
from network.height_gates import attention_blocks
from runtime.errors import UserError
from runtime.runlog import RunLog
from settings import Settings, catalogue
from settings.keywords import WHOLE_FOLDER, folder_settings

# Groups of settings that say which network it is, and single flags of other groups that do.
NETWORK_GROUPS = (
    "network",
    "network options",
    "height attention",
    "inter-level attention",
    "data roots",
)
NETWORK_FLAGS = ("dataset", "no_pos_dataset", "set", "task")
SHARED_FLAGS = (
    "Flags of eval.py that say which network it is also count: --snapshot, --arch, --dataset, "
    "--n_scales, --allow_partial, --from_run, --set and all options of networks."
)


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A network in eval mode on the CPU, its classes, and the file it came from."""

    net: Network
    spec: DatasetSpec
    settings: Settings
    file: Path

    @property
    def takes_rows(self) -> bool:
        """Whether the network is told the rows of its images."""
        return bool(attention_blocks(self.net)) and not self.settings.data.no_pos_dataset


def network_settings(shared: Sequence[str], prog: str) -> Settings:
    """The settings of the flags that are shared with eval.py; UserError as in `check_useful`."""
    settings = folder_settings(shared, prog)
    check_useful(settings, prog)
    return settings


def check_useful(settings: Settings, prog: str, also: Collection[str] = NETWORK_FLAGS) -> None:
    """Raise UserError for a flag without effect: it tells of no network and is not in `also`."""
    for name in sorted(settings.given - {*WHOLE_FOLDER, *also}):
        known = catalogue().get(name)
        if known is None or known.title not in NETWORK_GROUPS:
            raise UserError(f"--{name} has no effect on {prog}; leave it out")


def load(settings: Settings, folder: Path) -> Loaded:
    """The network of `--snapshot`; `folder` is one that may be written.

    UserError without a snapshot, for a classifier, and for a file that does not name its classes
    where no `--dataset` does.
    """
    if not settings.network.snapshot:
        raise UserError("an export needs weights: --snapshot FILE or --from_run DIR")
    path = fetch(settings.network.snapshot, print).path
    snapshot = read_snapshot(path)
    assert snapshot is not None
    refuse_classifier(path, str(snapshot.facts.get("arch", "")))
    settings = adopted(settings, snapshot)
    refuse_classifier(path, settings.network.arch)
    spec = named_classes(settings, snapshot)
    log = RunLog(folder, is_main=True)
    net = build_network(
        settings, spec.num_classes, log, snapshot, class_names=spec.class_names
    ).eval()
    assert isinstance(net, Network)
    file = Path(path)
    file = weights_file(file) if file.is_dir() else file
    return Loaded(net=net.requires_grad_(False), spec=spec, settings=settings, file=file)


def refuse_classifier(path: str, arch: str) -> None:
    """Raise UserError if `arch` gives no class map."""
    if arch and is_classifier(arch):
        raise UserError(f"--snapshot {path}: {arch} classifies whole images and gives no class map")
