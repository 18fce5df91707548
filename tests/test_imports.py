# SPDX-License-Identifier: Apache-2.0
"""Who may import whom, checked on the syntax tree of every file, and what start-up may load."""

from __future__ import annotations

import ast
import fnmatch
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    "assembly", "benchmarks", "datasets", "deploy", "engine", "loss", "metrics", "network",
    "reports", "runtime", "scripts", "settings", "tools", "transforms",
)  # fmt: skip
OWN = {*PACKAGES, "config", "train", "eval", "tests"}

# Anyone may import these, which need the standard library alone: errors, files whole or not at
# all, file names from data, ranges of values, how images are normalised, memory and cores, signals
# of worker processes.
LEAVES = (
    "runtime.errors",
    "runtime.files",
    "runtime.heap",
    "runtime.limits",
    "runtime.memory",
    "runtime.names",
    "runtime.normalisation",
    "runtime.parallel",
    "runtime.progress",
    "runtime.remote",
    "runtime.streams",
    "runtime.threads",
    "runtime.worker",
)
SETS = ("datasets.table",)  # what is special about which data set, standard library alone
OPTIONS = ("settings.model",)  # the type of the options that networks take
LIBRARIES = ("engine", "datasets", "loss", "metrics", "network", "reports", "runtime", "transforms")
BATCHES = (
    "datasets.batch",
    "datasets.loader",
    "datasets.samplers",
    "datasets.spec",
)  # what a loop is fed with
OLD_NAMES = {  # of programs that moved: `python -m reports.sweep` still works
    "datasets/check.py": "tools.check",
    "datasets/dt_offset.py": "tools.dt_offset",
    "network/summary.py": "tools.summary",
    "network/weights.py": "tools.weights",
    "reports/attention.py": "tools.attention",
    "reports/deformable.py": "tools.deformable",
    "reports/sweep.py": "tools.sweep",
}

# File (the first matching pattern counts) -> what it may import of this project. `a` allows `a`
# and everything below it. docs/architecture.md explains the floors.
ALLOWED: tuple[tuple[str, tuple[str, ...]], ...] = (
    # what a run is told
    ("settings/*", ("settings", *SETS)),
    ("config.py", ("settings",)),
    # programs
    ("train.py", ("config", "assembly", "settings", "runtime")),
    ("eval.py", ("config", "assembly", "settings", "runtime")),
    *((old, (new,)) for old, new in OLD_NAMES.items()),
    ("tools/*", ("tools", "assembly", "settings", *LIBRARIES)),
    ("deploy/predict.py", ()),  # copied into exports, where there is nothing of this project
    ("deploy/*", ("deploy", "assembly", "settings", *LIBRARIES)),
    ("scripts/convert_checkpoint.py", ("network", "runtime")),
    ("scripts/demo_summary.py", ("metrics",)),
    ("scripts/train_imagenet.py", ("settings", "assembly.network")),
    # datasets.places: whether a root is there, which may be an archive
    (
        "scripts/doctor/*",
        ("scripts.doctor", "assembly.dataset", "datasets.places", "runtime", "settings", *SETS),
    ),
    ("scripts/*", ("settings",)),
    # the recorded answers belong to the tests
    ("benchmarks/gpu/recorded.py", ("benchmarks", "runtime", "tests.parity")),
    ("benchmarks/*", tuple(OWN - {"tests", "scripts", "train", "eval"})),
    # assembly: from settings to the parts of a run
    ("assembly/*", ("assembly", "settings", *LIBRARIES)),
    # libraries: plain arguments
    ("datasets/*", ("datasets", "transforms")),
    ("engine/refinement.py", ("loss.boundary", "network.contract")),
    (
        "engine/classify.py",
        (
            "engine",
            "metrics",
            "loss.soft_target",
            "network.outputs",
            "runtime.distributed",
            *BATCHES,
        ),
    ),
    ("engine/mixing.py", ("transforms.imagenet", *BATCHES)),
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
    # datasets.headers: sizes of image files by the rule that the loaders go by
    (
        "reports/*",
        (
            "reports",
            "datasets.headers",
            "datasets.spec",
            "metrics",
            "transforms.normalize",
            *SETS,
        ),
    ),
    ("network/ops/*", ("network.ops",)),
    ("network/backbones/*", ("network.backbones", "network.ops", *OPTIONS)),
    ("network/heads/*", ("network.heads", "network.ops", "network.outputs", *OPTIONS)),
    # the options in a checkpoint are checked by their declarations
    (
        "network/convert/*",
        (
            "network.backbones.trunk",
            "network.contract",
            "network.convert",
            "network.ops.part",
            "settings.catalogue",
            "settings.sources",
            *OPTIONS,
        ),
    ),
    ("network/fetch/*", ("network.convert.hub", "network.fetch", "runtime.download")),
    ("network/*", ("network", *OPTIONS)),
    ("loss/*", ("loss", "network.outputs", "transforms.boundary")),
    ("metrics/*", ("metrics",)),
    ("runtime/*", ("runtime",)),
    ("transforms/*", ("transforms",)),
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
    ]
    assert not wrong, f"{file} may import {sorted(allowed)}"


def test_metrics_result_loads_no_torch_in_processes_that_write_files() -> None:
    program = "import reports.autolabel, reports.trees, sys; print('torch' in sys.modules)"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "False", done.stderr


def test_nobody_but_benchmarks_reads_the_global_configuration() -> None:
    readers = [file for file in FILES if any(name.startswith("config.") for name in imported(file))]
    assert {file for file in readers if not file.startswith("benchmarks/")} == {
        "train.py", "eval.py"
    }  # fmt: skip
    assert not [file for file in FILES if "config.cfg" in imported(file)]


def test_third_party_imports_are_dependencies() -> None:
    known = {
        "av", "cv2", "jinja2", "numpy", "PIL", "runx", "safetensors", "scipy", "skimage",
        "tifffile", "timm", "torch", "torchvision", "tqdm", "yaml",
    }  # fmt: skip
    allowed = known | OWN | set(sys.stdlib_module_names)
    strange = {file: extra for file in FILES if (extra := roots(file) - allowed)}
    assert strange == {
        "benchmarks/segformer.py": {"transformers"},  # for development only
        "benchmarks/deploy.py": {"onnxruntime"},  # from here on the extra `export`
        "deploy/int8.py": {"onnx", "onnxruntime"},
        "deploy/onnx_file.py": {"onnx", "onnxruntime", "onnxscript"},
        "deploy/predict.py": {"onnxruntime"},
    }


def test_the_predictor_of_exports_needs_three_libraries_alone() -> None:
    allowed = {"cv2", "numpy", "onnxruntime"} | set(sys.stdlib_module_names)
    assert not roots("deploy/predict.py") - allowed


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
    "import settings": "import settings",
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


def test_the_table_of_the_documents_is_this_one() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \| (.*) \|$", text, re.MULTILINE)
    shown = [(file, set(re.findall(r"`([^`]+)`", cell))) for file, cell in rows]
    assert shown == [(file, set(names)) for file, names in ALLOWED if file not in OLD_NAMES]
