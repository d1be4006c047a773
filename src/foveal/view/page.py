"""What every page is made with: our templates, the page's own policy, and writing it at once or not at all."""

from __future__ import annotations

import base64
import hashlib
import os
from importlib import resources
from pathlib import Path

import jinja2

from foveal.errors import DiskFull
from foveal.view import numbers
from foveal.view.analysis import top


def write_page(path: Path, page: str) -> None:
    """Write a page at once, or not at all.

    Raises:
        DiskFull: it cannot be written.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        partial.write_text(page, encoding="utf-8", errors="replace")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DiskFull(f"cannot write {path}: {error.strerror}") from error


def part(name: str) -> str:
    """Return one of the files beside this one."""
    return resources.files("foveal.view").joinpath(name).read_text(encoding="utf-8")


def policy(style: str, script: str = "") -> str:
    """Return the page's own policy: its style and script by their hashes, pictures inside it, and nothing else."""

    def allowed(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    rules = {"default-src": "'none'", "img-src": "data:", "style-src": allowed(style), "script-src": allowed(script)}
    return "; ".join(f"{k} {v}" for k, v in {**rules, "base-uri": "'none'", "form-action": "'none'"}.items())


def template(name: str) -> jinja2.Template:
    """Return one of our pages, with what all of them use."""
    loader = jinja2.FunctionLoader(part)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    filters = ("count", "duration", "money", "share", "short", "plural", "clip")
    environment.filters |= {name: getattr(numbers, name) for name in filters} | {"top": top, "percent": _percent}
    return environment.get_template(name)


def _percent(part: float, whole: float) -> float:
    return round(100 * part / whole, 3) if whole else 0.0
