"""The rules of the workload, the same for the server, the clients and the driver.

Everything the mock server says is a function of the request, so the driver knows without running anything which rows
must survive the filter and what each finished row must hold.
"""

from __future__ import annotations

import hashlib

MARK_INSTRUCT = "[[STEP:INSTRUCT]]"
MARK_SCORE = "[[STEP:SCORE]]"
MARK_ANSWER = "[[STEP:ANSWER]]"

PROMPT_INSTRUCT = MARK_INSTRUCT + " Look at the image and write one question that only somebody who sees it can answer."
PROMPT_SCORE = (
    MARK_SCORE + " Rate the following question from 1 (useless) to 5 (excellent). "
    'Reply with JSON: {"score": <int>}.\nQuestion: '
)
PROMPT_ANSWER = MARK_ANSWER + " Answer the question about the image.\nQuestion: "

KEEP_FROM = 3
"""Rows of this score and above go on to the answer."""
MODEL = "mock-vlm"


def image_digest(b64: bytes | memoryview) -> str:
    """Identity of a base64 picture: its two ends and its length (cheap, and enough for these pictures)."""
    h = hashlib.blake2b(b64[:4096], digest_size=8)
    h.update(b64[-4096:])
    h.update(str(len(b64)).encode())
    return h.hexdigest()


def instruction_for(digest: str) -> str:
    return f"Q-{digest}: which object lies left of the blue shape, and what does its colour suggest about the light?"


def digest_in(text: str) -> str:
    at = text.find("Q-")
    return text[at + 2 : at + 18] if at >= 0 else ""


def score_for(digest: str) -> int:
    return int(digest[:8], 16) % 5 + 1


def answer_for(digest: str) -> str:
    return f"A-{digest}: the object on the left is a rounded rectangle; its warm colour suggests late daylight. " * 3


def keeps(digest: str) -> bool:
    return score_for(digest) >= KEEP_FROM
