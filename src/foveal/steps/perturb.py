"""Perturbations: the same picture made harder to see, so that a model's answer about it goes wrong in its own way.

A perturbation is a kind, a strength, a side and a seed; from these four and the picture everything follows, so a row
that carries them can have its picture made again. Lengths are in pixels of the model's input: the picture is scaled
so that its longer side has `side` pixels before it is perturbed (noise added at a higher resolution would be averaged
away when the model scales down), and what comes out is PNG, for JPEG would smooth it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from random import Random
from statistics import NormalDist
from typing import Any

from PIL import Image as Pillow
from PIL import ImageEnhance, ImageFilter, ImageMath, ImageOps

from foveal import picture
from foveal.errors import RecipeError, nearest
from foveal.record import Image

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""What CLIP's preprocessing subtracts and divides by, for red, green and blue from 0 to 1."""
SIDE = 336
"""CLIP-L/14's input, which LLaVA-1.5 uses; set the side to your model's."""
PATCH = 14
STEPS = 1000


@dataclass(frozen=True, slots=True)
class Perturbation:
    """What is done to a picture.

    Attributes:
        kind: one of KINDS.
        strength: in the kind's own unit.
        side: pixels of the longer side of what comes out, 0 for the picture's own.
        seed: of everything that is drawn.
    """

    kind: str
    strength: float
    side: int = SIDE
    seed: int = 0

    @classmethod
    def read(cls, text: str, side: int = SIDE) -> Perturbation:
        """Read "kind" or "kind:strength", for example "diffusion:500".

        Raises:
            RecipeError: there is no such kind, or its strength is out of range.
        """
        name, _, strength = text.strip().partition(":")
        if name not in KINDS:
            raise RecipeError(f"no perturbation is called {name!r}{nearest(name, KINDS)}")
        kind = KINDS[name]
        try:
            value = float(strength) if strength else kind.usual
        except ValueError:
            raise RecipeError(f"perturbation {text!r}: {strength!r} is not a number") from None
        if not kind.low <= value <= kind.high:
            unit = f" ({kind.unit})" if kind.unit else ""
            raise RecipeError(f"perturbation {text!r}: {name} takes from {kind.low:g} to {kind.high:g}{unit}")
        if side < 0:
            raise RecipeError(f"a picture cannot have {side} pixels on its longer side")
        return cls(name, value, side)

    def drawn(self, rng: Random) -> Perturbation:
        """Return it with a seed drawn."""
        return replace(self, seed=rng.getrandbits(31))

    def __str__(self) -> str:
        return f"{self.kind}:{self.strength:g}" if KINDS[self.kind].unit else self.kind

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values, as rows carry it."""
        return {"kind": self.kind, "strength": self.strength, "side": self.side, "seed": self.seed}

    def apply(self, image: Pillow.Image) -> Pillow.Image:
        """Return an RGB picture perturbed."""
        return KINDS[self.kind].apply(image, self.strength, self.side, Random(self.seed))


def perturbed(image: Image, how: Sequence[Perturbation]) -> tuple[Image, ...]:
    """Return a picture perturbed in several ways; it is decoded once. Busy: see `perturb`.

    Raises:
        ImageError: it cannot be decoded.
    """
    plain = picture.decode(image.data())
    return tuple(Image.of(picture.png(one.apply(plain))) for one in how)


async def perturb(image: Image, how: Sequence[Perturbation]) -> tuple[Image, ...]:
    """Return a picture perturbed in several ways, made off the event loop.

    Raises:
        ImageError: it cannot be decoded.
    """
    return await asyncio.to_thread(perturbed, image, how)


# --- diffusion noise -----------------------------------------------------------------------------------------------


@cache
def signal_and_noise(step: int) -> tuple[float, float]:
    """Return (sqrt(abar_t), sqrt(1 - abar_t)), the coefficients of picture and noise at a step of forward diffusion.

    The schedule is SeVa's (2404.10501, its released code): 1,000 steps, beta rising from 1e-5 to 5e-3 along a sigmoid
    over logits from -6 to 6.

    Args:
        step: 0 (next to nothing) to 999.
    """
    abar = 1.0
    for t in range(step + 1):
        logit = -6 + 12 * t / (STEPS - 1)
        abar *= 1 - (1e-5 + (5e-3 - 1e-5) / (1 + math.exp(-logit)))
    return math.sqrt(abar), math.sqrt(1 - abar)


def _diffusion(image: Pillow.Image, step: float, side: int, rng: Random) -> Pillow.Image:
    """Return x_t = mean + a (x - mean) + b std eps for each channel, in levels from 0 to 255, cut off at both ends.

    Which is, in levels, a x + b eps after CLIP's normalisation.
    """
    a, b = signal_and_noise(int(step))
    image = fitted(image, side)
    bands = [
        _noised(band, [255 * mean * (1 - a) + a * x for x in range(256)], 255 * std * b, rng)
        for band, mean, std in zip(image.split(), CLIP_MEAN, CLIP_STD, strict=True)
    ]
    return Pillow.merge("RGB", bands)


def _noised(band: Pillow.Image, levels: Sequence[float], sigma: float, rng: Random) -> Pillow.Image:
    """Map a channel's levels and add Gaussian noise.

    A normal variable is the sum of two, each a byte's quantile: 65,536 pairs, which reach beyond four sigma.
    """
    half = _exact([q * sigma / math.sqrt(2) for q in _quantiles()])
    # A float becomes a level by cutting off what follows the point, hence the half.
    planes = [band.point(_exact([x + 0.5 for x in levels]), "F")]
    planes += [Pillow.frombytes("L", band.size, rng.randbytes(band.width * band.height)).point(half, "F") for _ in "12"]
    x, y, z = planes
    total: Pillow.Image = ImageMath.lambda_eval(lambda given: given["x"] + given["y"] + given["z"], x=x, y=y, z=z)
    return total.convert("L")


def _exact(values: Sequence[float]) -> list[float]:
    """Round to 1/1024 of a level: sums are then exact in 32 bits, whatever the machine and its mathematics library."""
    return [round(value * 1024) / 1024 for value in values]


@cache
def _quantiles() -> tuple[float, ...]:
    """Return a standard normal variable's mean in each of 256 equally likely intervals, scaled to variance 1."""
    normal = NormalDist()
    edges = [normal.pdf(normal.inv_cdf(k / 256)) if 0 < k < 256 else 0.0 for k in range(257)]
    means = [256 * (edges[k] - edges[k + 1]) for k in range(256)]
    spread = math.sqrt(sum(m * m for m in means) / 256)
    return tuple(m / spread for m in means)


# --- the others ----------------------------------------------------------------------------------------------------


def fitted(image: Pillow.Image, side: int) -> Pillow.Image:
    """Return a picture scaled so that its longer side has `side` pixels (0: as it is)."""
    longest = max(image.size)
    if side in (0, longest):
        return image
    size = max(1, round(image.width * side / longest)), max(1, round(image.height * side / longest))
    return image.resize(size, Pillow.Resampling.BICUBIC, reducing_gap=3.0)


def _cut(image: Pillow.Image, width: int, height: int, rng: Random) -> Pillow.Image:
    width, height = min(max(1, width), image.width), min(max(1, height), image.height)
    left, top = rng.randint(0, image.width - width), rng.randint(0, image.height - height)
    return image.crop((left, top, left + width, top + height))


def _share(image: Pillow.Image, share: float, rng: Random) -> Pillow.Image:
    """Cut out a share of the area at a random place, in the picture's own proportions."""
    root = math.sqrt(share)
    return _cut(image, round(image.width * root), round(image.height * root), rng)


def _moco(image: Pillow.Image, smallest: float, side: int, rng: Random) -> Pillow.Image:
    """MoCo v2's views (2003.04297): crop, jitter, grey, blur, flip; the blur is meant for 224 pixels and scales."""
    square = side or min(image.size)
    share, ratio = rng.uniform(smallest, 1), math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
    area = image.width * image.height * share
    view = _cut(image, round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio)), rng)
    view = view.resize((square, square), Pillow.Resampling.BICUBIC, reducing_gap=3.0)
    if rng.random() < 0.8:
        view = _jitter(view, 0.4, 0, rng)
    if rng.random() < 0.2:
        view = view.convert("L").convert("RGB")
    if rng.random() < 0.5:
        view = view.filter(ImageFilter.GaussianBlur(rng.uniform(0.1, 2) * square / 224))
    return ImageOps.mirror(view) if rng.random() < 0.5 else view


def _jitter(image: Pillow.Image, strength: float, side: int, rng: Random) -> Pillow.Image:
    """Change brightness, contrast, saturation by up to `strength` each, and hue by up to a quarter of it of a turn."""
    image = fitted(image, side)
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhance(image).enhance(rng.uniform(max(0.0, 1 - strength), 1 + strength))
    turn = round(256 * rng.uniform(-strength, strength) / 4)
    if turn == 0:
        return image  # going to hue and back moves colours by a few levels
    hue, saturation, value = image.convert("HSV").split()
    hue = hue.point([(level + turn) % 256 for level in range(256)])
    return Pillow.merge("HSV", (hue, saturation, value)).convert("RGB")


def _pixelate(image: Pillow.Image, block: float, side: int, rng: Random) -> Pillow.Image:
    image = fitted(image, side)
    small = max(1, round(image.width / block)), max(1, round(image.height / block))
    return image.resize(small, Pillow.Resampling.BOX).resize(image.size, Pillow.Resampling.NEAREST)


def _downscale(image: Pillow.Image, shorter: float, side: int, rng: Random) -> Pillow.Image:
    scale = shorter / min(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Pillow.Resampling.BICUBIC, reducing_gap=3.0)


def _mask(image: Pillow.Image, share: float, side: int, rng: Random) -> Pillow.Image:
    """Lay CLIP's mean colour over a share of the patches of 14 pixels (zero, after normalisation)."""
    image = fitted(image, side).copy()
    across, down = -(-image.width // PATCH), -(-image.height // PATCH)
    mean = _mean_colour()
    for number in rng.sample(range(across * down), round(share * across * down)):
        left, top = number % across * PATCH, number // across * PATCH
        image.paste(mean, (left, top, min(left + PATCH, image.width), min(top + PATCH, image.height)))
    return image


def _mean_colour() -> tuple[int, ...]:
    return tuple(round(255 * mean) for mean in CLIP_MEAN)


def _blank(image: Pillow.Image, level: float, side: int, rng: Random) -> Pillow.Image:
    return Pillow.new("RGB", fitted(image, side).size, (int(level),) * 3)


# --- the list ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of perturbation.

    Attributes:
        about: one line for people.
        unit: what its strength is, "" when it has none.
        usual: the strength when none is given.
        low: the least strength.
        high: the greatest.
        shown: strengths for a contact sheet, from weak to strong.
        apply: of an RGB picture, strength, side, and where to draw from.
    """

    about: str
    unit: str
    usual: float
    low: float
    high: float
    shown: tuple[float, ...]
    apply: Callable[[Pillow.Image, float, int, Random], Pillow.Image]


KINDS: Mapping[str, Kind] = {
    "diffusion": Kind(
        "Gaussian noise in closed form at a step of forward diffusion (SeVa, VCD, POVID, BPO)",
        "step of 1,000", 500, 0, 999, (300, 500, 700, 800, 999), _diffusion,
    ),
    "moco": Kind(
        "a view as MoCo v2 draws it: crop, jitter, grey, blur, flip (SeVa)",
        "smallest crop, as a share of the area", 0.2, 0.01, 1, (0.8, 0.5, 0.2), _moco,
    ),
    "flip": Kind(
        "left and right swapped", "", 1, 1, 1, (1,), lambda image, _, side, rng: ImageOps.mirror(fitted(image, side))
    ),
    "crop": Kind(
        "a crop of a share of the area at a random place",
        "share of the area that stays", 0.5, 0.001, 1, (0.7, 0.5, 0.2, 0.05),
        lambda image, share, side, rng: fitted(_share(image, share, rng), side),
    ),
    "small-crop": Kind(
        "a crop of 1 % of the area up to a share that is drawn, resized back (mDPO)",
        "largest crop, as a share of the area", 0.2, 0.01, 1, (0.5, 0.2, 0.05),
        lambda image, most, side, rng: _share(image, rng.uniform(0.01, most), rng).resize(
            fitted(image, side).size, Pillow.Resampling.BICUBIC
        ),
    ),
    "blur": Kind(
        "Gaussian blur (Image-DPO)",
        "sigma in pixels", 6, 0, 200, (2, 4, 8, 16),
        lambda image, sigma, side, rng: fitted(image, side).filter(ImageFilter.GaussianBlur(sigma)),
    ),
    "pixelate": Kind(
        "blocks of one colour (Image-DPO)", "side of a block in pixels", 14, 1, 1000, (6, 12, 24, 48), _pixelate
    ),
    "downscale": Kind(
        "made small, for the model to enlarge (STIC)",
        "pixels of the shorter side", 20, 1, 4096, (80, 40, 20, 10), _downscale,
    ),
    "jitter": Kind(
        "brightness, contrast, saturation and hue changed (STIC)",
        "largest change, as a share", 0.5, 0, 1, (0.2, 0.5, 1), _jitter,
    ),
    "mask": Kind(
        "patches of 14 pixels laid over with the mean colour",
        "share of the patches", 0.5, 0, 1, (0.25, 0.5, 0.75, 0.9), _mask,
    ),
    "blank": Kind("one grey, nothing to see (V-DPO)", "level, 0 black to 255 white", 0, 0, 255, (0, 128, 255), _blank),
}  # fmt: skip
