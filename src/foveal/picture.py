"""Pictures, safely: look at the header first, decode only what is small enough, and send what every server can read."""

from __future__ import annotations

import io
import re
import struct
import warnings
import zlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TypeAlias

from PIL import BmpImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin
from PIL import Image as Pillow
from PIL.ImageFile import ImageFile

from foveal.errors import ImageError

PIXEL_LIMIT = 100_000_000
"""Pictures with more pixels than this are refused before anything is decoded."""

SUFFIXES = {
    "jpeg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "png": (".png",),
    "webp": (".webp",),
    "gif": (".gif",),
    "bmp": (".bmp", ".dib"),
    "tiff": (".tif", ".tiff"),
}
"""File name endings of each format, the usual one first."""

# The plugins are named one by one, so that neither a rare format nor Pillow's own global pixel limit (which warns at
# one size and raises at another, for the whole process) has a say; `inspect` has applied ours before.
_PLUGINS: dict[str, type[ImageFile]] = {
    "jpeg": JpegImagePlugin.JpegImageFile,
    "png": PngImagePlugin.PngImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
    "gif": GifImagePlugin.GifImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "tiff": TiffImagePlugin.TiffImageFile,
}
_MAGIC = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"BM", "bmp"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
)
# What Pillow's readers raise on bytes that lie; Warning is here for processes that turn warnings into errors.
_BROKEN = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, ArithmeticError, struct.error, Warning,
           AttributeError, AssertionError, NotImplementedError)  # fmt: skip
# A damaged EXIF block in one of a million photographs is no news for the terminal.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

_ORIENTATION = 0x0112
_TURNS = {
    2: Pillow.Transpose.FLIP_LEFT_RIGHT,
    3: Pillow.Transpose.ROTATE_180,
    4: Pillow.Transpose.FLIP_TOP_BOTTOM,
    5: Pillow.Transpose.TRANSPOSE,
    6: Pillow.Transpose.ROTATE_270,
    7: Pillow.Transpose.TRANSVERSE,
    8: Pillow.Transpose.ROTATE_90,
}
_SMALL = 256 * 256
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


@dataclass(frozen=True, slots=True)
class Info:
    """What a picture's header says.

    Attributes:
        format: jpeg, png, webp, gif, bmp or tiff, by content.
        mime: its media type.
        width: pixels, as stored (before EXIF orientation).
        height: pixels, as stored.
        frames: 1, or more for an animation.
    """

    format: str
    mime: str
    width: int
    height: int
    frames: int = 1


Header: TypeAlias = tuple[int, int, int]
"""Width, height, frames."""


def inspect(data: bytes, limit: int = PIXEL_LIMIT) -> Info:
    """Read the header and check that the file is whole, without decoding (about 0.01 ms).

    Args:
        data: the file's bytes.
        limit: the most pixels a frame may have.

    Raises:
        ImageError: 'picture empty', 'not a picture', 'picture truncated', 'picture damaged' or 'picture too large'.
    """
    if not data:
        raise ImageError("picture empty", "0 bytes")
    kind = _sniff(data)
    try:
        width, height, frames = _HEADERS[kind](data)
    except (struct.error, IndexError) as error:
        raise ImageError("picture truncated", f"{kind}, {len(data)} bytes, ends inside its header") from error
    if width < 1 or height < 1:
        raise ImageError("picture damaged", f"{kind} of {width}x{height} pixels")
    if width * height > limit:
        raise ImageError("picture too large", f"{width}x{height} is {width * height} pixels, the limit is {limit}")
    return Info(kind, f"image/{kind}", width, height, frames)


def _sniff(data: bytes) -> str:
    for magic, kind in _MAGIC:
        if data.startswith(magic):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if any(magic.startswith(data) for magic, _ in _MAGIC) or (data[:4] == b"RIFF" and b"WEBP".startswith(data[8:12])):
        raise ImageError("picture truncated", f"{len(data)} bytes")
    raise ImageError("not a picture", f"{len(data)} bytes beginning {data[:12]!r}; readable: {', '.join(_PLUGINS)}")


def _truncated(kind: str, data: bytes, missing: str) -> ImageError:
    return ImageError("picture truncated", f"{kind}, {len(data)} bytes, {missing}")


def _jpeg(data: bytes) -> Header:
    at, size = 2, (0, 0)
    while True:
        while data[at] == 0xFF and data[at + 1] == 0xFF:
            at += 1
        if data[at] != 0xFF:
            raise ImageError("picture damaged", f"jpeg, no marker at byte {at}")
        marker = data[at + 1]
        if marker == 0xD9:
            raise ImageError("picture damaged", "jpeg ends before its first scan")
        (length,) = struct.unpack_from(">H", data, at + 2)
        if marker == 0xDA:
            break
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
            size = (width, height)
        at += 2 + length
    if not data.endswith(b"\xff\xd9") and not _jpeg_ends(data, at + 2 + length):
        raise _truncated("jpeg", data, "no end marker")
    return (*size, 1)


def _jpeg_ends(data: bytes, at: int) -> bool:
    """Walk the scans to the end marker; cameras and messengers append their own bytes behind it."""
    while (found := _JPEG_MARKER.search(data, at)) is not None:
        at = found.start()
        if data[at + 1] == 0xD9:
            return True
        if at + 4 > len(data):
            return False
        at += 2 + int(struct.unpack_from(">H", data, at + 2)[0])
    return False


def _png(data: bytes) -> Header:
    if len(data) < 33:
        raise _truncated("png", data, "no whole header")
    if data[12:16] != b"IHDR":
        raise ImageError("picture damaged", "png without a header chunk")
    width, height = struct.unpack_from(">II", data, 16)
    at, frames = 8, 1
    while True:
        if at + 12 > len(data):
            raise _truncated("png", data, "no IEND chunk")
        length, name = struct.unpack_from(">I4s", data, at)
        if name == b"acTL":
            (frames,) = struct.unpack_from(">I", data, at + 8)
        if name == b"IEND":
            return width, height, max(1, frames)
        at += 12 + length


def _webp(data: bytes) -> Header:
    (length,) = struct.unpack_from("<I", data, 4)
    if length + 8 > len(data):
        raise _truncated("webp", data, f"its header says {length + 8}")
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF, 1
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, 1
    if kind != b"VP8X":
        raise ImageError("picture damaged", f"webp beginning with a {kind!r} chunk")
    width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
    return width, height, max(1, _riff(data).count(b"ANMF"))


def _riff(data: bytes) -> list[bytes]:
    names, at = [], 12
    while at + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, at)
        names.append(name)
        at += 8 + length + (length & 1)
    return names


def _gif(data: bytes) -> Header:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at, frames = 13 + _palette(flags), 0
    try:
        while data[at] != 0x3B:
            if data[at] == 0x2C:
                left, top, across, down, flags = struct.unpack_from("<HHHHB", data, at + 1)
                # A frame that leaves the screen makes decoders enlarge the canvas.
                width, height = max(width, left + across), max(height, top + down)
                frames += 1
                at += 11 + _palette(flags)
            elif data[at] == 0x21:
                at += 2
            else:
                raise ImageError("picture damaged", f"gif, unknown block {data[at]:#04x} at byte {at}")
            while length := data[at]:
                at += length + 1
            at += 1
    except (IndexError, struct.error) as error:
        raise _truncated("gif", data, "no trailer") from error
    return (width, height, frames) if frames else (0, 0, 0)


def _palette(flags: int) -> int:
    """Return a GIF colour table's length in bytes."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _bmp(data: bytes) -> Header:
    start, header = struct.unpack_from("<II", data, 10)
    if header == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression = 0
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    height = abs(height)
    needed = start + (width * bits + 31) // 32 * 4 * height
    if compression in (0, 3) and 0 < width * height <= PIXEL_LIMIT and needed > len(data):
        raise _truncated("bmp", data, f"{needed} are needed")
    return width, height, 1


def _tiff(data: bytes) -> Header:
    order = "<" if data[:1] == b"I" else ">"
    if data[2:4] in (b"*\0", b"\0*"):  # not BigTIFF, whose directory Pillow finds
        (start,) = struct.unpack_from(order + "I", data, 4)
        (entries,) = struct.unpack_from(order + "H", data, start)
        if start + 2 + 12 * entries > len(data):
            raise _truncated("tiff", data, f"its directory ends at {start + 2 + 12 * entries}")
    image = _open(data, "tiff")
    tags = getattr(image, "tag_v2", {})
    for offsets, lengths in ((273, 279), (324, 325)):
        ends = [a + b for a, b in zip(tags.get(offsets, ()), tags.get(lengths, ()), strict=False)]
        if ends and max(ends) > len(data):
            raise _truncated("tiff", data, f"{max(ends)} are needed")
    # Counting pages walks the whole file; whether there is a second one is all that anyone asks.
    return *image.size, 1


_HEADERS: dict[str, Callable[[bytes], Header]] = {
    "jpeg": _jpeg, "png": _png, "webp": _webp, "gif": _gif, "bmp": _bmp, "tiff": _tiff,
}  # fmt: skip


# --- decoding ------------------------------------------------------------------------------------------------------


def _open(data: bytes, kind: str) -> ImageFile:
    try:
        return _PLUGINS[kind](io.BytesIO(data))
    except _BROKEN as error:
        raise ImageError("picture damaged", f"{kind}, {len(data)} bytes: {error}") from error


def _load(image: ImageFile, kind: str) -> Pillow.Image:
    try:
        image.load()
    except _BROKEN as error:
        cause = "picture truncated" if "truncated" in str(error) else "picture damaged"
        raise ImageError(cause, f"{kind}: {error}") from error
    return image


def _orientation(image: Pillow.Image) -> int:
    """Return the EXIF (or XMP) orientation, 1 to 8; 1 when there is none or it cannot be read."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except _BROKEN:
        return 1
    return value if value in _TURNS else 1


def _rgb(image: Pillow.Image) -> Pillow.Image:
    """Return 8-bit RGB: deep grey scaled, transparency laid on white (as vLLM does)."""
    try:
        if image.mode.startswith("I;16"):
            image = image.point(lambda v: v * (1 / 256)).convert("L")
        elif image.mode in ("I", "F"):
            image = _stretched(image)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            white = Pillow.new("RGBA", image.size, "white")
            image = Pillow.alpha_composite(white, image)
        return image.convert("RGB")
    except _BROKEN as error:
        raise ImageError("picture damaged", f"pixels of mode {image.mode}: {error}") from error


def _stretched(image: Pillow.Image) -> Pillow.Image:
    low, high = image.getextrema()
    assert isinstance(low, int | float)
    assert isinstance(high, int | float)
    if low >= 0 and high <= 255:
        low, high = 0, 255
    elif low >= 0 and high <= 65535 and image.mode == "I":
        low, high = 0, 65535
    scale = 255 / max(high - low, 1e-9)
    return image.point(lambda v: v * scale + -low * scale).convert("L")


def decode(data: bytes, limit: int = PIXEL_LIMIT) -> Pillow.Image:
    """Return the picture as people see it: first frame, oriented, RGB.

    Raises:
        ImageError: as `inspect`, and when the pixels cannot be decoded.
    """
    return _decode(data, inspect(data, limit).format)


def _decode(data: bytes, kind: str, draft: int = 0) -> Pillow.Image:
    image = _open(data, kind)
    if draft:
        image.draft("RGB", (draft, draft))
    return _rgb(_upright(_load(image, kind)))


def _upright(image: Pillow.Image) -> Pillow.Image:
    turn = _TURNS.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


# --- encoding ------------------------------------------------------------------------------------------------------


def encode(data: bytes, max_pixels: int | None = None, *, keep: Collection[str] = ("jpeg", "png")) -> tuple[str, bytes]:
    """Return (media type, bytes) that every VLM server decodes to the same pixels as `decode`.

    Plain 8-bit JPEG and PNG pass unchanged. Everything else (CMYK, 16 bits, palettes, transparency, EXIF-turned,
    animated, WebP which llama.cpp cannot read, GIF, BMP, TIFF) is decoded and encoded anew: lossless PNG for small
    pictures and graphics, JPEG at quality 95 for photographs.

    Args:
        data: the file's bytes.
        max_pixels: larger pictures are scaled down to this many pixels.
        keep: formats that may pass unchanged when they are plain.

    Raises:
        ImageError: the picture cannot be used.
    """
    info = inspect(data)
    fits = max_pixels is None or info.width * info.height <= max_pixels
    if fits and info.format in keep and _plain(data, info):
        return info.mime, data
    image = _decode(data, info.format)
    if max_pixels is not None and not fits:
        shrink = (max_pixels / (image.width * image.height)) ** 0.5
        size = max(1, int(image.width * shrink)), max(1, int(image.height * shrink))
        image = image.resize(size, Pillow.Resampling.LANCZOS, reducing_gap=3.0)
    return _encoded(image)


def at_a_glance(data: bytes) -> bool:
    """Tell, in microseconds, whether `encode` would surely pass the bytes on without decoding them."""
    try:
        if data.startswith(b"\xff\xd8"):
            return _simple_jpeg(data)
        return data.startswith(b"\x89PNG") and data[24] == 8 and data[25] in (0, 2)
    except (IndexError, struct.error):
        return False


def _plain(data: bytes, info: Info) -> bool:
    """Whether any decoder's plain reading of the bytes equals ours."""
    if info.frames > 1 or info.format in ("tiff", "bmp"):
        return False
    if info.format == "png":
        depth, colour = data[24], data[25]
        head = data[: data.find(b"IDAT")]
        if depth != 8 or colour not in (0, 2, 6) or b"tRNS" in head or b"eXIf" in data or b"rientation" in head:
            return False
        return colour != 6 or _opaque(_load(_open(data, "png"), "png"))
    if info.format == "jpeg" and _simple_jpeg(data):
        return True
    image = _open(data, info.format)
    if info.format == "jpeg" and getattr(image, "bits", 8) != 8:
        return False
    return image.mode in ("L", "RGB") and "transparency" not in image.info and _orientation(image) == 1


def _simple_jpeg(data: bytes) -> bool:
    """Whether it is 8 bits deep, grey or in three colours, and says nothing of orientation or of other colours.

    This is what `_plain` asks of Pillow, at a tenth of the time, for the most usual of pictures.
    """
    at = 2
    while (marker := data[at + 1]) != 0xDA:
        if data[at] != 0xFF or marker in (0xE1, 0xEE, 0xFF):  # EXIF or XMP, Adobe, padding
            return False
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and (data[at + 4], data[at + 9]) not in _PLAIN:
            return False
        at += 2 + int(struct.unpack_from(">H", data, at + 2)[0])
    return True


_PLAIN = ((8, 1), (8, 3))
"""Bits and components of a plain JPEG."""


def _opaque(image: Pillow.Image) -> bool:
    return image.getchannel("A").getextrema() == (255, 255)


def _encoded(image: Pillow.Image) -> tuple[str, bytes]:
    out = io.BytesIO()
    if _graphic(image):
        image.save(out, "PNG")
        return "image/png", out.getvalue()
    image.save(out, "JPEG", quality=95, subsampling=0)
    return "image/jpeg", out.getvalue()


def _graphic(image: Pillow.Image) -> bool:
    """Whether it is small, or has the few colours of a chart or a screenshot."""
    if image.width * image.height <= _SMALL:
        return True
    sample = image.resize((256, 256), Pillow.Resampling.NEAREST)
    return sample.getcolors(4096) is not None


def png(image: Pillow.Image) -> bytes:
    """Return an RGB picture as a PNG whose bytes are the same on every machine.

    The pixels are stored, not compressed: noise has little to give, and what a compressor makes of the same pixels
    depends on its version, by which a picture made here would have another digest there.
    """
    row = 3 * image.width
    pixels = image.tobytes()
    lines = b"".join(b"\0" + pixels[at : at + row] for at in range(0, len(pixels), row))
    header = struct.pack(">IIBBBBB", image.width, image.height, 8, 2, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", _stored(lines)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))


def _stored(data: bytes) -> bytes:
    """Return a zlib stream of stored blocks (RFC 1950, 1951)."""
    starts = range(0, max(len(data), 1), 0xFFFF)
    blocks = []
    for start in starts:
        block = data[start : start + 0xFFFF]
        blocks += [struct.pack("<BHH", start == starts[-1], len(block), len(block) ^ 0xFFFF), block]
    return b"\x78\x01" + b"".join(blocks) + struct.pack(">I", zlib.adler32(data))


def suffix(mime: str) -> str:
    """Return the usual file name ending of a media type, with its dot."""
    return SUFFIXES[mime.removeprefix("image/")][0]


def thumbnail(data: bytes, side: int) -> bytes:
    """Return a JPEG whose longer side has at most `side` pixels."""
    image = _decode(data, inspect(data).format, draft=side * 2)
    image.thumbnail((side, side), reducing_gap=2.0)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=85)
    return out.getvalue()


def dhash(data: bytes) -> int:
    """Return a 64-bit perceptual hash: near-duplicates differ in few bits (Hamming distance of about 0 to 6)."""
    return _dhash(_small(data))


def dhash_flip(data: bytes) -> int:
    """Return the hash that the mirrored picture has."""
    return _dhash(_small(data).transpose(Pillow.Transpose.FLIP_LEFT_RIGHT))


def dhash_crops(data: bytes) -> list[int]:
    """Return the hashes of parts of a picture: three quarters of its sides, in the middle and the four corners."""
    small = _small(data)
    w, h = small.width, small.height
    x, y = w // 4, h // 4
    places = ((x // 2, y // 2), (0, 0), (x, 0), (0, y), (x, y))
    return [_dhash(small.crop((left, top, left + w - x, top + h - y))) for left, top in places]


def _small(data: bytes) -> Pillow.Image:
    return _decode(data, inspect(data).format, draft=128).convert("L")


def _dhash(grey: Pillow.Image) -> int:
    pixels = grey.resize((9, 8), Pillow.Resampling.BOX).tobytes()
    bits = 0
    for at in range(72):
        if at % 9 < 8:
            bits = bits << 1 | (pixels[at] > pixels[at + 1])
    return bits
