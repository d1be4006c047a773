"""What a user says about a model: ModelSpec."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator
from typing_extensions import TypedDict

from foveal.models.wire import SAMPLING


class Price(TypedDict):
    """What a model costs, in USD per million tokens."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]  # how pydantic wants it
    input: float
    output: float


class ModelSpec(BaseModel):
    """Who plays a role, and how to reach them."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    model: str = ""
    """The server's name for it (may be left out where there is just one), `small`, `hf:<...>` or `scripted:<file>`."""
    url: str | list[str] | None = Field(default=None, repr=False)
    """Base URL of an OpenAI-compatible server, or several that serve the same model."""
    dialect: str = ""
    """What kind of server it is, where that cannot be told (see `dialect.SERVERS`); "none": do not try to hook."""
    key_env: str = ""
    """Name of the environment variable that holds the key."""
    concurrency: int | None = Field(default=None, ge=1)
    """Requests in flight per server; found by itself when not given."""
    timeout: float = Field(default=300.0, gt=0)
    """Seconds that one request may take."""
    attempts: int = Field(default=8, ge=1)
    """How often a request is sent before its record fails."""
    patience: float = Field(default=300.0, ge=0)
    """Seconds to wait for servers that are gone before the run stops."""
    price: Price | None = None
    """Overrides the price table."""
    sampling: dict[str, Any] = Field(default_factory=dict)
    """Defaults under what a method asks for."""
    revision: str = ""
    """Which weights these are, when the name does not tell; part of what a call is."""
    chat_template: str = ""
    """A Jinja file with the model's chat template, for servers that do not show theirs (hooking)."""
    max_pixels: int | None = Field(default=None, ge=1)
    """Pictures with more pixels than this are made smaller before they are sent."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """Further fields for the body of every request, such as {chat_template_kwargs: {enable_thinking: false}}."""
    trust_remote_code: bool = False
    """Let transformers run code that comes with the model (hf: only)."""

    @field_validator("sampling")
    @classmethod
    def _known_sampling(cls, sampling: dict[str, Any]) -> dict[str, Any]:
        if unknown := set(sampling) - SAMPLING:
            raise ValueError(f"unknown sampling {', '.join(sorted(unknown))} (known: {', '.join(sorted(SAMPLING))})")
        return sampling

    @property
    def urls(self) -> list[str]:
        """The base URLs, as given."""
        return [self.url] if isinstance(self.url, str) else list(self.url or ())

    @property
    def is_small(self) -> bool:
        """Whether this is the model that comes with foveal."""
        return self.model in ("small", "small:weak") and not self.urls

    def describe(self) -> str:
        """Return who and where in a few words, without what a URL may hold of secrets."""
        where = ", ".join(shown(u) for u in self.urls)
        return f"{self.model or 'the model'} at {where}" if where else self.model


def shown(url: str) -> str:
    """Return a URL as it may be shown: without user, password and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
