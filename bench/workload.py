"""The workload as a user writes it: a question about a picture, its score, and an answer to the good ones."""

from pydantic import BaseModel

from common import KEEP_FROM, PROMPT_ANSWER, PROMPT_INSTRUCT, PROMPT_SCORE
from foveal import Chat, Model, Record, keep


class Rating(BaseModel):
    """How good a question is."""

    score: int


async def workload(image: Record, vlm: Model, llm: Model) -> Record:
    """Ask the picture for a question, rate it, keep the good ones and answer them."""
    question = await vlm.ask(PROMPT_INSTRUCT, image.images)
    rating = await llm.ask(PROMPT_SCORE + question, out=Rating)
    keep(rating.score >= KEEP_FROM, "poor question")
    answer = await vlm.ask(PROMPT_ANSWER + question, image.images)
    return image.make(Chat([("user", question), ("assistant", answer)]), score=rating.score)
