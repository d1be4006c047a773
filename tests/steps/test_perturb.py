"""Perturbations: the noise against the schedule's figures, the same bytes everywhere, and what each kind does."""

from __future__ import annotations

import io
import math
from random import Random

import pytest
from PIL import Image as Pillow
from PIL import ImageChops, ImageStat

from foveal import picture
from foveal.cli import main
from foveal.errors import ImageError, RecipeError
from foveal.record import Image, Record, digest
from foveal.steps.perturb import CLIP_MEAN, CLIP_STD, KINDS, Perturbation, perturb, perturbed, signal_and_noise


def gradient(width: int = 200, height: int = 120) -> Pillow.Image:
    down = Pillow.linear_gradient("L").resize((width, height))
    return Pillow.merge("RGB", (down, down.transpose(Pillow.Transpose.FLIP_TOP_BOTTOM), down.point(lambda v: v // 2)))


def a_picture(image: Pillow.Image | None = None, kind: str = "PNG", **how: object) -> Image:
    out = io.BytesIO()
    (image or gradient()).save(out, kind, **how)
    return Image.of(out.getvalue())


def pixels(image: Image) -> Pillow.Image:
    return picture.decode(image.data())


def one(text: str, side: int = 96, seed: int = 7) -> Perturbation:
    read = Perturbation.read(text, side)
    return Perturbation(read.kind, read.strength, side, seed)


# --- noise ---------------------------------------------------------------------------------------------------------

# Step, signal and noise coefficients, signal-to-noise ratio in dB: of SeVa's released schedule.
SCHEDULE = [
    (300, 0.981, 0.194, 14.1), (400, 0.945, 0.327, 9.2), (500, 0.863, 0.505, 4.7), (600, 0.734, 0.679, 0.7),
    (700, 0.593, 0.805, -2.7), (800, 0.467, 0.884, -5.5), (999, 0.285, 0.959, -10.5),
]  # fmt: skip


@pytest.mark.parametrize(("step", "signal", "noise", "ratio"), SCHEDULE)
def test_the_schedule(step: int, signal: float, noise: float, ratio: float) -> None:
    a, b = signal_and_noise(step)
    assert (round(a, 3), round(20 * math.log10(a / b), 1)) == (signal, ratio)
    assert b == pytest.approx(noise, abs=1e-3)
    assert a * a + b * b == pytest.approx(1)


@pytest.mark.parametrize("step", [300, 500])
def test_noise_has_the_mean_and_spread_that_the_schedule_says(step: int) -> None:
    grey = Pillow.new("RGB", (336, 336), (100, 120, 140))
    stat = ImageStat.Stat(one(f"diffusion:{step}", 336).apply(grey))
    a, b = signal_and_noise(step)
    for channel, level in enumerate((100, 120, 140)):
        mean, sigma = 255 * CLIP_MEAN[channel] * (1 - a) + a * level, 255 * CLIP_STD[channel] * b
        assert stat.mean[channel] == pytest.approx(mean, abs=4 * sigma / 336)
        # A level is a whole number, which adds 1/12 to the variance.
        assert stat.stddev[channel] == pytest.approx(math.sqrt(sigma**2 + 1 / 12), rel=0.01)


def test_noise_is_normal_out_to_four_sigma_and_has_no_pattern() -> None:
    grey = Pillow.new("RGB", (600, 600), (128, 128, 128))
    band = one("diffusion:400", 600).apply(grey).getchannel("G")
    mean, sigma = ImageStat.Stat(band).mean[0], ImageStat.Stat(band).stddev[0]
    levels = band.histogram()
    for times, share in ((1, 0.31731), (2, 0.0455), (3, 0.0027)):
        # A whole number counts as beyond by the part of its unit that lies there.
        beyond = sum(n * min(max(abs(level - mean) + 0.5 - times * sigma, 0), 1) for level, n in enumerate(levels))
        assert beyond / 360_000 == pytest.approx(share, rel=0.02 if times < 3 else 0.12)
    assert max(level for level, n in enumerate(levels) if n) > mean + 3.7 * sigma
    beside = ImageChops.offset(band, 1, 0)
    product = sum((x - mean) * (y - mean) for x, y in zip(band.tobytes(), beside.tobytes(), strict=True))
    assert abs(product / 360_000 / sigma**2) < 4 / 600


def test_channels_have_noise_of_their_own() -> None:
    red, green, _ = one("diffusion:500", 200).apply(Pillow.new("RGB", (200, 200), "grey")).split()
    assert ImageStat.Stat(ImageChops.difference(red, green)).mean[0] > 20


def test_noise_comes_after_scaling() -> None:
    # Were it before, scaling 800 pixels down to 100 would average it away.
    stat = ImageStat.Stat(one("diffusion:500", 100).apply(Pillow.new("RGB", (800, 800), "grey")))
    assert stat.stddev[0] == pytest.approx(255 * CLIP_STD[0] * signal_and_noise(500)[1], rel=0.05)


# --- the same everywhere -------------------------------------------------------------------------------------------

PINNED = {
    "diffusion": "8c0efbc32f91c288708e650d81abaa57",
    "moco": "88de86ed00402d37a7236ea70113d770",
    "flip": "71d9b7abb99e7d48e4d287d8e14902a4",
    "crop": "fea9b5e986b414b8e64ec362f81273f0",
    "small-crop": "4d071f0c796f8e999a00c541a6970ccf",
    "blur": "9a5d78d497e319a87572356ae5a402f5",
    "pixelate": "deb7afea6ea24d99bff45c5e664da778",
    "downscale": "519b21558447f0cbe861503a3d8f1877",
    "jitter": "2bb20d61ed19f1c8830bd62d433ae001",
    "mask": "6b4e56f2cd5a860fe2f13a74de451876",
    "blank": "6527d69dcadf5ce1da984434273a411b",
}
"""Digests of the pixels of each kind at its usual strength, of the gradient at 96 pixels with seed 7."""


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_pixels_on_every_machine(kind: str) -> None:
    (made,) = perturbed(a_picture(), [one(kind)])
    assert digest(pixels(made).tobytes()) == PINNED[kind]
    assert perturbed(a_picture(), [one(kind)]) == (made,)


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in ("flip", "blur", "pixelate", "downscale", "blank")])
def test_another_seed_gives_other_pixels(kind: str) -> None:
    assert perturbed(a_picture(), [one(kind, seed=1)]) != perturbed(a_picture(), [one(kind, seed=2)])


def test_a_row_that_carries_its_perturbation_can_have_its_picture_again() -> None:
    record = Record((a_picture(),))
    drawn = Perturbation.read("moco", 96).drawn(record.rng("perturb", 0))
    assert perturbed(record.images[0], [Perturbation(**drawn.to_json())]) == perturbed(record.images[0], [drawn])
    assert drawn.seed != Perturbation.read("moco", 96).drawn(record.rng("perturb", 1)).seed


async def _perturb() -> tuple[Image, ...]:
    return await perturb(a_picture(), [one("flip"), one("blank")])


def test_several_at_once() -> None:
    import asyncio

    made = asyncio.run(_perturb())
    assert made == perturbed(a_picture(), [one("flip"), one("blank")])
    assert [image.source for image in made] == ["memory", "memory"]


def test_servers_get_the_very_pixels() -> None:
    (made,) = perturbed(a_picture(gradient(700, 500)), [one("diffusion", 336)])
    assert picture.encode(made.data()) == ("image/png", made.data())
    with Pillow.open(io.BytesIO(made.data())) as read:
        read.verify()


# --- what each kind does -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", [0, 64, 300])
def test_the_side(kind: str, side: int) -> None:
    made = one(kind, side).apply(gradient())
    if kind not in ("crop", "downscale"):
        assert max(made.size) == (side or (200 if kind != "moco" else 120))
    elif kind == "crop" and side:
        assert max(made.size) == side
    assert made.mode == "RGB"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(1, 1), (3, 500), (500, 2)])
def test_thin_pictures(kind: str, size: tuple[int, int]) -> None:
    strengths = (KINDS[kind].low, *KINDS[kind].shown, KINDS[kind].high) if kind != "downscale" else (1, 20)
    for strength in strengths:
        assert min(Perturbation(kind, strength, 40, 3).apply(Pillow.new("RGB", size)).size) >= 1


def test_crops_keep_their_share() -> None:
    cut = one("crop:0.25", 0).apply(gradient(400, 200))
    assert cut.size == (200, 100)
    assert one("small-crop", 0).apply(gradient(400, 200)).size == (400, 200)


def test_masks_cover_their_share() -> None:
    made = one("mask:0.5", 140).apply(Pillow.new("RGB", (140, 140), "red"))
    colours = {colour: n for n, colour in made.getcolors() or []}
    assert colours == {(255, 0, 0): 140 * 70, (123, 117, 104): 140 * 70}


def test_no_strength_leaves_the_picture() -> None:
    for text in ("mask:0", "jitter:0", "crop:1", "blur:0", "pixelate:1"):
        assert one(text, 0).apply(gradient()).tobytes() == gradient().tobytes(), text


def test_stronger_is_further_from_the_picture() -> None:
    for kind in ("diffusion", "blur", "pixelate", "mask"):
        apart = [
            sum(ImageStat.Stat(ImageChops.difference(Perturbation(kind, s, 0, 7).apply(gradient()), gradient())).sum)
            for s in KINDS[kind].shown
        ]
        assert apart == sorted(apart), kind


def test_turned_and_transparent_pictures_are_seen_as_people_see_them() -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6
    (turned,) = perturbed(a_picture(kind="JPEG", exif=exif), [one("blur", 0)])
    assert pixels(turned).size == (120, 200)
    (laid,) = perturbed(a_picture(Pillow.new("RGBA", (20, 20), (0, 0, 0, 0))), [one("flip", 0)])
    assert pixels(laid).getpixel((3, 3)) == (255, 255, 255)


def test_a_bomb_is_not_decoded() -> None:
    data = bytearray(a_picture().data())
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    with pytest.raises(ImageError, match="picture too large"):
        perturbed(Image.of(bytes(data)), [one("flip")])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("difusion", "did you mean 'diffusion'"),
        ("diffusion:strong", "'strong' is not a number"),
        ("diffusion:1000", r"takes from 0 to 999 \(step of 1,000\)"),
        ("flip:2", "takes from 1 to 1"),
        ("blur:nan", "takes from 0"),
    ],
)
def test_what_cannot_be_read(text: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        Perturbation.read(text)


def test_words_and_back() -> None:
    for text in ("diffusion:500", "moco:0.2", "flip", "blur:2.5"):
        assert str(Perturbation.read(text)) == text


# --- the contact sheet ---------------------------------------------------------------------------------------------


def sheet(tmp_path, *words: str) -> tuple[int, int]:
    gradient().save(tmp_path / "p.png")
    assert main(["perturb", str(tmp_path / "p.png"), "-o", str(tmp_path / "s.png"), "--side", "64", *words]) == 0
    with Pillow.open(tmp_path / "s.png") as made:
        return made.size


def test_the_sheet_holds_every_kind(tmp_path, capsys) -> None:
    sheet(tmp_path)
    assert f"{sum(len(k.shown) for k in KINDS.values())} perturbations of p.png at 64 pixels" in capsys.readouterr().out


def test_the_sheet_holds_what_is_asked_for(tmp_path, capsys) -> None:
    width, height = sheet(tmp_path, "--kind", "blur:3", "--kind", "blur:9", "--kind", "flip")
    assert width == 40 + 3 * 64 + 2 * 12
    assert height < 200
    first = (tmp_path / "s.png").read_bytes()
    sheet(tmp_path, "--kind", "blur:3", "--kind", "blur:9", "--kind", "flip")
    assert (tmp_path / "s.png").read_bytes() == first


def test_the_help_names_every_kind(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["perturb", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert f"only these (repeatable): {', '.join(KINDS)};" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{}/none.png"], "cannot read {}/none.png: No such file"),
        (["{}/text.png"], "{}/text.png: not a picture"),
        (["{}/p.png", "--kind", "blurr"], "no perturbation is called 'blurr'; did you mean 'blur'?"),
        (["{}/p.png", "-o", "{}/no/where.png"], "cannot write {}/no/where.png"),
        (["{}/p.png", "-o", "{}/s.what"], "cannot write {}/s.what"),
    ],
)
def test_a_sheet_that_cannot_be_made(tmp_path, capsys, words: list[str], said: str) -> None:
    gradient().save(tmp_path / "p.png")
    (tmp_path / "text.png").write_text("words")
    assert main(["perturb", *(w.format(tmp_path) for w in words)]) == 2
    assert said.format(tmp_path) in capsys.readouterr().err


def test_random_is_drawn_in_the_order_it_was() -> None:
    # The seeds of rows made before must keep their meaning.
    assert (Random(7).getrandbits(31), Random(7).randbytes(3).hex()) == (695425564, "b4e652")


def test_pictures_are_made_beside_the_event_loop(monkeypatch) -> None:
    import asyncio
    import threading

    from foveal.steps import perturb as module

    made: list[int] = []
    monkeypatch.setattr(module, "perturbed", lambda image, how: (made.append(threading.get_ident()), (image,))[1])
    asyncio.run(_perturb())
    assert made != [threading.get_ident()] and len(made) == 1
