# SPDX-License-Identifier: Apache-2.0
"""The number of loader processes that a machine can bear, known before anything is started."""

from __future__ import annotations

from runtime.errors import UserError
from runtime.threads import usable_cpus

ALWAYS = 32  # processes that wait for a slow disk need no core of their own
PER_CPU = 8


def check_workers(count: int) -> None:
    """Raise UserError for more processes than are of any use on this machine."""
    cpus = usable_cpus()
    most = max(ALWAYS, PER_CPU * cpus)
    if count > most:
        cores = f"{cpus} usable core{'s'[: cpus != 1]}"
        raise UserError(
            f"--num_workers {count}: this machine has {cores}, at most {most} loader processes "
            f"make sense on it; {max(cpus, 1)} is a good start"
        )
