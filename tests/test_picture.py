from __future__ import annotations

import io
import struct
import zlib

import pytest
from PIL import Image as Pillow
from PIL import ImageDraw

from foveal import picture
from foveal.errors import ImageError


def saved(image: Pillow.Image, kind: str, **how) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **how)
    return out.getvalue()


def drawn(mode: str = "RGB", size: tuple[int, int] = (40, 20)) -> Pillow.Image:
    image = Pillow.new("RGB", size, (250, 250, 250))
    ImageDraw.Draw(image).rectangle((0, 0, size[0] // 2, size[1] // 2), fill=(200, 20, 20))
    return image.quantize(8) if mode == "P" else image.convert(mode)


def huge_png(side: int = 20_000) -> bytes:
    """A header of 20,000 x 20,000 pixels and no pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    idat = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + idat + chunk(b"IEND", b"")


WRITERS = {
    "jpeg": lambda: saved(drawn(), "JPEG"),
    "png": lambda: saved(drawn(), "PNG"),
    "webp": lambda: saved(drawn(), "WEBP"),
    "webp lossless": lambda: saved(drawn(), "WEBP", lossless=True),
    "webp alpha": lambda: saved(drawn("RGBA"), "WEBP", exif=b"Exif\0\0"),
    "gif": lambda: saved(drawn("P"), "GIF"),
    "bmp": lambda: saved(drawn(), "BMP"),
    "tiff": lambda: saved(drawn(), "TIFF"),
    "tiff packed": lambda: saved(drawn(), "TIFF", compression="tiff_deflate"),
    "progressive": lambda: saved(drawn(), "JPEG", progressive=True),
}


@pytest.mark.parametrize("name", WRITERS)
def test_inspect(name):
    data = WRITERS[name]()
    info = picture.inspect(data)
    assert (info.width, info.height, info.frames) == (40, 20, 1)
    assert info.format == {"progressive": "jpeg"}.get(name, name.split()[0])
    assert info.mime == f"image/{info.format}"
    assert picture.decode(data).size == (40, 20)


@pytest.mark.parametrize("name", WRITERS)
def test_truncated(name):
    data = WRITERS[name]()
    for keep in (0.2, 0.5, 0.9):
        with pytest.raises(ImageError) as caught:
            picture.decode(data[: int(len(data) * keep)])
        assert caught.value.cause in ("picture truncated", "picture damaged")
    with pytest.raises(ImageError, match="picture truncated"):
        picture.inspect(data[: len(data) - 20])


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "picture empty"),
        (b"hello, I am text", "not a picture"),
        (b"<html><body>404</body></html>", "not a picture"),
        (b"\xff\xd8", "picture truncated"),
        (b"\xff\xd8\xff\xe0", "picture truncated"),
        (b"\x89PNG\r\n\x1a\n", "picture truncated"),
        (b"GIF89a", "picture truncated"),
        (b"RIFF\x04\0\0\0WEBP", "picture damaged"),
        (b"BM", "picture truncated"),
        (b"II*\0" + b"\xff" * 40, "picture truncated"),
        (huge_png(), "picture too large"),
        (b"GIF89a" + struct.pack("<HHBBB", 60_000, 60_000, 0, 0, 0) + b";", "picture damaged"),
    ],
)
def test_refused(data, cause):
    for verb in (picture.inspect, picture.encode, picture.decode, picture.dhash):
        with pytest.raises(ImageError) as caught:
            verb(data)
        assert caught.value.cause == cause
    assert caught.value.detail


def test_limit_is_ours(monkeypatch):
    """Pillow's own limit neither warns nor raises below ours; ours holds before anything is decoded."""
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", 10)
    data = WRITERS["png"]()
    assert picture.decode(data).size == (40, 20)
    assert picture.thumbnail(data, 8)
    with pytest.raises(ImageError, match="800 pixels, the limit is 799"):
        picture.inspect(data, limit=799)


def test_decompression_bomb_in_a_text_chunk():
    from PIL.PngImagePlugin import PngInfo

    notes = PngInfo()
    notes.add_text("a", "x" * 80_000_000, zip=True)
    data = saved(drawn(), "PNG", pnginfo=notes)
    assert len(data) < 200_000
    with pytest.raises(ImageError):
        picture.decode(data)


def test_plain_pictures_pass_unchanged():
    for data in (WRITERS["jpeg"](), WRITERS["png"](), WRITERS["progressive"](), saved(drawn("L"), "PNG")):
        assert picture.encode(data)[1] is data
    opaque = saved(drawn("RGBA"), "PNG")
    assert picture.encode(opaque)[1] is opaque
    webp = WRITERS["webp"]()
    assert picture.encode(webp)[1] is not webp
    assert picture.encode(webp, keep=("webp",)) == ("image/webp", webp)


def colours(data: bytes) -> tuple:
    image = picture.decode(data)
    return image.getpixel((2, 2)), image.getpixel((image.width - 2, image.height - 2))


def near(one, other, by=12) -> bool:
    return all(abs(a - b) <= by for p, q in zip(one, other, strict=True) for a, b in zip(p, q, strict=True))


ODD = {
    "cmyk": lambda: saved(drawn("CMYK"), "JPEG"),
    "palette": lambda: saved(drawn("P"), "PNG"),
    "bmp": WRITERS["bmp"],
    "tiff": WRITERS["tiff"],
    "gif": WRITERS["gif"],
    "webp": WRITERS["webp lossless"],
    "interlaced gif": lambda: saved(drawn("P"), "GIF", interlace=True),
    "animated gif": lambda: saved(drawn(), "GIF", save_all=True, append_images=[Pillow.new("RGB", (40, 20), "blue")]),
    "animated webp": lambda: saved(
        drawn(), "WEBP", save_all=True, lossless=True, append_images=[Pillow.new("RGB", (40, 20), "blue")]
    ),
    "apng": lambda: saved(drawn(), "PNG", save_all=True, append_images=[Pillow.new("RGB", (40, 20), "blue")]),
    "cmyk tiff": lambda: saved(drawn("CMYK"), "TIFF"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_pictures_are_encoded_anew(name):
    data = ODD[name]()
    mime, out = picture.encode(data)
    assert (mime, picture.inspect(out).format) == ("image/png", "png")
    assert picture.encode(out)[1] is out
    assert near(colours(out), ((200, 20, 20), (250, 250, 250)), 30)
    assert near(colours(data), colours(out), 0)
    if name.startswith(("anim", "apng")):
        assert picture.inspect(data).frames == 2


def test_deep_grey_is_scaled():
    deep = Pillow.new("I;16", (10, 10), 0x8000)
    for data in (saved(deep, "PNG"), saved(deep, "TIFF")):
        assert near(colours(data), ((128,) * 3,) * 2, 1)
        assert near(colours(picture.encode(data)[1]), ((128,) * 3,) * 2, 1)
    real = saved(Pillow.new("F", (10, 10), 0.5), "TIFF")
    assert picture.decode(real).mode == "RGB"


def test_transparency_is_laid_on_white():
    clear = Pillow.new("RGBA", (10, 10), (255, 0, 0, 0))
    palette = drawn("P")
    clear_at = {"transparency": palette.getpixel((2, 2))}
    for data in (
        saved(clear, "PNG"),
        saved(clear, "WEBP", lossless=True),
        saved(palette, "PNG", **clear_at),
        saved(palette, "GIF", **clear_at),
    ):
        assert colours(data)[0] == (255, 255, 255)
        assert colours(picture.encode(data, keep=picture.SUFFIXES)[1])[0] == (255, 255, 255)


@pytest.mark.parametrize("turn", range(2, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation(turn, kind):
    from PIL import ImageOps

    exif = Pillow.Exif()
    exif[0x0112] = turn
    data = saved(drawn(), kind, exif=exif)
    expected = ImageOps.exif_transpose(Pillow.open(io.BytesIO(data))).convert("RGB")
    assert picture.decode(data).tobytes() == expected.tobytes()
    mime, out = picture.encode(data, keep=picture.SUFFIXES)
    plain = Pillow.open(io.BytesIO(out)).convert("RGB")
    assert (mime, plain.size) == ("image/png", expected.size)
    assert plain.tobytes() == expected.tobytes()


def test_upright_exif_passes():
    exif = Pillow.Exif()
    exif[0x0112] = 1
    exif[0x010E] = "a description"
    data = saved(drawn(), "JPEG", exif=exif)
    assert picture.encode(data)[1] is data


def test_trailing_bytes_of_cameras():
    for name in ("jpeg", "png", "progressive"):
        data = WRITERS[name]() + b"SEFT" * 100
        assert picture.inspect(data).width == 40
        assert picture.decode(data)


def test_max_pixels():
    noise = Pillow.merge("RGB", [Pillow.effect_noise((400, 300), 80) for _ in "RGB"])
    mime, out = picture.encode(saved(noise, "PNG"), max_pixels=30_000)
    info = picture.inspect(out)
    assert info.width * info.height <= 30_000
    assert (info.width, info.height) == (200, 150)
    assert mime == "image/png"  # small
    assert picture.encode(saved(noise, "BMP"))[0] == "image/jpeg"  # many colours, more than 256 x 256


def test_thumbnail():
    data = picture.thumbnail(saved(drawn(size=(640, 320)), "JPEG"), 64)
    assert (picture.inspect(data).width, picture.inspect(data).height) == (64, 32)


def test_dhash_finds_the_same_picture():
    one = Pillow.effect_mandelbrot((300, 200), (-2, -1.2, 1, 1.2), 60).convert("RGB")
    other = Pillow.linear_gradient("L").resize((300, 200)).convert("RGB")
    hashes = [picture.dhash(saved(one, "PNG")), picture.dhash(saved(one.resize((150, 100)), "JPEG", quality=60))]
    assert (hashes[0] ^ hashes[1]).bit_count() <= 6
    assert (hashes[0] ^ picture.dhash(saved(other, "PNG"))).bit_count() > 10
    assert 0 <= hashes[0] < 2**64


def test_what_is_plain_at_a_glance_passes_unchanged() -> None:
    turned = Pillow.Exif()
    turned[274] = 6
    plain = [saved(drawn(mode), kind) for mode in ("RGB", "L") for kind in ("jpeg", "png")]
    work = [saved(drawn("CMYK"), "jpeg"), saved(drawn(), "jpeg", exif=turned), saved(drawn("RGBA"), "png")]
    work += [saved(drawn(), "tiff"), b"", b"\xff\xd8"]
    assert [picture.at_a_glance(data) for data in plain] == [True] * 4
    assert [picture.at_a_glance(data) for data in work] == [False] * 6
    assert all(picture.encode(data)[1] == data for data in plain)
