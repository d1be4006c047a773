"""Measure the embedded model on held-out scenes and print every figure the card quotes.

python small/evaluate.py --features build/small/features [--weights build/small] [--out small/evaluation.json]
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import features
from foveal.models.small import SmallVLM
from foveal.models.wire import Message, Request
from foveal.record import Image
from foveal.scrapbook.colours import COLOURS
from foveal.scrapbook.scene import Scene
from foveal.scrapbook.truth import (
    KINDS,
    TOPICS,
    a,
    absent,
    at,
    capital,
    caption,
    counts,
    existence,
    extras,
    fact_of,
    natural,
    places,
    plural,
)
from tasks import (
    P,
    caption_to_judge,
    kind_example,
    question_list,
    rated_answer,
    richness,
    to_judge,
)  # fmt: skip
from train import NOUNS

FIVE = ("1", "2", "3", "4", "5")
BATCH = 32


class Known:
    """Stands in for the tower: features computed once."""

    def __init__(self, states: np.ndarray) -> None:
        self.states = states

    def features(self, images: Sequence[Image]) -> list[np.ndarray]:
        """Return the features whose row the image's source names."""
        return [np.asarray(self.states[int(i.source)], dtype=np.float32) for i in images]


class Bench:
    """The model, some scenes, and how to ask about them."""

    def __init__(self, weights: Path | None, folder: Path, name: str) -> None:
        self.scenes = features.scenes(folder, name)
        self.cells = np.load(folder / f"{name}.cells.npy")
        self.model = SmallVLM(weights, tower=Known(np.load(folder / f"{name}.npy", mmap_mode="r")))  # type: ignore[arg-type]

    def request(self, i: int, text: str | None, image: bool = True, **how: Any) -> Request:
        """Return a request about scene i; no text leaves the user's turn open."""
        shown = (Image.of(str(i).encode(), str(i)),) if image else ()
        return Request((Message("user", (*shown, *([] if text is None else [text]))),), open_turn=text is None, **how)

    def answers(self, requests: list[Request]) -> list[Any]:
        """Answer in batches."""
        return [r for i in range(0, len(requests), BATCH) for r in self.model.generate(requests[i : i + BATCH])]

    def texts(self, asked: list[tuple[int, str]], room: int = 80) -> list[str]:
        """Return greedy answers."""
        return [r.text for r in self.answers([self.request(i, q, sampling={"max_tokens": room}) for i, q in asked])]

    def scores(self, asked: list[tuple[int, str]], image: bool = True) -> list[float]:
        """Return expected scores from 1 to 5."""
        replies = self.answers([self.request(i, q, image, choices=FIVE) for i, q in asked])
        return [sum(int(c) * p for c, p in r.probs.items()) / sum(r.probs.values()) for r in replies]


def rounded(value: float) -> float:
    """Round for printing."""
    return round(float(value), 3)


def auc(scores: Sequence[float], good: Sequence[bool]) -> float:
    """Return the chance that a good one scores above a bad one."""
    x, y = np.array(scores), np.array(good)
    better = (x[y][:, None] > x[~y][None]).mean() + 0.5 * (x[y][:, None] == x[~y][None]).mean()
    return rounded(better)


def naming(bench: Bench) -> dict[str, float]:
    """Exact names by position, over all things alone in theirs; by how many there are and how much one covers."""
    asked, truth, many, sizes = [], [], [], []
    for i, scene in enumerate(bench.scenes):
        for k, (thing, place) in enumerate(zip(scene.things, places(scene), strict=True)):
            if at(scene, place) == [k]:
                sizes.append(int((bench.cells[i] == k).sum()))
                asked.append((i, f"What is {place}?"))
                truth.append(f"{capital(a(thing.noun))}.")
                many.append(len(scene.things))
    right = [said == true for said, true in zip(bench.texts(asked), truth, strict=True)]
    by = {n: [r for r, m in zip(right, many, strict=True) if m == n] for n in range(1, 6)}
    spans = {"on at most 3 tokens": (0, 3), "on 4 to 6 tokens": (4, 6), "on 7 tokens or more": (7, 64)}
    on = {
        name: [r for r, s in zip(right, sizes, strict=True) if low <= s <= high] for name, (low, high) in spans.items()
    }
    return {
        "all": rounded(np.mean(right)),
        "n": len(right),
        **{f"of {n}": rounded(np.mean(r)) for n, r in by.items() if r},
        **{name: rounded(np.mean(r)) for name, r in on.items() if r},
    }


def plain_caption(scene: Scene) -> str:
    """Return the caption with every thing in its place and no colours."""
    parts = [f"{a(t.noun)} {p}" for t, p in zip(scene.things, places(scene), strict=True)]
    return capital(parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]) + "."


def uncoloured(text: str) -> str:
    """Return the text without colour words, articles fitted again."""
    text = re.sub(r"\b(red|orange|yellow|green|blue|purple|pink|brown|black|gray|white) (?=[a-z])", "", text)
    return re.sub(r"\b([Aa])n? (?=[a-z])", lambda m: m[1] + " ", text)


def captions(bench: Bench) -> float:
    """Whole captions right: every thing, every place (colours not counted), in scenes without words or charts."""
    plain = [i for i, scene in enumerate(bench.scenes) if not extras(scene)]
    said = bench.texts([(i, "Describe the picture in one sentence.") for i in plain])
    right = [uncoloured(s) == uncoloured(plain_caption(bench.scenes[i])) for s, i in zip(said, plain, strict=True)]
    return rounded(np.mean(right))


NAMED = {plural(n): n for n in NOUNS} | {n: n for n in NOUNS}


def named(text: str) -> list[str]:
    """Return the nouns a text mentions, plurals as their singular."""
    return [NAMED[w] for w in re.findall(r"[a-z]+", text.lower()) if w in NAMED and w not in COLOURS]


def describing(bench: Bench) -> dict[str, float]:
    """Descriptions in detail: CHAIR (1809.02156, section 2.2: wrong mentions, texts with one), recall and length."""
    said = bench.texts([(i, "Describe the picture in detail.") for i in range(len(bench.scenes))], room=220)
    mentions = [named(text) for text in said]
    there = [set(counts(scene)) - set(COLOURS) for scene in bench.scenes]
    wrong = [[n for n in found if n not in real] for found, real in zip(mentions, there, strict=True)]
    return {
        "chair i": rounded(sum(map(len, wrong)) / max(1, sum(map(len, mentions)))),
        "chair s": rounded(np.mean([bool(w) for w in wrong])),
        "recall": rounded(
            np.mean([len(real & set(f)) / len(real) for f, real in zip(mentions, there, strict=True) if real])
        ),
        "sentences": rounded(np.mean([len(re.findall(r"[.?!]( |$)", text)) for text in said])),
        "words": rounded(np.mean([len(text.split()) for text in said])),
    }


def yes_no(bench: Bench) -> dict[str, float]:
    """Balanced accuracy of "is there a ...?", what is absent picked at random, popular or likely (adversarial)."""
    rng = random.Random(11)
    there = [(i, existence(scene, rng, NOUNS, True).question) for i, scene in enumerate(bench.scenes)]
    hits = np.mean([said.startswith("Yes") for said in bench.texts(there)])
    found = {"yes when there": rounded(hits)}
    for kind in KINDS:
        absent_ = [(i, existence(scene, rng, NOUNS, False, kind).question) for i, scene in enumerate(bench.scenes)]
        rejections = np.mean([said.startswith("No") for said in bench.texts(absent_)])
        found |= {f"no when not, {kind}": rounded(rejections), f"balanced, {kind}": rounded((hits + rejections) / 2)}
    return found


def topics(bench: Bench) -> dict[str, float]:
    """Exact answers by topic of question."""
    rng = random.Random(12)
    found = {}
    for topic in sorted(TOPICS):
        if topic not in {"exists", "describe"}:
            facts = [(i, fact_of(topic, scene, rng, NOUNS)) for i, scene in enumerate(bench.scenes)]
            asked = [(i, made) for i, made in facts if made]
            if len(asked) >= 20:
                said = bench.texts([(i, made.question) for i, made in asked])
                found[topic] = rounded(
                    np.mean([text == made.answer for (_, made), text in zip(asked, said, strict=True)])
                )
    return found


def judging(bench: Bench) -> dict[str, float]:
    """AUC of each score against the truth: 5 against worse, as the method's thresholds cut."""
    rng = random.Random(13)
    found = {}
    for name, low, image in (
        ("grounded", 3, True),
        ("solvable", 3, True),
        ("clarity", 3, True),
        ("sensible", 4, False),
    ):
        texts = [(i, to_judge(scene, rng, NOUNS)) for i, scene in enumerate(bench.scenes)]
        scores = bench.scores([(i, P[name](instruction=t.text)) for i, t in texts], image)
        found[name] = auc(scores, [getattr(t, name) > low for _, t in texts])
    pairs = [(i, caption_to_judge(scene, rng, NOUNS)) for i, scene in enumerate(bench.scenes)]
    found["caption_true"] = auc(
        bench.scores([(i, P.caption_true(caption=c)) for i, (c, _) in pairs]), [s == 5 for _, (_, s) in pairs]
    )
    words = [(i, caption(scene, rng)) for i, scene in enumerate(bench.scenes)]
    rich = [richness(bench.scenes[i], c) >= 4 for i, c in words]
    found["caption_rich"] = auc(bench.scores([(i, P.caption_rich(caption=c)) for i, c in words], False), rich)
    rated = [(i, rated_answer(scene, rng, NOUNS)) for i, scene in enumerate(bench.scenes)]
    found["answer_good"] = auc(
        bench.scores([(i, t.turns[0].text) for i, t in rated]), [t.turns[1].text == "5" for _, t in rated]
    )
    return found


def kinds(bench: Bench) -> float:
    """Accuracy of the prompt that tells instructions from captions."""
    rng = random.Random(14)
    made = [(i, *kind_example(scene, rng, NOUNS)) for i, scene in enumerate(bench.scenes)]
    replies = bench.answers([bench.request(i, q, False, choices=("instruction", "caption")) for i, q, _ in made])
    return rounded(np.mean([r.text == k for r, (_, _, k) in zip(replies, made, strict=True)]))


def extracting(bench: Bench) -> dict[str, float]:
    """The prompt that takes instructions out of a text: answers in its shape, items that are word for word."""
    rng = random.Random(16)
    texts = [question_list([natural(scene, rng, NOUNS).question for _ in range(2)], rng) for scene in bench.scenes]
    asked = [bench.request(0, P.extract(text=t, many=True), False, sampling={"max_tokens": 120}) for t in texts]
    shaped, items = [], []
    for text, reply in zip(texts, bench.answers(asked), strict=True):
        try:
            found = json.loads(reply.text)["instructions"]
        except (ValueError, KeyError, TypeError):
            found = None
        shaped.append(isinstance(found, list) and all(isinstance(f, str) for f in found))
        items += [str(f) in text for f in found or []]
    return {"in shape": rounded(np.mean(shaped)), "items word for word": rounded(np.mean(items))}


OPENINGS = [
    "Is", "Are", "Can", "Does", "What", "Which", "Where", "How", "Name", "Tell", "List", "Count", "Describe", "Write",
    "Give",
]  # fmt: skip


def well_formed(text: str) -> bool:
    """Tell whether a hooked text reads as a whole question, request, caption or numbered list."""
    lines = [re.sub(r"^\d\. ", "", line) for line in text.split("\n")]
    return bool(lines) and all(
        line and line[0].isupper() and line[-1] in ".?" and len(line.split()) > 1 for line in lines
    )


def hooking(bench: Bench) -> dict[str, float]:
    """Sampled user turns at temperature 1, top-k 20: form, what they are about, what Oasis would keep of them."""
    replies = bench.answers([
        bench.request(i, None, sampling={"temperature": 1.0, "top_k": 20, "min_tokens": 2, "max_tokens": 100})
        for i in range(len(bench.scenes))
    ])  # fmt: skip
    texts = [r.text for r in replies]
    questions = [(i, t) for i, t in enumerate(texts) if t.split(" ")[0] in OPENINGS or t.startswith("1.")]
    about = [named(t) for t in texts]
    true = [set(found) <= set(counts(bench.scenes[i])) for i, found in enumerate(about) if found]
    kept = survivors(bench, questions)
    return {
        "well formed": rounded(np.mean([well_formed(t) for t in texts])),
        "questions and requests": rounded(len(questions) / len(texts)),
        "different texts": rounded(len(set(texts)) / len(texts)),
        "name only what is there": rounded(np.mean(true)),
        "instructions that pass Oasis' thresholds": rounded(np.mean(kept)),
    }


def survivors(bench: Bench, questions: list[tuple[int, str]]) -> list[bool]:
    """Tell which instructions pass the recipe's thresholds."""
    marks = {
        name: bench.scores([(i, P[name](instruction=t)) for i, t in questions], name != "sensible")
        for name in ("sensible", "grounded", "clarity", "solvable")
    }
    return [
        s >= 4.5 and g >= 4.5 and c >= 3 and v >= 3 and c + v >= 7
        for s, g, c, v in zip(marks["sensible"], marks["grounded"], marks["clarity"], marks["solvable"], strict=True)
    ]


def absent_named(bench: Bench) -> float:
    """Share of questions about something absent that are answered by saying so."""
    rng = random.Random(15)
    asked = [(i, f"Where is the {absent(scene, rng, NOUNS)}?") for i, scene in enumerate(bench.scenes)]
    return rounded(np.mean([t.startswith("There ") and " no " in t for t in bench.texts(asked)]))


MEASURES: dict[str, Callable[[Bench], Any]] = {
    "naming": naming, "captions": captions, "describing": describing, "yes_no": yes_no, "topics": topics,
    "judging_auc": judging, "kind": kinds,
    "extracting": extracting, "hooking": hooking, "says_so_when_absent": absent_named,
}  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--card", type=Path, help="write the figures into this file, between its marks")
    parser.add_argument("--scenes", type=int, default=600)
    parser.add_argument("--only", default="")
    parser.add_argument("--splits", default="seen,seen5,unseen,unseen5")
    args = parser.parse_args()
    found: dict[str, Any] = {}
    for name in args.splits.split(","):
        bench = Bench(args.weights, args.features, name)
        bench.scenes = bench.scenes[: args.scenes]
        for measure, function in MEASURES.items():
            if not args.only or measure in args.only.split(","):
                found.setdefault(name, {})[measure] = function(bench)
                print(name, measure, found[name][measure], flush=True)
        found["model"] = bench.model.identity
        found[name]["scenes"] = len(bench.scenes)
    if args.out:
        before = json.loads(args.out.read_text()) if args.out.exists() else {}
        same = before if before.get("model") == found["model"] else {}
        found = same | found
        args.out.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    if args.card:
        before, mark, rest = args.card.read_text().partition("<!-- figures: printed by small/evaluate.py -->\n")
        after = rest[rest.index("<!-- end of figures -->") :]
        args.card.write_text(before + mark + table(found) + after)


def table(found: dict[str, Any]) -> str:
    """Return the figures as a Markdown table, one column for each kind of scenes."""
    columns = [part.name for part in features.HELD if part.name in found]
    lines = [
        f"Weights `{found['model']}`, {found[columns[0]]['scenes']} scenes each.",
        "",
        f"| | {' | '.join(columns)} |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for measure in MEASURES:
        values = {c: v if isinstance(v := found[c][measure], dict) else {"": v} for c in columns}
        parts = dict.fromkeys(part for of in values.values() for part in of if part != "n")
        for part in parts:
            row = " | ".join(f"{values[c][part]:.3f}" if part in values[c] else "" for c in columns)
            lines.append(f"| {measure.replace('_', ' ')} {part} | {row} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
