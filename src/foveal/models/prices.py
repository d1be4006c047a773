"""What hosted models cost. Few and dated on purpose: a wrong price is worse than none; a spec's `price` overrides."""

from __future__ import annotations

from typing import NamedTuple

from foveal.models.spec import Price


class Listed(NamedTuple):
    """A list price, in USD per million tokens, and the month it was looked at."""

    input: float
    output: float
    seen: str


PRICES = {
    "gpt-4o": Listed(2.50, 10.00, "2025-06"),
    "gpt-4o-mini": Listed(0.15, 0.60, "2025-06"),
    "gpt-4.1": Listed(2.00, 8.00, "2025-06"),
    "gpt-4.1-mini": Listed(0.40, 1.60, "2025-06"),
    "gpt-4.1-nano": Listed(0.10, 0.40, "2025-06"),
    "gemini-2.0-flash": Listed(0.10, 0.40, "2025-06"),
    "gemini-2.5-flash": Listed(0.30, 2.50, "2025-07"),
    "gemini-2.5-flash-lite": Listed(0.10, 0.40, "2025-07"),
}


def price_of(identity: str, own: Price | None = None) -> tuple[float, float] | None:
    """Return (USD per million prompt tokens, per million completion tokens), None when no price is known.

    Args:
        identity: a backend's identity.
        own: what the user says it costs.
    """
    if own is not None:
        return float(own["input"]), float(own["output"])
    listed = PRICES.get(identity.partition("@")[0].partition("+")[0])
    return None if listed is None else (listed.input, listed.output)


def cost(identity: str, tokens_in: int, tokens_out: int, own: Price | None = None) -> float | None:
    """Return what a call costs in USD, None when no price is known."""
    price = price_of(identity, own)
    return None if price is None else (tokens_in * price[0] + tokens_out * price[1]) / 1e6
