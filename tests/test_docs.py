# SPDX-License-Identifier: Apache-2.0
"""What the documents say exists: links, commands, flags, keys, architectures, files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from network.build import build_net, list_archs, list_classifiers
from scripts.make_flag_docs import render
from settings import known_keys
from settings.sources import ENV_PREFIX

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
FOREIGN_FLAGS = {"--nproc_per_node", "--nnodes", "--node_rank", "--master_addr", "--gpus", "--ipc"}
FOREIGN_FLAGS |= {"--index-url", "--sortwith", "--tag", "--name", "--standalone", "--master_port"}
FOREIGN_FLAGS |= {"--gres", "--cpus-per-task", "--mem", "--time", "--key"}  # of sbatch
FOREIGN_FLAGS |= {
    "--max-restarts",
    "--kills",
    "--per_kind",
}  # of torchrun and of programs in tests/
FOREIGN_FLAGS |= {"--data-binary"}  # of curl
FOREIGN_FLAGS |= {"--backend-store-uri", "--project", "--logdir", "--append"}  # of trackers
FOREIGN_MODULES = {"torch.distributed.launch", "torch.distributed.run", "runx.runx", "runx.sumx"}
FOREIGN_MODULES |= {"pip", "venv", "pytest", "http.server"}
EXPORTED = {"street_model/predict.py"}  # in the folder that an export makes
PROGRAMS = ("tools", "scripts", "benchmarks", "deploy")
FILES_TO_MAKE = {"network/plain.py", "tests/network/test_plain.py"}  # by readers of a recipe


@pytest.fixture(params=NAMES)
def page(request: pytest.FixtureRequest) -> tuple[Path, str]:
    path = ROOT / request.param
    return path, path.read_text(encoding="utf-8")


def test_the_readme_leads_to_every_page() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in NAMES if name != "README.md" and f"({name}" not in text] == []


def test_pages_are_there() -> None:
    wanted = {"datasets", "flags", "archs", "losses", "inference", "outputs", "checkpoints"}
    wanted |= {"cluster", "adding_an_arch", "architecture", "extending", "running"}
    assert {f"docs/{name}.md" for name in wanted} <= set(NAMES)
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md"} <= set(NAMES)


def test_named_source_files_exist(page: tuple[Path, str]) -> None:
    path, text = page
    if path.name == "CHANGELOG.md":  # tells of files that were
        return
    named = set(re.findall(r"`([a-z_]+/[\w/]+\.py)`", text)) - FILES_TO_MAKE
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


def test_flag_page_is_up_to_date() -> None:
    assert (ROOT / "docs" / "flags.md").read_text(encoding="utf-8") == render(), "run `make docs`"


def test_relative_links_lead_somewhere(page: tuple[Path, str]) -> None:
    path, text = page
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    local = [link for link in links if not link.startswith(("http:", "https:", "mailto:"))]
    assert [link for link in local if not (path.parent / link).exists()] == []


def test_nothing_is_left_to_fill_in(page: tuple[Path, str]) -> None:
    assert re.findall(r"\b(TODO|TBD|FIXME|XXX|lorem)\b|\?\?\?", page[1]) == []


def test_make_targets_exist(page: tuple[Path, str]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"(?:`|^ *|&& )make ([a-z]+)\b", page[1], re.MULTILINE))
    assert named <= targets


def test_programs_exist(page: tuple[Path, str]) -> None:
    modules = set(re.findall(r"python3? -m ([\w.]+)", page[1])) - FOREIGN_MODULES
    files = {f"{name.replace('.', '/')}.py" for name in modules}
    files |= set(re.findall(r"python3? ((?:\w+/)*\w+\.py)", page[1]))
    files |= set(re.findall(r"scripts/\w+\.(?:yml|py)", page[1])) - {"scripts/NAME.yml"}
    packages = {name for name in files if (ROOT / name[: -len(".py")] / "__main__.py").exists()}
    assert {name for name in files - packages - EXPORTED if not (ROOT / name).exists()} == set()


def quoted(source: str) -> set[str]:
    """Single words in quotes, where flags are declared; some are made in a loop."""
    return set(re.findall(r"\"(?:--)?([A-Za-z][\w-]*)\"", source))


def declared(text: str) -> set[str]:
    """What the Python of a page itself declares, to show how something is added."""
    return quoted(
        "\n".join(re.findall(r"^```python.*?\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    )


def test_flags_exist(page: tuple[Path, str]) -> None:
    folders = (
        "",
        "settings/",
        "assembly/",
        "tools/",
        "network/",
        "scripts/",
        "benchmarks/",
        "benchmarks/gpu/",
        "datasets/",
        "deploy/",
        "reports/",
        "scripts/doctor/",
    )
    source = "\n".join(
        path.read_text(encoding="utf-8")
        for folder in folders
        for path in ROOT.glob(f"{folder}*.py")
    )
    known = {f"--{name}" for name in quoted(source) | declared(page[1])} | FOREIGN_FLAGS
    named = set(re.findall(r"(?<![\w-])--[A-Za-z][\w-]*", page[1])) - known
    spelt = {name: "--" + name[2:].replace("-", "_") for name in named}  # hyphens are as good
    assert {name for name in named if spelt[name] not in known} == set()


def test_configuration_keys_exist(page: tuple[Path, str]) -> None:
    named = set(re.findall(r"\b(?:DATASET|MODEL|LOSS)\.\w+", page[1]))
    new = {key for key in named if key.split(".")[1] in declared(page[1])}
    assert named - new <= set(known_keys())
    leaves = {f"{ENV_PREFIX}{key.split('.')[-1].upper()}" for key in known_keys()}
    assert set(re.findall(r"\bHISEG_\w*\w", page[1])) - {ENV_PREFIX} <= leaves


def test_every_architecture_is_described() -> None:
    text = (ROOT / "docs" / "archs.md").read_text(encoding="utf-8")
    table = set(re.findall(r"^\| `([\w.]+)` \|", text, re.MULTILINE))
    assert table == set(list_archs())


@pytest.mark.slow
def test_classifiers_have_the_parameters_of_the_table() -> None:
    text = (ROOT / "docs" / "archs.md").read_text(encoding="utf-8")
    for arch in list_classifiers():
        with torch.device("meta"):
            net = build_net(arch, 1000)
        count = sum(item.numel() for item in net.parameters())
        assert f"| `{arch}` | {count:,} |" in text


def test_the_file_tree_is_true() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    tree = text.split("## File tree", 1)[1].split("```")[1]
    entries = [line.split()[0] for line in tree.strip().splitlines() if not line.startswith(" ")]
    assert entries and [entry for entry in entries if not (ROOT / entry).exists()] == []
