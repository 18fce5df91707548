# SPDX-License-Identifier: Apache-2.0
"""What a local page refuses."""

from __future__ import annotations

import base64
import hashlib

import pytest

from deploy.web import is_own_host, is_own_origin, own_names, page_policy


@pytest.mark.parametrize(
    ("header", "is_own"),
    [
        ("127.0.0.1:8000", True),
        ("localhost:9000", True),
        ("LocalHost.", True),
        ("[::1]:8000", True),
        ("192.168.1.7", True),
        ("workstation:80", True),
        ("evil.example:8000", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("", False),
        (None, False),
        ("[::1", False),
        ("localhost@evil.example", False),
    ],
)
def test_only_addresses_and_own_names_are_answered(header: str | None, is_own: bool) -> None:
    assert is_own_host(header, own_names("workstation")) == is_own


def test_another_site_is_no_own_origin() -> None:
    assert is_own_origin(None, "localhost:8000")
    assert is_own_origin("http://localhost:8000", "localhost:8000")
    assert not is_own_origin("http://evil.example", "localhost:8000")
    assert not is_own_origin("http://localhost:9999", "localhost:8000")
    assert not is_own_origin("null", "localhost:8000")


def test_the_policy_allows_the_scripts_of_the_page_and_nothing_from_elsewhere() -> None:
    page = b"<script>a()</script> <script type='x'>b()</script> <script>c()\n</script>"
    policy = page_policy(page)
    for script in (b"a()", b"c()\n"):
        assert base64.b64encode(hashlib.sha256(script).digest()).decode() in policy
    assert base64.b64encode(hashlib.sha256(b"b()").digest()).decode() not in policy
    assert "default-src 'none'" in policy and "http" not in policy
