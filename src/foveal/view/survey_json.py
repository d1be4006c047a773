"""A survey as JSON: a contract for scripts; fields may be added, none is renamed."""

from __future__ import annotations

from typing import Any

from foveal.view.analysis import Numbers
from foveal.view.survey import SPANS, Group, Survey, Tag, Texts


def to_json(found: Survey) -> dict[str, Any]:
    """Return a survey as JSON values."""
    pictures = found.pictures
    return {
        "version": 1,
        "where": found.where,
        "unreadable": dict(found.unreadable.most_common()),
        **group_json(found.all),
        "pictures": {
            "rows": pictures.rows, "distinct": pictures.distinct, "looked_at": pictures.looked_at,
            "unreadable": pictures.unreadable, "near_duplicates": pictures.near,
            "longer_side": numbers_json(pictures.sizes), "ratio": numbers_json(pictures.ratios),
        },
        "repeats": {
            "rows": found.repeats.of, "same_question": found.repeats.exact,
            "same_question_and_picture": found.repeats.same_picture, "compared": found.repeats.compared,
            "near_duplicates": found.repeats.near,
        },
        "by": {tag: {value: group_json(group) for value, group in groups.items()} for tag, groups in found.by.items()},
    }  # fmt: skip


def group_json(group: Group) -> dict[str, Any]:
    """Return a group as JSON values."""
    lengths = group.pairs.lengths
    pairs = {"pairs": {
        "n": len(group.pairs.logs), "chosen_longer": lengths.longer, "chosen_shorter": lengths.shorter,
        "equal_length": lengths.equal, "length_ratio": round(lengths.ratio, 4), "same_words": group.pairs.same,
        "leaking": dict(group.pairs.leaking),
    }} if group.pairs.logs else {}  # fmt: skip
    return {
        "rows": group.rows,
        "kinds": dict(group.kinds),
        "exchanges": numbers_json(group.turns),
        "texts": {name: _texts_json(texts) for name, texts in group.texts.items()},
        "tags": {name: _tag_json(tag, group.rows) for name, tag in group.tags.items()},
        **pairs,
    }


def numbers_json(values: Numbers) -> dict[str, Any] | None:
    """Return count, mean, deviation and percentiles; None of no value."""
    if not values.n:
        return None
    spans = {f"p{q}": values.quantile(q / 100) for q in SPANS}
    ends = {"least": min(values.counts), "most": max(values.counts)}
    return {"n": values.n, "mean": round(values.mean, 6), "std": round(values.std, 6), **ends, **spans}


def _texts_json(texts: Texts) -> dict[str, Any]:
    told = texts.diversity
    roots = {verb: {"n": n, "nouns": dict(texts.nouns[verb].most_common(5))} for verb, n in texts.verbs.most_common(30)}
    return {
        "words": numbers_json(texts.lengths), "characters": numbers_json(texts.letters),
        "languages": dict(texts.languages.most_common()), "root_verbs": roots,
        "beginnings": dict(texts.beginnings.most_common(20)),
        "diversity": {
            "words": told.words, **{f"distinct_{n}": round(v, 4) for n, v in told.distinct.items()},
            "compression": round(told.compression, 3),
        },
    }  # fmt: skip


def _tag_json(tag: Tag, rows: int) -> dict[str, Any]:
    names = {
        "values": dict(tag.names.most_common(100)),
        "distinct": len(tag.names),
        "effective": round(tag.effective, 2),
    }
    return {
        "rows": tag.having,
        "coverage": round(tag.having / rows, 4) if rows else 0.0,
        **({"numbers": numbers_json(tag.numbers)} if tag.numbers.n else {}),
        **(names if tag.names else {}),
        **({"prose": tag.prose} if tag.prose else {}),
    }
