"""`foveal analyse`: it counts what is there, in files of other tools and in runs; the page is safe and opens."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

import foveal
from foveal.cli import BAD_SETUP, main
from foveal.models.scripted import Scripted
from foveal.view.cuts import cuts
from foveal.view.folder import Folder
from foveal.view.survey import Diversity, Sampled, Tag, diversity

pytest.importorskip("numpy")


def drawn(path: Path, seed: int) -> None:
    cells = bytes((seed * 7919 + n * n * 104729 + n * seed * 31) % 251 for n in range(36 * 3))
    Pillow.frombytes("RGB", (6, 6), cells).resize((96, 48), Pillow.Resampling.BICUBIC).save(path)


def row(image: str, *said: str, **tags: Any) -> dict[str, Any]:
    who = ("human", "gpt")
    turns = [{"from": who[n % 2], "value": f"<image>\n{text}" if n == 0 else text} for n, text in enumerate(said)]
    return {"image": image, "conversations": turns, **tags}


ROWS = [
    row("0.png", "Describe the dog.", "A dog runs.", kind="qa", score=1.5, skills=["OCR", "counting"]),
    row("0.png", "describe  the dog.", "It is brown.", kind="qa", score=2.5, skills=["OCR"]),
    row("1.png", "Describe the dog.", "A big dog.", kind="caption", score=4, skills=[]),
    row("1.png", "How many birds can you see?", "Two.", "Where are they?", "In the tree.", kind="caption", score=4.5),
    row("2.png", "Was ist auf dem Bild zu sehen?", "Ein Hund und eine Katze sind auf dem Bild.", kind="qa", score=5),
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for n in range(3):
        drawn(tmp_path / f"{n}.png", n + 1)
    shutil.copy(tmp_path / "1.png", tmp_path / "copy.png")
    with Pillow.open(tmp_path / "2.png") as picture:
        picture.save(tmp_path / "near.jpg", quality=95)
    lines = [json.dumps(r) for r in [*ROWS, row("near.jpg", "Name it.", "A cat.", kind="qa", score=3)]]
    (tmp_path / "chats.jsonl").write_text("\n".join([*lines, "{ broken"]) + "\n")
    return tmp_path


def told(capsys: Any, *args: str) -> Any:
    assert main(["analyse", *args, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_everything_is_counted(here: Path, capsys: Any) -> None:
    found = told(capsys, "chats.jsonl")
    assert (found["rows"], found["kinds"], sum(found["unreadable"].values())) == (6, {"chat": 6}, 1)
    assert found["exchanges"]["n"] == 6
    assert found["exchanges"]["most"] == 2
    questions, answers = found["texts"]["questions"], found["texts"]["answers"]
    assert questions["words"]["n"] == answers["words"]["n"] == 7
    assert questions["languages"] == {"English": 6, "German": 1}
    assert questions["root_verbs"]["describe"] == {"n": 3, "nouns": {"dog": 3}}
    assert questions["beginnings"]["describe the dog"] == 3
    assert not answers["root_verbs"]
    tags = found["tags"]
    assert tags["kind"]["values"] == {"qa": 4, "caption": 2}
    assert tags["score"]["numbers"]["p50"] == 3
    assert (tags["score"]["numbers"]["least"], tags["score"]["numbers"]["most"]) == (1.5, 5)
    assert tags["skills"]["values"] == {"OCR": 2, "counting": 1}
    assert (tags["skills"]["rows"], tags["skills"]["coverage"]) == (2, 0.3333)


def test_repeats_and_pictures(here: Path, capsys: Any) -> None:
    found = told(capsys, "chats.jsonl")
    assert found["repeats"]["rows"] == 6
    assert found["repeats"]["same_question"] == 2
    assert found["repeats"]["same_question_and_picture"] == 1
    assert found["repeats"]["near_duplicates"] == 2
    assert found["pictures"] == {
        "rows": 6, "distinct": 4, "looked_at": 4, "unreadable": 0, "near_duplicates": 1,
        "longer_side": found["pictures"]["longer_side"], "ratio": found["pictures"]["ratio"],
    }  # fmt: skip
    assert found["pictures"]["longer_side"]["mean"] == 96
    assert found["pictures"]["ratio"]["mean"] == 2
    assert told(capsys, "chats.jsonl", "--pictures", "0")["pictures"]["looked_at"] == 0


def test_tags_with_few_values_are_told_apart(here: Path, capsys: Any) -> None:
    by = told(capsys, "chats.jsonl")["by"]
    assert {value: group["rows"] for value, group in by["kind"].items()} == {"qa": 4, "caption": 2}
    assert list(by) == ["kind"]
    assert by["kind"]["caption"]["tags"]["score"]["numbers"]["mean"] == 4.25
    assert list(told(capsys, "chats.jsonl", "--by", "score")["by"]["score"]) == ["1.5", "2.5", "3", "4", "4.5", "5"]


def test_a_run_and_a_folder_of_pictures(here: Path, capsys: Any) -> None:
    model = Scripted(lambda request: "sharp" if request.choices else "A dog.")
    done = foveal.run("seva", "chats.jsonl", model=model, out=here / "out", perturb=["blank"], side=32)
    assert told(capsys, str(done.folder))["rows"] == done.rows
    found = told(capsys, str(here))
    assert found["pictures"]["distinct"] == 4


def test_pairs(here: Path, capsys: Any) -> None:
    talk = [{"role": "user", "content": "What is it?"}]

    def side(text: str) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": text}]

    pairs = [
        {"images": ["0.png"], "prompt": talk, "chosen": side("A small dog."), "rejected": side("A cat.")},
        {"images": ["1.png"], "prompt": talk, "chosen": side("A dog."), "rejected": side("A blurry image of cats.")},
    ]  # fmt: skip
    (here / "pairs.jsonl").write_text("\n".join(json.dumps(p) for p in pairs))
    found = told(capsys, "pairs.jsonl")
    assert found["kinds"] == {"pair": 2}
    assert (found["pairs"]["chosen_longer"], found["pairs"]["chosen_shorter"]) == (1, 1)
    assert found["pairs"]["leaking"]["rejected"] == 1
    assert found["texts"]["answers"]["words"]["n"] == 4


def test_several_sources(here: Path, capsys: Any) -> None:
    assert told(capsys, "chats.jsonl", "chats.jsonl")["rows"] == 12
    assert told(capsys, "chats.jsonl", "--limit", "2")["rows"] == 2


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["chats.jsonl", "--by", "kinds"], "did you mean 'kind'"),
        (["chats.jsonl", "--limit", "0"], "whole number"),
        (["chat.jsonl"], "chat.jsonl"),
        (["chats.jsonl", "-o", "nowhere/page.html"], "cannot write"),
    ],
)
def test_what_does_not_fit_is_one_sentence(here: Path, capsys: Any, args: list[str], says: str) -> None:
    assert main(["analyse", *args]) == BAD_SETUP
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


def test_the_terminal_and_the_page(here: Path, capsys: Any) -> None:
    assert main(["analyse", "chats.jsonl"]) == 0
    shown = capsys.readouterr().out
    for words in ("6 rows of chats.jsonl", "root verbs: describe", "score", "caption", "distinct-2", "analysis.html"):
        assert words in shown
    page = (here / "analysis.html").read_text()
    for words in ("By kind", "Numbers on the rows", "skills", "Beginnings", "50 %"):
        assert words in page


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def test_what_files_hold_is_only_text(here: Path, capsys: Any) -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    (here / "evil.jsonl").write_text(json.dumps(row("0.png", f"{evil}?", evil, kind=evil[:40], **{evil: evil[:30]})))
    assert main(["analyse", "evil.jsonl", "-o", "evil.html"]) == 0
    parsed = Tags()
    parsed.feed((here / "evil.html").read_text())
    assert not [tag for tag, _ in parsed.seen if tag in ("script", "img", "iframe", "link")]
    assert not [name for _, attributes in parsed.seen for name in attributes if name.startswith("on")]
    assert not [a for _, a in parsed.seen if "style" in a]


@pytest.mark.chromium
def test_it_opens_in_a_browser(here: Path, capsys: Any) -> None:
    browser = next((b for b in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if b), None)
    assert browser
    assert main(["analyse", "chats.jsonl"]) == 0
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000", "--dump-dom"]
    page = (here / "analysis.html").as_uri()
    done = subprocess.run([browser, *options, page], capture_output=True, text=True, timeout=120)
    assert "By kind" in done.stdout
    assert "Refused" not in done.stderr


def test_diversity_by_hand() -> None:
    told = diversity(["a b a b", "a c"])
    assert told == Diversity(6, {1: 3 / 6, 2: 3 / 4, 3: 2 / 2}, told.compression)
    assert diversity(["the same words"] * 50).compression > diversity([f"word{n} x{n}" for n in range(50)]).compression
    assert diversity([]).words == 0


@given(st.lists(st.text(max_size=8), max_size=60, unique=True), st.randoms())
def test_the_sample_does_not_depend_on_the_order(names: list[str], random: Any) -> None:
    shuffled = list(names)
    random.shuffle(shuffled)
    samples = []
    for order in (names, shuffled):
        sample = Sampled(10)
        for name in order:
            sample.add(name, name)
        samples.append(set(sample.values))
    assert samples[0] == samples[1]
    assert len(samples[0]) == min(10, len(names))


def test_effective_values() -> None:
    tag = Tag()
    for value in ("a", "b", "a", "b", "", None, ["a", "b"], [], {"family": "a"}, {"family": "b"}, "x" * 400, True, 7):
        tag.add(value)
    assert tag.having == 10
    assert tag.names == {"a": 4, "b": 4, "yes": 1}
    assert tag.prose == 1
    assert tag.numbers.n == 1
    shares = [4 / 9, 4 / 9, 1 / 9]
    assert math.isclose(tag.effective, math.exp(-sum(p * math.log(p) for p in shares)))


def test_the_report_draws_where_a_run_cut(here: Path, capsys: Any) -> None:
    (here / "cut.yaml").write_text("name: cut\nsource: chats.jsonl\nsteps:\n  - percentile: {of: score, least: 50}\n")
    assert main(["run", "cut.yaml", "-o", "cut", "--quiet"]) == 0
    with Folder(here / "cut") as folder:
        (cut,) = cuts(folder)
    assert (cut.step, cut.tag, dict(cut.other.counts)) == ("percentile", "score", {1.5: 1, 2.5: 1, 3: 1})
    assert dict(cut.kept.counts) == {4: 1, 4.5: 1, 5: 1}
    page = (here / "cut" / "report.html").read_text()
    assert "percentile: score" in page
    assert "6 rows came in" in page
