# SPDX-License-Identifier: Apache-2.0
"""What a local web page has to refuse, and the headers of its answers."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import re
import socket
from urllib.parse import urlsplit

SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
PLAIN_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def own_names(host: str) -> frozenset[str]:
    """The names under which a server bound to `host` may be asked for, besides addresses."""
    names = {"localhost", host, socket.gethostname(), socket.getfqdn()}
    return frozenset(name.lower().rstrip(".") for name in names if name)


def is_own_host(header: str | None, names: frozenset[str]) -> bool:
    """Whether the Host header of a request names this server: an address, or one of `names`.

    A page of somebody else can have its own name point to this machine (DNS rebinding); its
    requests then carry that name. No such name is an address.
    """
    try:
        name = urlsplit(f"//{header or ''}").hostname or ""
    except ValueError:
        return False
    if name.rstrip(".").lower() in names:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_own_origin(origin: str | None, host: str | None) -> bool:
    """Whether a request comes from a page of this server, or from no page at all."""
    return origin is None or urlsplit(origin).netloc == (host or "")


def page_policy(page: bytes) -> str:
    """The Content-Security-Policy of a page: its own scripts, nothing from elsewhere."""
    scripts = {
        "'sha256-" + base64.b64encode(hashlib.sha256(script).digest()).decode() + "'"
        for script in SCRIPT.findall(page)
    }
    return (
        f"default-src 'none'; script-src {' '.join(sorted(scripts))}; style-src 'unsafe-inline'; "
        "img-src data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
