"""Folders of scenes: what is written is what was drawn, and a killed make goes on."""

import json
import subprocess
import sys

import pytest

import foveal.scrapbook.folder as folder_module
from foveal.cli import main
from foveal.data import open_source
from foveal.errors import SourceError
from foveal.record import digest
from foveal.scrapbook import Settings, compose, load_truth, make


@pytest.fixture(scope="module")
def scenes(tmp_path_factory, wide_album):
    folder = tmp_path_factory.mktemp("scenes") / "s"
    make(folder, 70, seed=5, album=wide_album, workers=2)
    return folder


def test_truth_is_found_by_the_digest_of_a_pictures_bytes(scenes, wide_album):
    truths = load_truth(scenes)
    assert len(truths) == 70
    for i, path in enumerate(sorted(scenes.glob("*.jpg"))):
        truth = truths[digest(path.read_bytes())]
        assert truth.file == path.name
        assert truth.scene == compose(wide_album, 5 + i).scene


def test_lines_tell_counts_relations_sizes_and_what_is_absent(scenes):
    for line in (scenes / "truth.jsonl").read_text().splitlines():
        told = json.loads(line)
        assert sum(told["counts"].values()) == len(told["things"])
        assert set(told["absent"]) == {"random", "popular", "adversarial"}
        assert not set(told["counts"]) & {n for of in told["absent"].values() for n in of}
        for i, kind, j in told["relations"]:
            one, other = told["things"][i]["box"], told["things"][j]["box"]
            assert (one[0] < other[0]) if kind == "left of" else (one[1] < other[1])
        assert all(0 < t["size"] <= 1 for t in told["things"])


def test_processes_make_no_difference(scenes, tmp_path, wide_album):
    make(tmp_path / "alone", 70, seed=5, album=wide_album, workers=1)
    for name in ("truth.jsonl", "000000.jpg", "000069.jpg"):
        assert (tmp_path / "alone" / name).read_bytes() == (scenes / name).read_bytes()


def test_a_killed_make_goes_on(tmp_path, wide_album, monkeypatch):
    whole = tmp_path / "whole"
    make(whole, 80, album=wide_album, workers=1)
    killed = tmp_path / "killed"
    drawn = []

    def dies(job, album, i, before=folder_module._one):
        drawn.append(i)
        if len(drawn) > 50:
            raise KeyboardInterrupt
        return before(job, album, i)

    monkeypatch.setattr(folder_module, "_one", dies)
    with pytest.raises(KeyboardInterrupt):
        make(killed, 80, album=wide_album, workers=1)
    monkeypatch.undo()
    with (killed / "truth.jsonl").open("ab") as torn:
        torn.write(b'{"format":1,"file":"0000')
    made = make(killed, 80, album=wide_album, workers=1)
    assert made.drawn == 80 - 32
    assert (killed / "truth.jsonl").read_bytes() == (whole / "truth.jsonl").read_bytes()
    assert make(killed, 80, album=wide_album).drawn == 0


def test_a_removed_picture_is_drawn_again(tmp_path, wide_album):
    make(tmp_path / "s", 10, album=wide_album, workers=1)
    before = (tmp_path / "s" / "000003.jpg").read_bytes()
    (tmp_path / "s" / "000003.jpg").unlink()
    make(tmp_path / "s", 10, album=wide_album, workers=1)
    assert (tmp_path / "s" / "000003.jpg").read_bytes() == before


def test_a_folder_grows(tmp_path, wide_album):
    make(tmp_path / "s", 10, album=wide_album, workers=1)
    assert make(tmp_path / "s", 15, album=wide_album, workers=1).drawn == 5
    assert len(load_truth(tmp_path / "s")) == 15


def test_another_making_is_refused(tmp_path, wide_album):
    make(tmp_path / "s", 3, album=wide_album, workers=1)
    with pytest.raises(SourceError, match="made with seed 0, not 7"):
        make(tmp_path / "s", 3, seed=7, album=wide_album, workers=1)
    with pytest.raises(SourceError, match=r"made with chart 0\.06, not 1"):
        make(tmp_path / "s", 3, settings=Settings(chart=1.0), album=wide_album, workers=1)


def test_a_folder_of_something_else_is_left_alone(tmp_path, wide_album):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(SourceError, match="holds something else already"):
        make(tmp_path, 3, album=wide_album)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("line", "told"),
    [(b"{}\n", "line 2: not a scene"), (b'{"format": 9}\n', "this foveal reads 1"), (b"\xff\n", "line 2")],
)
def test_bad_truth_is_one_sentence(tmp_path, wide_album, line, told):
    make(tmp_path / "s", 1, album=wide_album, workers=1)
    with (tmp_path / "s" / "truth.jsonl").open("ab") as truth:
        truth.write(line)
    with pytest.raises(SourceError, match=told):
        load_truth(tmp_path / "s")


def test_no_truth_is_one_sentence(tmp_path):
    with pytest.raises(SourceError, match=r"has no truth\.jsonl"):
        load_truth(tmp_path)


def test_the_card_names_packages_and_licences(scenes):
    card = (scenes / "README.md").read_text()
    assert "70 pictures" in card
    assert "openclipart-png" in card
    assert "public domain" in card
    assert "fonts-dejavu-core" in card
    assert "seeds 5 to 74" in card


def test_the_folder_is_a_source_of_pictures(scenes):
    source = open_source(scenes)
    assert source.kind == "pictures"
    truths = load_truth(scenes)
    assert [truths[r.images[0].digest].file for r in source] == sorted(p.name for p in scenes.glob("*.jpg"))


# --- the command ---------------------------------------------------------------------------------------------------


def test_make_and_sheet_from_the_command_line(tmp_path, wide_album, monkeypatch, capsys):
    monkeypatch.setattr(folder_module, "load_album", lambda: wide_album)
    out = tmp_path / "s"
    argv = ["scrapbook", "make", "-n", "40", "-o", str(out), "--objects", "2-3", "--text", "0", "--workers", "1"]
    assert main(argv) == 0
    assert "40 scenes, 40 drawn now" in capsys.readouterr().out
    assert {len(t.scene.things) for t in load_truth(out).values()} == {2, 3}
    assert main(["scrapbook", "sheet", str(out), "-o", str(tmp_path / "sheet.png")]) == 0
    assert (tmp_path / "sheet.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--objects", "0-9"], "a number from 1 to 5"),
        (["--objects", "many"], "a number from 1 to 5"),
        (["--text", "2"], "a share from 0 to 1"),
        (["--chart", "nan"], "a share from 0 to 1"),
        (["--text", "0.8", "--chart", "0.5"], "together at most 1"),
        (["-n", "0"], "from 1 up"),
    ],
)
def test_bad_options_are_one_sentence(tmp_path, capsys, options, told):
    assert main(["scrapbook", "make", "-o", str(tmp_path / "s"), *options]) == 2
    said = capsys.readouterr().err.strip()
    assert told in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "s").exists()


HELP = """
import sys
from foveal.cli import main
try:
    main(["--help"])
except SystemExit:
    print(*sys.modules)
"""
NO_NUMPY = "import sys; sys.modules['numpy'] = None; from foveal.scrapbook import load_album, load_truth; "


def python(code, *argv):
    return subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, check=False)


def test_help_imports_nothing_heavy():
    loaded = set(python(HELP).stdout.split())
    assert "foveal.cli" in loaded
    assert not loaded & {"numpy", "PIL", "foveal.scrapbook"}


def test_the_truth_is_read_without_numpy_and_drawing_says_what_it_needs(scenes):
    assert python(NO_NUMPY + "print(len(load_truth(sys.argv[1])))", str(scenes)).stdout.strip() == "70"
    assert "pip install 'foveal[scrapbook]'" in python(NO_NUMPY + "load_album()").stderr
