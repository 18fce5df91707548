# SPDX-License-Identifier: Apache-2.0
"""Python and the packages of pyproject.toml: there, and in their ranges."""

from __future__ import annotations

import importlib.util
import platform
import re
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from scripts.doctor.finding import FAIL, OK, WARN, Found

PYPROJECT = Path(__file__).resolve().parent.parent.parent / "pyproject.toml"
REQUIREMENT = re.compile(r"([\w.-]+)(?:\[[\w,-]+\])?\s*([^;#]*)")
BOUND = re.compile(r"(>=|<=|==|!=|~=|<|>)\s*([\w.]+)")
# What a package is imported as, where a distribution may have another name (conda, contrib).
MODULES = {"opencv-python-headless": "cv2", "pillow": "PIL", "scikit-image": "skimage",
           "pyyaml": "yaml"}  # fmt: skip
OPTIONAL = ("huggingface_hub", "mlflow", "wandb", "trackio", "onnx", "onnxruntime")
INSTALL = 'pip install "."'


def numbers(version: str) -> tuple[int, ...]:
    """The release part of a version: (2, 11) of "2.11.0rc1+cu130", trailing zeros dropped."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    parts = [int(part) for part in found[0].split(".")] if found else []
    while parts and parts[-1] == 0:
        parts.pop()
    return tuple(parts)


def fits(version: str, wanted: str) -> bool:
    """Whether a version lies in a range as `>=2.11,<3`; bounds of other kinds hold."""
    own = numbers(version)
    for sign, text in BOUND.findall(wanted):
        other = numbers(text)
        holds = {">=": own >= other, "<": own < other, "==": own == other, "<=": own <= other,
                 ">": own > other}.get(sign, True)  # fmt: skip
        if not holds:
            return False
    return True


def python() -> Iterator[Found]:
    """The interpreter and the system."""
    wanted = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["requires-python"]
    version = platform.python_version()
    text = f"{version} on {platform.platform()}"
    if fits(version, wanted):
        yield OK, text
    else:
        yield FAIL, text, f"{wanted} is needed"


def required() -> Iterator[Found]:
    """What the program needs."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    good = []
    for text in project["dependencies"]:
        match = REQUIREMENT.match(text)
        assert match is not None, text
        name, wanted = match[1], match[2].strip()
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            module = MODULES.get(name.lower())
            if module and importlib.util.find_spec(module):
                good.append(f"{module} (not as {name})")
            else:
                yield FAIL, f"{name} is not installed", INSTALL
            continue
        if fits(version, wanted):
            good.append(f"{name} {version}")
        else:
            yield WARN, f"{name} {version} is not {wanted}, which was tested", INSTALL
    yield OK, ", ".join(good)


def optional() -> Iterator[Found]:
    """What some flags and programs need."""
    found = []
    for name in OPTIONAL:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            spec = importlib.util.find_spec(name)
            found.append(f"{name} (another package)" if spec else f"no {name}")
    yield OK, ", ".join(found)
