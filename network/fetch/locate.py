# SPDX-License-Identifier: Apache-2.0
"""From a name that a user typed to weights on this machine."""

from __future__ import annotations

from network.fetch.hub import fetch_hub
from network.fetch.libraries import fetch_timm, fetch_torchvision
from network.fetch.place import Fetched, Tell
from network.fetch.web import fetch_address
from runtime.errors import UserError
from runtime.remote import HUB, SCHEMES, TIMM, TORCHVISION, WEB, is_remote


def _silent(text: str) -> None:
    """For callers without a log."""


def fetch(name: str, tell: Tell = _silent) -> Fetched:
    """The weights that `name` stands for, downloaded if they are not there yet.

    tell: receives lines about a download. Raises UserError, one line, for a name that means
    nothing, and for weights that are neither here nor within reach.
    """
    if not is_remote(name):
        return Fetched(name=name, path=name)
    if name.startswith(HUB):
        return fetch_hub(name)
    if name.startswith(TIMM):
        return fetch_timm(name, tell)
    if name.startswith(TORCHVISION):
        return fetch_torchvision(name, tell)
    if name.startswith(WEB):
        return fetch_address(name, tell)
    raise UserError(f"{name}: a file, a folder or one of {', '.join(SCHEMES)} wanted")
