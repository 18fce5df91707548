# SPDX-License-Identifier: Apache-2.0
"""One network on several data sets: the matrix of class by set.

    python -m reports.domains --snapshot FILE --sets cityscapes,bdd100k,kitti,gtav,camvid

Each set is evaluated once, as eval.py does it, with labels and predictions in common classes
(datasets/common_classes.yml). Writes RESULT_DIR/domains.html and domains.json. A set that is not
configured or has no labels is a line; one that was evaluated before is not evaluated again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from datasets import table
from runtime.errors import UserError, near, wrong_input
from runtime.threads import loaders_of, settle
from settings import Parser, Settings, catalogue, read_settings

PROG = "python -m tools.domains"
DEFAULT = ("cityscapes", "bdd100k", "kitti", "gtav", "camvid")
SPLITS = ("val", "trn", "test")  # of --eval that may have labels
EPILOG = (
    "Flags of eval.py that choose network, split, procedure and folder also count: --snapshot, "
    "--from_run, --eval val|trn|test, --n_scales, --do_flip, --precision, --result_dir, --set, ... "
    "--dataset names the set that the network was trained on, where its file does not."
)
NO_EFFECT = ("no_metrics", "summary", "dump_augmentation_images", "resume", "task")


def set_names(text: str) -> tuple[str, ...]:
    """`cityscapes,camvid`: names of sets with labels, each once."""
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in table.paired():
            alike = near(name, table.paired())
            raise argparse.ArgumentTypeError(f"{name!r} is no data set with labels{alike}")
        if names.count(name) > 1:
            raise argparse.ArgumentTypeError(f"{name} stands there twice")
    return names


def command_line() -> Parser:
    """The flags of this program alone."""
    parser = Parser(
        prog=PROG,
        description=__doc__,
        epilog=EPILOG,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--sets", type=set_names, default=DEFAULT, help=f"default {','.join(DEFAULT)}")
    add("--classes", type=Path, metavar="FILE", help="more rows like common_classes.yml")
    return parser


def check_flags(settings: Settings) -> None:
    """Raise UserError for flags of eval.py that have no effect here."""
    outputs = {name for name, each in catalogue().items() if each.group == "outputs"}
    for name in sorted(settings.given & {*outputs, *NO_EFFECT}):
        raise UserError(f"--{name} has no effect on {PROG}; leave it out")
    if settings.inference.eval not in SPLITS:
        raise UserError(f"--eval {settings.inference.eval}: {' or '.join(SPLITS)} wanted")


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate and write; 0, or 2 with one line when the input is wrong."""
    try:
        own, shared = command_line().parse_known_args(argv)
        settings = read_settings(shared, PROG, eval_default="val")
        check_flags(settings)
    except UserError as error:
        return wrong_input(error)
    settle(loaders_of(settings.data.num_workers, True))  # before torch is imported
    from assembly.domains import evaluate_domains
    from datasets.common_classes import read_table
    from runtime.outcome import run

    return run(
        lambda outcome: evaluate_domains(settings, own.sets, read_table(own.classes), outcome)
    )


if __name__ == "__main__":
    sys.exit(main())
