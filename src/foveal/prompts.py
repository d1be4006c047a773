"""Prompts are files beside their method: Jinja2, a missing variable is an error, the text's digest is provenance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
import jinja2.meta

from foveal.errors import RecipeError, nearest
from foveal.record import digest

_overrides: ContextVar[tuple[Path, ...]] = ContextVar("overrides", default=())
_jinja = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=False)  # noqa: S701 - prompts are plain text


class Prompt(str):
    """A rendered prompt that knows its file's name ("oasis/kind") and what it was rendered with.

    Neither is part of a call's key: what a model is asked are the words.
    """

    __slots__ = ("name", "values")
    name: str
    values: Mapping[str, Any]

    def __new__(cls, text: str, name: str = "", values: Mapping[str, Any] | None = None) -> Prompt:
        """Make a prompt of a text."""
        self = super().__new__(cls, text)
        self.name = name
        self.values = values or {}
        return self


SHARED = Path(__file__).parent / "steps" / "prompts"
"""Prompts that several methods use."""


class Prompts:
    """The prompt files of one method: `P.kind(text=...)` renders `prompts/kind.md`."""

    def __init__(self, folder: Path, method: str, shared: tuple[str, ...] = ()) -> None:
        self.folder, self.method, self.shared = folder, method, shared

    def names(self) -> list[str]:
        """Return the names of the prompt files, the shared ones among them, sorted."""
        return sorted({*(p.stem for p in self.folder.glob("*.md")), *self.shared})

    def path(self, name: str) -> Path:
        """Return the file that answers to a name: the user's own where there is one.

        Raises:
            RecipeError: there is no such prompt.
        """
        for folder in _overrides.get():
            for candidate in (folder / self.method / f"{name}.md", folder / f"{name}.md"):
                if candidate.is_file():
                    return candidate
        if (own := self._own(name)).is_file():
            return own
        raise RecipeError(f"{self.method} has no prompt {name!r}{nearest(name, self.names())}")

    def _own(self, name: str) -> Path:
        return (SHARED if name in self.shared else self.folder) / f"{name}.md"

    def text(self, name: str) -> str:
        """Return a prompt file's text, unrendered."""
        return _resolved(self, name, _overrides.get())

    def digests(self) -> dict[str, str]:
        """Return the digest of each prompt as it would be used now."""
        return {name: digest(self.text(name)) for name in self.names()}

    def check(self) -> None:
        """Parse every prompt file as it would be used now.

        Raises:
            RecipeError: one is not a valid template, not UTF-8, or uses a variable that the method's own does not.
        """
        for name in self.names():
            try:
                used, known = _variables(self.text(name)), _variables(_read(self._own(name)))
            except (jinja2.TemplateError, UnicodeDecodeError) as error:
                raise RecipeError(f"prompt {self.path(name)}: {error}") from error
            if unknown := sorted(used - known):
                raise RecipeError(
                    f"prompt {self.path(name)}: there is no variable {unknown[0]!r}{nearest(unknown[0], known)}"
                )

    def render(self, name: str, **values: Any) -> Prompt:
        """Render one prompt.

        Raises:
            RecipeError: a variable is missing or the file is not a valid template.
        """
        try:
            text = _template(self.text(name)).render(**values)
        except jinja2.TemplateError as error:
            raise RecipeError(f"prompt {self.path(name)}: {error}") from error
        return Prompt(text.strip(), f"{self.method}/{name}", values)

    def __getattr__(self, name: str) -> Any:
        """Return the renderer of one prompt."""
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda **values: self.render(name, **values)

    def __getitem__(self, name: str) -> Any:
        """Return the renderer of one prompt, for names chosen at run time."""
        return lambda **values: self.render(name, **values)


def beside(file: str, *shared: str) -> Prompts:
    """Return the prompts of the method whose module is `file`: the `prompts` folder next to it.

    Args:
        file: the module's `__file__`.
        *shared: names of prompts that it shares with other methods (`steps/prompts`).
    """
    folder = Path(file).parent
    name = folder.name if Path(file).stem == "method" else Path(file).stem
    return Prompts(folder / "prompts", name.replace("_", "-"), shared)


@contextmanager
def overriding(folders: tuple[Path, ...]) -> Iterator[None]:
    """Let prompt files in these folders stand in for the methods' own while the block runs."""
    token = _overrides.set(folders)
    _resolved.cache_clear()
    try:
        yield
    finally:
        _overrides.reset(token)
        _resolved.cache_clear()


@lru_cache(maxsize=1024)
def _resolved(prompts: Prompts, name: str, overrides: tuple[Path, ...]) -> str:
    # One run sees one text, that of its beginning: a file edited under way counts from the next run on.
    return _read(prompts.path(name))


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _variables(text: str) -> set[str]:
    return jinja2.meta.find_undeclared_variables(_jinja.parse(text))


@lru_cache(maxsize=1024)
def _template(text: str) -> jinja2.Template:
    return _jinja.from_string(text)
