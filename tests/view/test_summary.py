from __future__ import annotations

import io
import itertools

import orjson
import pytest
from rich.console import Console

from foveal.errors import StoreError
from foveal.view.history import history_of as history
from foveal.view.summary import summarise
from tests.view.build import STEPS, Run, chat


def show(renderable: object, width: int = 100) -> str:
    out = io.StringIO()
    Console(width=width, no_color=True, file=out).print(renderable)
    return out.getvalue()


METER = {
    "made": 11,
    "remembered": 4,
    "tokens_in": 1100,
    "tokens_out": 220,
    "cost": 0.0,
    "unpriced": 11,
    "by": [
        {
            "step": "oasis",
            "role": "vlm",
            "made": 11,
            "remembered": 4,
            "tokens_in": 1100,
            "tokens_out": 220,
            "cost": 0,
            "unpriced": 11,
        }
    ],
}


def small_run(folder, state="done", **meter):
    """Ten pictures: 4 kept (one of them with loss, one with two rows), 3 dropped, 2 failed, 1 pending."""
    with Run(folder, state=state, **(meter or METER)) as run:
        sources = [run.source() for _ in range(10)]
        bodies = [chat("What is it?", "A cat."), chat("How many?", "Two.")]
        rows = []
        for number, source in enumerate(sources[:4]):
            many = bodies if number == 0 else bodies[:1]
            rows += run.make("oasis", source, many, "with loss: empty reply" if number == 3 else "", sensible=4.5)
        doomed = run.make("oasis", sources[4], bodies[:1])
        for row in rows:
            run.end("dedup", row, "kept")
        run.end("dedup", doomed[0], "dropped", "near-duplicate question")
        run.end("oasis", sources[5], "dropped", "garbled")
        run.end("oasis", sources[6], "dropped", "garbled")
        run.end("oasis", sources[7], "failed", "empty reply", "vlm oasis/kind, 3 tries", "…raw words")
        run.end("oasis", sources[8], "failed", "picture truncated", "jpeg, no end marker")
        run.call(sources[0], "", "", "What is it?", open_turn=True)
        run.call(
            sources[0],
            "oasis/kind",
            "Is it?",
            "instruction",
            role="llm",
            choices=("instruction", "caption"),
            probs={"instruction": 0.9},
        )
    return sources, rows, doomed


def test_everything_is_counted_once(tmp_path):
    small_run(tmp_path)
    told = summarise(tmp_path).to_json()
    assert told["records"] == {
        "all": 10,
        "kept": 4,
        "dropped": {"garbled": 2, "near-duplicate question": 1},
        "failed": {"empty reply": 1, "picture truncated": 1},
        "pending": 1,
    }
    assert told["rows"] == 5
    assert told["calls"] == {"made": 11, "remembered": 4}
    assert told["tokens"] == {"in": 1100, "out": 220}
    assert told["cost"] is None
    assert told["seconds"] == 12.5
    assert told["losses"] == {"empty reply": 1}
    assert [(s["step"], s["in"], s["kept"], s["out"]) for s in told["steps"]] == [
        ("oasis", 10, 5, 6),
        ("dedup", 6, 5, 5),
    ]
    assert orjson.loads(orjson.dumps(told)) == told


def test_an_earlier_run_does_not_count(tmp_path):
    sources, _, _ = small_run(tmp_path)
    with Run(tmp_path, made=0) as run:
        again = run.source()
        assert again.id == sources[0].id
        run.end("oasis", again, "dropped", "unclear")
    told = summarise(tmp_path).to_json()
    assert told["run"] == 2
    assert told["records"] == {"all": 1, "kept": 0, "dropped": {"unclear": 1}, "failed": {}, "pending": 0}
    assert (told["rows"], told["cost"]) == (0, 0.0)


def test_a_killed_run_is_counted_from_its_calls(tmp_path):
    small_run(tmp_path, state="running")
    told = summarise(tmp_path).to_json()
    assert told["state"] == "running"
    assert told["calls"]["made"] == 2
    assert told["tokens"] == {"in": 200, "out": 40}
    assert [(b["role"], b["made"]) for b in told["by"]] == [("llm", 1), ("vlm", 1)]


def test_the_worst_end_of_several_counts(tmp_path):
    steps = [{"name": n, "step": n, "kind": "row"} for n in ("first", "second")]
    with Run(tmp_path, steps=steps) as run:
        mixed, half, open_ = (run.source() for _ in range(3))
        a, b = run.make("first", mixed, [chat("a", "a"), chat("b", "b")])
        run.end("second", a, "dropped", "dull")
        run.end("second", b, "failed", "refused")
        c, d = run.make("first", half, [chat("a", "a"), chat("b", "b")])
        run.end("second", c, "failed", "refused")
        run.make("second", d, [chat("d", "d")])
        e, _ = run.make("first", open_, [chat("a", "a"), chat("b", "b")])
        run.end("second", e, "dropped", "dull")
    told = summarise(tmp_path).to_json()
    assert told["records"] == {"all": 3, "kept": 1, "dropped": {}, "failed": {"refused": 1}, "pending": 1}
    assert told["steps"][1]["dropped"] == {"dull": 2}


def test_a_picture_that_cannot_be_opened_is_told_of_at_a_later_step(tmp_path):
    steps = [{"name": "near_pictures", "kind": "table"}, {"name": "oasis", "kind": "row"}]
    with Run(tmp_path, steps=steps) as run:
        broken = run.source()
        run.end("oasis", broken, "failed", "picture empty", "0 bytes")
    told = summarise(tmp_path)
    assert told.to_json()["records"] == {
        "all": 1,
        "kept": 0,
        "dropped": {},
        "failed": {"picture empty": 1},
        "pending": 0,
    }
    assert [(f.cause, f.step, f.detail) for f in told.failures] == [("picture empty", "oasis", "0 bytes")]


def test_as_text(tmp_path):
    small_run(tmp_path)
    text = show(summarise(tmp_path))
    assert "10 records = 4 kept + 3 dropped + 2 failed + 1 pending; 5 rows" in text
    assert "no price known" in text
    assert "20 %" in next(line for line in text.splitlines() if "dropped: garbled" in line)
    assert "the model said: …raw words" in text


def test_markup_in_reasons_is_only_text(tmp_path):
    with Run(tmp_path) as run:
        run.end("oasis", run.source(), "failed", "[red]x[/red] [/]", raw="[link=http://x]y[/link]")
    text = show(summarise(tmp_path))
    assert "[red]x[/red] [/]" in text
    assert "[link=http://x]y[/link]" in text


def test_what_models_write_cannot_command_the_terminal(tmp_path):
    evil = "\x1b]0;owned\x07\x1b[2J\x9b31m"
    with Run(tmp_path) as run:
        source = run.source()
        run.call(source, "p", evil, evil)
        run.end("oasis", source, "failed", evil, evil, evil)
    shown = show(summarise(tmp_path)) + show(history(tmp_path, source.id))
    assert not [c for c in shown if (ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160]


def test_history_has_calls_ends_and_children(tmp_path):
    sources, rows, _ = small_run(tmp_path)
    told = history(tmp_path, rows[1].id[:12]).to_json()
    record = told["record"]
    assert (told["found"], record["id"], told["status"]) == (rows[1].id, sources[0].id, "kept")
    assert record["images"][0]["source"] == "pictures/0000.jpg"
    assert [c["prompt"] for c in record["calls"]] == ["", "oasis/kind"]
    assert record["calls"][0]["request"]["open_turn"] is True
    assert record["calls"][1]["reply"]["probs"] == {"instruction": 0.9}
    assert [c["id"] for c in record["children"]] == [r.id for r in rows[:2]]
    assert record["children"][0]["steps"] == [
        {"step": "dedup", "status": "kept", "reason": "", "detail": "", "raw": ""}
    ]
    text = show(history(tmp_path, rows[1].id))
    assert "← asked for" in text
    assert "instruction 0.90" in text


@pytest.mark.parametrize(
    ("prefix", "said"), [("", "not a record id"), ("zz", "not a record id"), ("0" * 31, "no record")]
)
def test_a_record_that_is_not_there(tmp_path, prefix, said):
    small_run(tmp_path)
    with pytest.raises(StoreError, match=said):
        history(tmp_path, prefix)


def test_an_ambiguous_prefix_names_the_candidates(tmp_path):
    with Run(tmp_path, steps=STEPS) as run:
        ids = sorted(run.source().id for _ in range(40))
    first = next(a[0] for a, b in itertools.pairwise(ids) if a[0] == b[0])
    with pytest.raises(StoreError, match=rf"begin with '{first}'.*give more characters"):
        history(tmp_path, first)


def test_not_a_run_folder(tmp_path):
    with pytest.raises(StoreError, match="not a run folder"):
        summarise(tmp_path)
