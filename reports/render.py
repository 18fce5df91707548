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
    """Fill `template` and write it whole or not at all; a missing name is an error.

    Every page takes `title`, `subtitle` and `links`, a list of {"file", "text"}.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    values = {"subtitle": "", "links": [], **values}
    html = printable(environment.get_template(template).render(**values))
    write_atomic(path, html.encode(errors="backslashreplace"))
