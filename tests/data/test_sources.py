from __future__ import annotations

import base64
import io
import json
import os
import tarfile

import pytest
from PIL import Image as Pillow

import foveal
from foveal.data import Broken, open_source, read
from foveal.data import arrow as arrow_files
from foveal.data.places import inside, place, split
from foveal.errors import ImageError, RecipeError, SourceError
from foveal.models.scripted import Scripted
from foveal.record import Chat, Image, Pair, Record


def png(red: int = 0) -> bytes:
    out = io.BytesIO()
    Pillow.new("RGB", (9, 7), (red, 0, 0)).save(out, "PNG")
    return out.getvalue()


def uri(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "b").mkdir(parents=True)
    for name, red in (("c.png", 1), ("a.jpg", 2), ("b/z.webp", 3)):  # lying extensions are fine
        (folder / name).write_bytes(png(red))
    return folder


def reopened(source) -> list[Record]:
    """The records, each picture opened again by its source string."""
    found = list(source)
    for record in found:
        for image in record.images:
            assert Image.of(read(image.source)) == image, image.source
    return found


def lines(path, *rows) -> str:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return str(path)


# --- pictures --------------------------------------------------------------------------------------------------------


def test_folder(photos):
    (photos / "notes.txt").write_text("hello")
    (photos / ".hidden.png").write_bytes(png())
    (photos / "a.json").write_text("{}")
    source = open_source(photos)
    found = reopened(source)
    assert [r.tags["source"] for r in found] == ["a.jpg", "b/z.webp", "c.png"]
    assert source.count() == 3
    assert source.describe().endswith("photos: 3 pictures; left out: 1 .json and .jsonl files, 1 .txt file")
    assert [r.id for r in source] == [r.id for r in found]
    assert [r.tags["source"] for r in open_source(photos, limit=2)] == ["a.jpg", "b/z.webp"]
    assert open_source(photos, limit=2).count() == 2


def test_identity_does_not_depend_on_place(photos, tmp_path):
    copy = tmp_path / "other.png"
    copy.write_bytes(png(1))
    assert next(iter(open_source(copy))).id == next(r for r in open_source(photos) if r.tags["source"] == "c.png").id


def test_glob_list_and_file(photos):
    assert len(reopened(open_source(f"{photos}/*.*"))) == 2
    assert len(reopened(open_source(f"{photos}/**/*.webp"))) == 1
    assert len(reopened(open_source([photos / "c.png", photos / "a.jpg"]))) == 2
    assert len(reopened(open_source(photos / "c.png"))) == 1


def test_names_with_signs(tmp_path):
    for name in ("wow!.png", "100%.png", "a.tar!b.png", "ü #?.png"):
        (tmp_path / name).write_bytes(png())
    assert len(reopened(open_source(tmp_path))) == 4
    assert split(place("a!b.tar", "c!d%/e")) == ("a!b.tar", "c%21d%25/e")


def test_bad_pictures_are_items(photos):
    (photos / "d.jpg").write_text("I am text")
    (photos / "e.png").write_bytes(b"")
    (photos / "f.png").write_bytes(png()[:40])
    (photos / "g.png").symlink_to(photos / "gone.png")
    found = list(open_source(photos))
    assert len(found) == 7
    causes = {b.source: b.error.cause for b in found if isinstance(b, Broken)}
    assert causes == {
        "d.jpg": "not a picture", "e.png": "picture empty", "f.png": "picture truncated", "g.png": "picture unreadable",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda p: p / "fotos", "did you mean 'photos'"),
        (lambda p: p / "photos" / "c.pgn", "did you mean 'c.png'"),
        (lambda p: p / "empty", "empty holds nothing"),
        (lambda p: p / "words", "holds no pictures (1 other files)"),
        (lambda p: p / "photos" / "*.bmp", "nothing matches"),
        (lambda p: p / "mixed", "say format='pictures' or format='parquet'"),
        (lambda p: [], "an empty list"),
    ],
)
def test_one_sentence(photos, make, says):
    top = photos.parent
    (top / "empty").mkdir()
    (top / "words").mkdir()
    (top / "words" / "a.txt").write_text("x")
    (top / "mixed").mkdir()
    (top / "mixed" / "a.png").write_bytes(png())
    (top / "mixed" / "a.parquet").write_bytes(b"x")
    with pytest.raises(SourceError) as caught:
        open_source(make(top))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_format(photos):
    with pytest.raises(RecipeError, match="did you mean 'sharegpt'"):
        open_source(photos, format="shargpt")
    with pytest.raises(SourceError, match="holds no tables"):
        open_source(photos, format="parquet")


def test_fsspec():
    import fsspec

    fs = fsspec.filesystem("memory")
    fs.pipe({"/pics/b.png": png(1), "/pics/a.png": png(2), "/pics/.x.png": png(), "/pics/sub/c.png": png(3)})
    found = reopened(open_source("memory://pics"))
    assert [r.tags["source"] for r in found] == ["a.png", "b.png", "sub/c.png"]
    fs.pipe("/rows/a.jsonl", json.dumps({"image": "x.png", "n": 1}).encode())
    fs.pipe("/rows/x.png", png())
    (record,) = reopened(open_source("memory://rows/a.jsonl"))
    assert record.tags["n"] == 1
    with pytest.raises(SourceError, match="nothing there"):
        open_source("memory://nowhere")
    with pytest.raises(SourceError):
        open_source("nosuch://bucket/x")


# --- rows ------------------------------------------------------------------------------------------------------------


def test_llava(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(png())
    talk = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A square."}]
    (tmp_path / "l.json").write_text(json.dumps([
        {"id": "7", "image": "images/a.png", "conversations": talk},
        {"id": "8", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]},
        {"image": "images/a.png", "conversations": [{"from": "human", "value": "What?\n<image>"}, *talk[1:]]},
    ]))  # fmt: skip
    first, second, third = reopened(open_source(tmp_path / "l.json"))
    assert first.body == Chat([("user", "What?"), ("assistant", "A square.")])
    assert first.tags == {"id": "7", "source": "l.json row 1"}
    assert second.images == ()
    assert third.body.turns[0].content == ("What?\n", 0)


def test_swift(tmp_path):
    talk = [{"role": "user", "content": "<image>Which <image>?"}, {"role": "assistant", "content": "Two."}]
    path = lines(
        tmp_path / "s.jsonl",
        {"messages": talk, "images": [uri(png(1)), uri(png(2))], "solution": "2"},
        {"messages": talk, "images": [uri(png(1)), uri(png(2))], "rejected_response": "One."},
        {"messages": talk[1:], "images": []},
    )
    first, second, third = reopened(open_source(path))
    assert first.body.turns[0].content == (0, "Which ", 1, "?")
    assert first.tags["solution"] == "2"
    assert (second.body.chosen, second.body.rejected) == ("Two.", "One.")
    assert third.images == ()


def test_trl(tmp_path):
    path = lines(
        tmp_path / "t.jsonl",
        {"prompt": "What?", "chosen": "a", "rejected": "b", "image": uri(png())},
        {"prompt": [{"role": "user", "content": [{"type": "text", "text": "See"}, {"type": "image"}]}],
         "completion": [{"role": "assistant", "content": "c"}], "images": [uri(png())]},
        {"chosen": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "a"}],
         "rejected": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "b"}], "images": []},
    )  # fmt: skip
    first, second, third = reopened(open_source(path, format="trl"))
    assert first.body == Pair("What?", "a", "b")
    assert second.body.turns[0].content == ("See", 0)
    assert third.body == Pair("Q", "a", "b")


def test_sharegpt_pair_and_system(tmp_path):
    row = {
        "conversations": [{"from": "human", "value": "<image>Q"}], "system": "Be kind.", "images": [uri(png())],
        "chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"},
    }  # fmt: skip
    (record,) = reopened(open_source(lines(tmp_path / "g.jsonl", row)))
    assert record.body == Pair([("system", "Be kind."), ("user", "Q")], "a", "b")


def test_corrupt_lines_are_items(tmp_path):
    good = {"image": uri(png()), "n": 1}
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join([
        json.dumps(good), '{"image": ', "[1, 2]", "", json.dumps({"image": "data:image/png;base64,@@"}),
        json.dumps({"image": uri(b"text")}), json.dumps({"n": 2}), json.dumps({"image": 5}), json.dumps(good),
    ]))  # fmt: skip
    found = list(open_source(path))
    assert [type(f).__name__ for f in found] == ["Record", *["Broken"] * 6, "Record"]
    assert [f.error.cause for f in found[1:-1]] == [
        "line is not JSON", "row is not an object", "picture damaged", "not a picture", "row without a picture",
        "not a picture",
    ]  # fmt: skip
    assert "x.jsonl, line 2" in str(found[1].error)


def test_rows_of_another_form_are_items(tmp_path):
    talk = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    path = lines(
        tmp_path / "m.jsonl",
        {"conversations": talk, "images": []},
        {"messages": [], "images": []},
        {"conversations": [{"from": "tool", "value": "x"}], "images": []},
        {"conversations": [{"from": "human", "value": "<image><image>"}], "images": [uri(png())]},
    )
    causes = [f.error.cause for f in open_source(path) if isinstance(f, Broken)]
    assert causes == ["row of another form", "turn of an unknown role", "more placeholders than pictures"]


def test_unknown_form_names_the_keys(tmp_path):
    with pytest.raises(SourceError, match="rows with foo, bar are of no known form; readable: llava"):
        open_source(lines(tmp_path / "a.jsonl", {"foo": 1, "bar": 2}))
    with pytest.raises(SourceError, match="rows with prompt, chosen, rejected look like trl, not llava"):
        open_source(lines(tmp_path / "b.jsonl", {"prompt": "", "chosen": "", "rejected": ""}), format="llava")
    (tmp_path / "c.jsonl").write_text("garbage\n")
    with pytest.raises(SourceError, match="no rows that can be read"):
        open_source(tmp_path / "c.jsonl")


def test_damaged_array(tmp_path):
    rows = json.dumps([{"image": uri(png()), "n": n} for n in range(3)])
    (tmp_path / "a.json").write_text(rows[:-30])
    found = list(open_source(tmp_path / "a.json"))
    assert [type(f).__name__ for f in found] == ["Record", "Record", "Broken"]
    assert "a.json, row 3" in str(found[2].error)


def test_long_arrays_are_read_in_pieces(tmp_path):
    rows = [{"image": uri(png(n % 250)), "text": "é" * 60_000} for n in range(40)]
    (tmp_path / "a.json").write_text(json.dumps(rows, ensure_ascii=False, indent=1), encoding="utf-8")
    assert len(reopened(open_source(tmp_path / "a.json"))) == 40


def test_paths_stay_inside(tmp_path):
    inner = tmp_path / "data"
    inner.mkdir()
    (tmp_path / "secret.png").write_bytes(png())
    (inner / "a.png").write_bytes(png())
    (inner / "link.png").symlink_to(tmp_path / "secret.png")
    (inner / "up").symlink_to(tmp_path)
    names = ["a.png", "../secret.png", str(tmp_path / "secret.png"), "link.png", "up/secret.png", "x\0.png",
             "file:///etc/passwd", "http://127.0.0.1/x.png", str(inner / "a.png")]  # fmt: skip
    path = lines(inner / "r.jsonl", *({"image": n} for n in names))
    found = list(open_source(path))
    assert [type(f).__name__ for f in found] == ["Record", *["Broken"] * 7, "Record"]
    assert {f.error.cause for f in found[1:-1]} == {"picture path leaves its folder", "picture is remote"}
    wide = list(open_source(path, root=tmp_path))
    assert isinstance(wide[2], Record)
    for bad in ("../x", "/x", "s3://other/x"):
        with pytest.raises(ImageError):
            inside("s3://bucket/data", bad)
    assert inside("s3://bucket/data", "a/b.png") == "s3://bucket/data/a/b.png"


# --- tables ----------------------------------------------------------------------------------------------------------


def table(path, rows, shapes):
    arrow_files.write(path, rows, shapes, {})
    return path


CELL = {"bytes": "binary", "path": "string"}


def test_parquet(tmp_path):
    (tmp_path / "side.png").write_bytes(png(99))
    rows = [{"pic": {"bytes": png(n), "path": None}, "label": n, "word": f"w{n}"} for n in range(40)]
    rows.append({"pic": {"bytes": None, "path": "side.png"}, "label": 40, "word": None})
    rows.append({"pic": {"bytes": b"text", "path": None}, "label": 41, "word": "x"})
    path = table(tmp_path / "t.parquet", rows, {"pic": CELL, "label": "int64", "word": "string"})
    source = open_source(path)
    assert source.count() == 42
    found = list(source)
    assert isinstance(found.pop(), Broken)
    assert found[3].tags == {"label": 3, "word": "w3", "source": "t.parquet row 4"}
    for record in reversed(found):  # backwards: the worst order for a file that is read in batches
        assert read(record.images[0].source) == record.images[0].data()
    assert found[3].images[0].source.endswith("t.parquet!3/pic")


def test_lists_bytes_and_named_columns(tmp_path):
    rows = [{"views": [{"bytes": png(1), "path": "a"}, {"bytes": png(2), "path": "b"}], "raw": png(3)}]
    path = table(tmp_path / "t.parquet", rows, {"views": [CELL], "raw": "binary"})
    (record,) = reopened(open_source(path))
    assert len(record.images) == 2
    (record,) = reopened(open_source(path, column="raw"))
    assert record.images == (Image.of(png(3)),)
    with pytest.raises(SourceError, match="no column 'rwa'; did you mean 'raw'"):
        open_source(path, column="rwa")
    only = table(tmp_path / "u.parquet", rows, {"raw": "binary"})
    assert reopened(open_source(only))[0].images == (Image.of(png(3)),)


def test_corrupt_parquet(tmp_path):
    good = table(tmp_path / "g.parquet", [{"pic": {"bytes": os.urandom(20_000), "path": ""}}] * 300, {"pic": CELL})
    data = good.read_bytes()
    for number, bad in enumerate(
        (b"", b"PAR1", data[: len(data) // 2], b"x" * 100, data[:-8] + b"\xff\xff\xff\x7fPAR1")
    ):
        path = tmp_path / f"bad{number}.parquet"
        path.write_bytes(bad)
        with pytest.raises(SourceError, match=f"bad{number}.parquet is not a whole parquet file"):
            open_source(path)


def test_damage_in_the_middle_is_told_and_the_rest_stands(tmp_path):
    rows = [{"pic": {"bytes": png(n % 250), "path": ""}, "noise": os.urandom(3000).hex()} for n in range(600)]
    path = table(tmp_path / "t.parquet", rows, {"pic": CELL, "noise": "string"})
    data = bytearray(path.read_bytes())
    at = len(data) // 2
    data[at : at + 200_000] = b"\xee" * 200_000
    path.write_bytes(data)
    found = list(open_source(path))
    assert isinstance(found[-1], Broken)
    assert found[-1].error.cause == "file is damaged"
    assert "damaged after row" in str(found[-1].error)
    assert sum(isinstance(f, Record) for f in found) >= 128


# --- archives --------------------------------------------------------------------------------------------------------


def tar(path, members, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            if isinstance(data, str):
                info.type, info.linkname = tarfile.SYMTYPE, data
                archive.addfile(info)
            else:
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz"])
def test_webdataset(tmp_path, name):
    said = b'{"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]}'
    members = [
        ("x/000.png", png(1)), ("x/000.txt", b" a red square "), ("x/000.json", b'{"width": 9}'),
        ("x/001.jpg", png(2)), ("x/001.json", said),
        ("x/002.0.png", png(3)), ("x/002.1.png", png(4)),
    ]  # fmt: skip
    first, second, third = reopened(open_source(tar(tmp_path / name, members, "w:gz" if name.endswith("gz") else "w")))
    assert first.tags == {"text": "a red square", "width": 9, "source": f"{name} x/000"}
    assert second.body == Chat([("user", "Q"), ("assistant", "A")])
    assert len(third.images) == 2


def test_archives_do_not_escape(tmp_path):
    members = [
        ("../../evil.png", png()),
        ("/abs.png", png()),
        ("link.png", "/etc/passwd"),
        ("ok.png", png()),
        ("no.json", b"{"),
    ]
    found = list(open_source(tar(tmp_path / "a.tar", members)))
    assert [f.error.cause for f in found if isinstance(f, Broken)] == [
        *["archive member leaves its folder"] * 2, "archive member is a link", "line is not JSON",
    ]  # fmt: skip
    assert sum(isinstance(f, Record) for f in found) == 1
    assert not (tmp_path.parent / "evil.png").exists()


def test_damaged_archives(tmp_path):
    path = tar(tmp_path / "a.tar", [(f"{n}.png", png(n)) for n in range(20)])
    path.write_bytes(path.read_bytes()[:9000])
    found = list(open_source(path))
    assert isinstance(found[-1], Broken)
    assert found[-1].error.cause == "archive is damaged"
    assert all(isinstance(f, Record) for f in found[:-1])
    (tmp_path / "b.tar").write_bytes(b"no archive")
    with pytest.raises(SourceError, match="cannot be read as a tar file"):
        list(open_source(tmp_path / "b.tar"))


def test_read_names_what_is_gone(tmp_path):
    for source in (
        str(tmp_path / "x.png"),
        str(tmp_path / "x.tar!a.png"),
        str(tmp_path / "x.parquet!0/image"),
        "blob:00",
    ):
        with pytest.raises(ImageError, match="picture unreadable"):
            read(source)
    assert read("blob:00", lambda digest: digest.encode()) == b"00"


# --- runs ----------------------------------------------------------------------------------------------------------


def test_a_finished_run_is_a_source(tmp_path, pictures):
    script = Scripted(lambda r: f"It is {r.seed} and so on.")
    foveal.run("seva", pictures(6), model=script, out=tmp_path / "a")
    source = open_source(tmp_path / "a")
    found = list(source)
    assert source.count() == len(found) > 0
    assert (found[0].parent, found[0].step) == ("", "")
    assert isinstance(found[0].body, Pair)
    assert "group" in found[0].tags
    assert all(Image.of(image.data()) == image for record in found for image in record.images)  # the run's own, too
    done = foveal.run({"name": "again", "steps": ["near_sides"]}, tmp_path / "a", out=tmp_path / "b")
    assert done.rows == len(found)


def test_a_damaged_row_of_a_run_is_broken_alone(tmp_path, pictures):
    script = Scripted([("number from", "5"), ("", "A red thing it is.")])
    foveal.run("caption", pictures(3), model=script, out=tmp_path / "a")
    rows = (tmp_path / "a" / "rows.jsonl").read_text().splitlines()
    (tmp_path / "a" / "rows.jsonl").write_text("\n".join([rows[0], '{"id": "x"}', "{", rows[2]]) + "\n")
    kinds = [type(item).__name__ for item in open_source(tmp_path / "a")]
    assert kinds == ["Record", "Broken", "Broken", "Record"]
