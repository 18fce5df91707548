# SPDX-License-Identifier: Apache-2.0
"""A local page to try a network on images of one's own.

    python -m deploy.serve --snapshot FILE                  # http://127.0.0.1:8000/
    python -m deploy.serve --model DIR --port 0             # of an export; a port that is free
    python -m deploy.serve --from_run logs/harbour --n_scales 0.5,1.0 --do_flip

Flags of `eval.py` about networks and predictions count as there. The page is reached from this
machine alone unless `--host` says otherwise. Ctrl-C ends it (exit code 130).
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.exported import is_export
from deploy.line import Line
from deploy.server import MILLION, Limits, PageServer, Shop
from deploy.web import own_names, page_policy
from reports.image_dump import BLEND
from reports.render import html_of
from runtime.errors import UserError, wrong_input
from runtime.threads import loaders_of, settle
from settings import Parser, Settings
from settings.convert import number
from settings.declare import Bounds
from settings.keywords import WHOLE_FOLDER, folder_settings, prediction_options

if TYPE_CHECKING:
    from deploy.predictor import Predictor

PROG = "python -m deploy.serve"
TEMPLATES = Path(__file__).resolve().parent / "templates"
INTERRUPTED = 130
NETWORK = ("snapshot", "from_run", "device")  # flags that a predictor takes by other names
LOCAL = ("127.0.0.1", "localhost", "::1")
GRACE = 10.0  # seconds for the image that is being predicted at the end


@dataclass(frozen=True, kw_only=True)
class OwnFlags:
    """The flags of this program alone, by their names."""

    model: str | None
    host: str
    port: int
    upload_mb: float
    upload_mpixels: float
    waiting: int

    @property
    def limits(self) -> Limits:
        """Bytes, pixels and places."""
        return Limits(
            max_bytes=int(self.upload_mb * MILLION),
            max_pixels=int(self.upload_mpixels * MILLION),
            waiting=self.waiting,
        )


def command_line() -> Parser:
    """The flags of this program alone."""
    parser = Parser(
        prog=PROG,
        description="a local page: drop an image, look at the prediction",
        epilog="Flags of eval.py that choose network and procedure also count: --snapshot, "
        "--from_run, --arch, --dataset, --device, --precision, --n_scales, --do_flip, --set, ...",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--model", metavar="DIR", help="the folder of an export, in place of --snapshot")
    add("--host", default="127.0.0.1", help="address to listen at; 0.0.0.0: every one")
    add("--port", type=number(int, Bounds(0, 65535)), default=8000, help="0: one that is free")
    add(
        "--upload_mb",
        type=number(float, Bounds(0, 2048, True)),
        default=32.0,
        help="largest file that is taken, in megabytes",
    )
    add(
        "--upload_mpixels",
        type=number(float, Bounds(0, 1073, True)),
        default=25.0,
        help="largest image that is taken, in million pixels",
    )
    add(
        "--waiting",
        type=number(int, Bounds(0, 1000)),
        default=32,
        help="images that may wait for the network; more are told to come back",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until the end; the exit code."""
    try:
        found, shared = command_line().parse_known_args(argv)
        own = OwnFlags(**vars(found))
        settings = wanted_network(own.model, shared)
    except UserError as error:
        return wrong_input(error)
    settle(loaders_of(0, True))
    from runtime.outcome import run  # loads torch, which reads what `settle` has set

    return run(lambda outcome: serve(own, settings))


def serve(own: OwnFlags, settings: Settings | None) -> int:
    """Load the network and serve its page; UserError for weights and addresses that do not work.

    settings: those of a checkpoint, None for an export.
    """
    predictor, origin = load(own.model, settings)
    with open_server(predictor, origin, own.host, own.port, own.limits) as server:
        for line in predictor.notes:
            print(line)
        if own.host not in LOCAL:
            print(f"warning: --host {own.host}: everybody who reaches this machine can use it")
        print(f"page: {server.address}  (Ctrl-C ends it)", flush=True)
        try:
            server.serve_forever(poll_interval=0.2)
        finally:
            server.server_close()
            if not server.shop.line.close(GRACE):  # a thread inside torch cannot be ended
                print("interrupted: an image was still being predicted", flush=True)
                os._exit(INTERRUPTED)
    return 0


def wanted_network(model: str | None, shared: Sequence[str]) -> Settings | None:
    """The settings of the flags that are shared with eval.py, None for an export.

    UserError for wrong flags, and where no network is named.
    """
    if model is not None:
        if shared:
            raise UserError(f"{shared[0]} has no effect on --model, whose options are inside it")
        if not is_export(model):
            raise UserError(f"--model {model} holds no model.json: the folder of an export wanted")
        return None
    settings = folder_settings(shared, PROG)
    for name in sorted(settings.given - prediction_options() - set(WHOLE_FOLDER) - {*NETWORK}):
        raise UserError(f"--{name} has no effect on {PROG}; leave it out")
    if not settings.network.snapshot:
        raise UserError("a page needs a network: --snapshot FILE, --from_run DIR or --model DIR")
    return settings


def load(model: str | None, settings: Settings | None) -> tuple[Predictor, str]:
    """The predictor, and the name of what it was made from."""
    from deploy.predictor import Predictor

    if settings is None:
        assert model is not None, "either an export or a checkpoint"
        return Predictor(model), Path(model).resolve().name
    name = str(settings.network.snapshot).rstrip("/").split("/")[-1]
    return Predictor.of_settings(settings, settings.run.device), name


def open_server(
    predictor: Predictor, origin: str, host: str, port: int, limits: Limits
) -> PageServer:
    """A server that listens already; UserError for an address that cannot be had."""
    page = html_of(
        "try.html.j2",
        TEMPLATES,
        title=predictor.arch,
        subtitle=f"{origin}: {len(predictor.classes.names)} classes",
        blend=round(100 * BLEND),
        data={"max_bytes": limits.max_bytes},
        limits=f"at most {limits.max_bytes / MILLION:g} MB and "
        f"{limits.max_pixels / MILLION:g} million pixels",
    )
    shop = Shop(
        predictor=predictor,
        page=page,
        policy=page_policy(page),
        names=own_names(host),
        limits=limits,
        line=Line(limits.waiting),
        say=partial(print, flush=True),
    )
    try:
        return PageServer(host, port, shop)
    except OSError as error:
        hint = "; --port 0 takes a free one" if error.errno == errno.EADDRINUSE else ""
        raise UserError(f"--host {host} --port {port}: {error.strerror or error}{hint}") from error


if __name__ == "__main__":
    sys.exit(main())
