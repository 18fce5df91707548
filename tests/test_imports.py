# SPDX-License-Identifier: Apache-2.0
"""Who may import whom, checked on the syntax tree of every file, and what start-up may load."""

from __future__ import annotations

import ast
import fnmatch
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    "benchmarks", "datasets", "engine", "flags", "loss", "metrics", "network", "reports", "runtime",
    "scripts", "transforms",
)  # fmt: skip
OWN = {*PACKAGES, "config", "train", "eval", "tests"}

RESULTS = ("engine.result", "engine.evaluate.EvalSummary")  # what sinks and pages are given
# Anyone may import these, which need the standard library alone: files whole or not at all, file
# names from data, ranges of values, what memory and cores there are (before torch is loaded, too).
LEAVES = (
    "runtime.files",
    "runtime.limits",
    "runtime.memory",
    "runtime.names",
    "runtime.streams",
    "runtime.threads",
)
BATCHES = ("datasets.loader", "datasets.samplers", "datasets.spec")  # what a loop is fed with

# File (the first matching pattern counts) -> what it may import of this project, besides the
# names of TYPES_OF_CONFIG. `a` allows `a` and everything below it.
ALLOWED: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("config.py", ()),
    ("flags/*", ("config", "flags")),
    ("train.py", tuple(OWN - {"tests", "benchmarks", "scripts", "train"})),
    ("eval.py", tuple(OWN - {"tests", "benchmarks", "scripts", "train"})),
    ("benchmarks/*", tuple(OWN - {"tests", "scripts", "train", "eval"})),
    ("scripts/convert_checkpoint.py", ("config", "network", "runtime")),
    ("scripts/demo_summary.py", ("metrics",)),
    ("scripts/train_imagenet.py", ("config", "flags", "engine.build")),
    ("scripts/*", ("config", "flags")),
    # assembly: from the flags to the parts of a run
    ("datasets/build.py", ("config", "datasets", "transforms")),
    ("datasets/classify_build.py", ("config", "datasets", "transforms")),
    ("datasets/registry.py", ("config", "datasets")),
    ("datasets/sets.py", ("config", "datasets")),  # which images a run uses, cut from build.py
    ("datasets/arguments.py", ("config", "flags", "datasets")),
    ("datasets/dt_offset.py", ("config", "flags", "datasets", "transforms")),
    ("datasets/check.py", ("config", "flags", "datasets")),
    ("network/build.py", ("config", "network")),
    ("loss/build.py", ("config", "loss", "datasets.spec")),
    ("engine/build.py", ("config", "engine", "network", "datasets", "loss", "runtime")),
    ("engine/procedure.py", ("config", "engine", "network", "datasets")),  # cut from build.py
    ("engine/dumps.py", ("engine", "datasets.spec", "reports", "runtime")),
    ("engine/dump_key.py", ("config", "datasets.spec", "runtime")),
    ("engine/task.py", ("config", "engine", "datasets", "loss", "runtime")),
    ("engine/classify_run.py", ("config", "engine", "datasets", "loss", "runtime")),
    ("engine/refinement.py", ("loss.boundary", "network.contract")),
    ("engine/classify.py", ("engine", "metrics", "loss.soft_target", "network.outputs", *BATCHES)),
    ("engine/mixing.py", ("transforms.imagenet", *BATCHES)),
    (
        "engine/session.py",
        (
            "config",
            "engine",
            "network",
            "datasets",
            "loss",
            "metrics",
            "reports",
            "runtime",
        ),
    ),
    # parts
    ("datasets/*", ("datasets", "transforms")),
    (
        "engine/*",
        (
            "engine",
            "runtime",
            "metrics",
            "loss.objective",
            "network.contract",
            "network.outputs",
            "transforms.normalize",
            "transforms.resample",
            *BATCHES,
        ),
    ),
    *(
        (  # build a network to look into it
            f"reports/{name}.py",
            (
                "config",
                "flags",
                "engine",
                "network",
                "datasets.base",
                "reports",
                "runtime",
                "transforms",
            ),
        )
        for name in ("looking", "deformable", "attention")
    ),
    ("reports/sweep.py", ("flags", "reports")),
    # datasets.headers: sizes of image files by the rule that the loaders go by
    (
        "reports/*",
        (
            "reports",
            "datasets.spec",
            "datasets.headers",
            "metrics",
            "transforms.normalize",
            *RESULTS,
        ),
    ),
    ("network/ops/*", ("network.ops",)),
    ("network/backbones/*", ("network.backbones", "network.ops")),
    ("network/heads/*", ("network.heads", "network.ops", "network.outputs")),
    (  # asks networks, trunks and parts for what they state
        "network/convert/*",
        ("network.backbones.trunk", "network.contract", "network.convert", "network.ops.part"),
    ),
    ("network/*", ("network",)),
    # leaves
    ("loss/*", ("loss", "network.outputs", "transforms.boundary")),
    ("metrics/*", ("metrics",)),
    ("runtime/*", ("runtime",)),
    ("transforms/*", ("transforms",)),
)

# Read by anyone: the error type with its helpers, the types of the sections, never the values.
TYPES_OF_CONFIG = {"UserError", "ModelConfig", "near", "wrong_input"}
READS_CFG = (
    "train.py",
    "eval.py",
    "flags/*",
    "*/build.py",
    "datasets/check.py",
    "benchmarks/*",
    "reports/looking.py",
)

FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [
        *ROOT.glob("*.py"),
        *(p for name in PACKAGES for p in ROOT.glob(f"{name}/**/*.py")),
    ]
)


def imported(file: str) -> list[str]:
    """Dotted names of this project that `file` imports anywhere, also inside functions."""
    names = []
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = Path(file).parent.parts
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            names += [f"{module}.{alias.name}" for alias in node.names]
    return [name for name in names if name.split(".")[0] in OWN]


def rule(file: str) -> tuple[str, ...]:
    return next(allowed for pattern, allowed in ALLOWED if fnmatch.fnmatch(file, pattern))


@pytest.mark.parametrize("file", FILES)
def test_imports_point_the_allowed_way(file: str) -> None:
    allowed = (*rule(file), *LEAVES)
    wrong = [
        name
        for name in imported(file)
        if not any(name == root or name.startswith(root + ".") for root in allowed)
        and name not in {f"config.{item}" for item in TYPES_OF_CONFIG}
    ]
    assert not wrong, f"{file} may import {sorted(allowed)}"


def test_only_builders_and_entry_points_read_cfg() -> None:
    readers = [file for file in FILES if "config.cfg" in imported(file) or reads_module(file)]
    assert [f for f in readers if not any(fnmatch.fnmatch(f, p) for p in READS_CFG)] == []


def reads_module(file: str) -> bool:
    """True for `import config`, which would give access to `config.cfg`."""
    return "config" in imported(file) and not file.startswith("scripts/")


def test_third_party_imports_are_dependencies() -> None:
    known = {
        "cv2", "jinja2", "numpy", "PIL", "runx", "safetensors", "scipy", "skimage", "tifffile",
        "torch", "torchvision", "tqdm", "yaml",
    }  # fmt: skip
    allowed = known | OWN | set(sys.stdlib_module_names)
    strange = {file: extra for file in FILES if (extra := roots(file) - allowed)}
    assert strange == {"benchmarks/segformer.py": {"transformers"}}  # for development only


def roots(file: str) -> set[str]:
    """First parts of all absolute imports of `file`."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(str(node.module).split(".")[0])
    return found


HEAVY = ("torch", "numpy", "cv2", "scipy", "skimage", "runx", "jinja2")
START = {
    "import config": "import config",
    "import flags": "import flags",
    "train.py --help": "run_help('train.py')",
    "eval.py --help": "run_help('eval.py')",
}
PROBE = """
import contextlib, io, runpy, sys

def run_help(program):
    sys.argv = [program, "--help"]
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as text:
        runpy.run_path(program, run_name="__main__")
    assert "--crop_size" in text.getvalue()

{statement}
print(",".join(name for name in {heavy} if name in sys.modules))
"""


@pytest.mark.parametrize("what", sorted(START))
def test_start_up_loads_no_heavy_module(what: str) -> None:
    program = PROBE.format(statement=START[what], heavy=HEAVY)
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
