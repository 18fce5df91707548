# SPDX-License-Identifier: Apache-2.0
"""HTML pages from the templates: one visual language, no files besides the page itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from runtime.files import write_atomic
from runtime.names import printable

TEMPLATES = Path(__file__).resolve().parent / "templates"


def write_html(path: Path, template: str, **values: Any) -> None:
    """Fill `template` and write it whole or not at all; see `html_of`."""
    write_atomic(path, html_of(template, **values))


def html_of(template: str, folder: Path = TEMPLATES, **values: Any) -> bytes:
    """`template`, filled; a missing name is an error.

    folder: where it lies; templates that it names may also lie with those of the reports. Every
    page takes `title`, `subtitle` and `links`, a list of {"file", "text"}.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, TEMPLATES]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    values = {"subtitle": "", "links": [], **values}
    html = printable(environment.get_template(template).render(**values))
    return html.encode(errors="backslashreplace")
