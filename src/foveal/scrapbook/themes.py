"""Which nouns are seen together: themes give scenes the co-occurrence that kitchens and streets give photos."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from functools import lru_cache

from foveal.record import digest

THEMES: dict[str, tuple[str, ...]] = {
    "farm": (
        "cow", "horse", "sheep", "pig", "chicken", "rooster", "goat", "donkey", "duck", "dog", "tractor", "egg",
        "corn", "pumpkin", "carrot", "turkey", "barn", "cat", "bull", "hen", "llama", "windmill",
    ),
    "wild": (
        "lion", "elephant", "giraffe", "tiger", "monkey", "zebra", "camel", "kangaroo", "crocodile", "gorilla",
        "leopard", "rhinoceros", "hippopotamus", "koala", "panda", "parrot", "snake", "turtle", "tortoise", "flamingo",
    ),
    "forest": (
        "tree", "bear", "fox", "deer", "owl", "squirrel", "rabbit", "mushroom", "hedgehog", "wolf", "raccoon", "snail",
        "spider", "frog", "tent", "mouse", "skunk", "beaver", "leaf", "bat", "cactus", "acorn",
    ),
    "garden": (
        "flower", "butterfly", "bee", "ladybug", "snail", "rose", "sunflower", "tulip", "bird", "ant", "dragonfly",
        "tree", "cat", "frog", "grasshopper", "caterpillar", "watering can", "shovel", "worm", "daisy",
    ),
    "sea": (
        "boat", "fish", "whale", "dolphin", "shark", "octopus", "crab", "penguin", "lobster", "seal", "ship",
        "anchor", "shell", "starfish", "sailboat", "umbrella", "seahorse", "turtle", "jellyfish", "lighthouse",
    ),
    "fruit": (
        "apple", "banana", "orange", "lemon", "pear", "strawberry", "grapes", "cherry", "pineapple", "watermelon",
        "peach", "kiwi", "coconut", "mango", "plum", "raspberry", "melon", "lime",
    ),
    "kitchen": (
        "cup", "bread", "teapot", "egg", "pepper", "cheese", "fork", "spoon", "knife", "pot", "pan", "bottle", "tomato",
        "carrot", "onion", "potato", "glass", "bowl", "plate", "kettle", "mushroom", "lemon", "corn", "garlic",
        "broccoli", "eggplant", "cucumber", "avocado",
    ),
    "snacks": (
        "pizza", "hamburger", "cake", "cup", "ice cream", "sandwich", "cookie", "donut", "french fries", "candy",
        "chocolate", "pie", "lollipop", "popcorn", "hot dog", "taco", "sushi", "croissant", "pretzel", "cupcake",
    ),
    "street": (
        "car", "bus", "truck", "bicycle", "motorcycle", "house", "traffic light", "train", "dog", "ambulance", "taxi",
        "fire truck", "tree", "bench", "scooter", "church", "tram", "van", "castle", "umbrella", "skateboard",
    ),
    "sky": (
        "airplane", "sun", "moon", "star", "helicopter", "balloon", "rocket", "cloud", "kite", "bird", "eagle", "owl",
        "parrot", "butterfly", "bat", "rainbow", "satellite", "planet", "bee", "umbrella",
    ),
    "toys": (
        "ball", "robot", "drum", "teddy bear", "doll", "balloon", "train", "kite", "car", "snowman", "castle", "crown",
        "dice", "top", "puzzle", "rocket", "yo-yo", "dinosaur", "guitar", "clown", "soccer ball", "basketball",
    ),
    "tools": (
        "hammer", "wrench", "scissors", "key", "saw", "screwdriver", "pencil", "drill", "axe", "pliers", "shovel",
        "lock", "ladder", "brush", "toolbox", "screw", "magnet", "flashlight", "rope", "bucket", "broom",
    ),
    "music": (
        "guitar", "violin", "drum", "trumpet", "piano", "saxophone", "flute", "harp", "accordion", "bell", "microphone",
        "banjo", "xylophone", "radio", "cello", "clarinet", "tambourine",
    ),
    "clothes": (
        "shirt", "hat", "shoe", "glove", "crown", "umbrella", "sock", "dress", "coat", "boot", "scarf", "glasses",
        "ring", "tie", "handbag", "backpack", "necklace", "jeans", "watch", "purse", "shorts", "sunglasses",
    ),
    "office": (
        "book", "computer", "telephone", "pencil", "clock", "camera", "television", "scissors", "lamp", "chair",
        "desk", "pen", "newspaper", "printer", "calculator", "envelope", "keyboard", "globe", "cup", "radio", "key",
        "notebook", "laptop", "ruler", "paintbrush", "light bulb", "battery",
        "microscope",
    ),
    "party": (
        "cake", "balloon", "gift", "candle", "heart", "trophy", "crown", "hat", "cookie", "donut", "flower", "guitar",
        "medal", "fireworks", "wine glass", "cupcake", "robot",
    ),
    "home": (
        "bed", "chair", "clock", "television", "cat", "telephone", "candle", "book", "cup", "lamp", "sofa", "teapot",
        "couch", "bathtub", "door", "window", "toilet", "mirror", "piano", "sock", "broom", "dog",
    ),
}  # fmt: skip
"""The nouns of a theme; those named first are seen most."""

LEADERS = 4
"""How many of a theme's nouns are seen more often than the others."""
OFTEN = 2.0
"""How much more often."""
FROM_THEME = 0.7
"""Share of a scene's nouns that come from its theme."""


@lru_cache(maxsize=64)
def weights(nouns: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Return each theme's nouns, of those given, with the chance that a draw from the theme is that noun.

    Themes of which fewer than three nouns are given are left out; a noun of no theme belongs to "other".
    """
    known = set(nouns)
    found = {theme: [n for n in of if n in known] for theme, of in THEMES.items()}
    placed = {noun for of in found.values() for noun in of}
    found["other"] = [n for n in nouns if n not in placed]
    return {theme: _shares(of) for theme, of in found.items() if len(of) >= 3} or {"other": _shares(nouns)}


def _shares(nouns: Sequence[str]) -> dict[str, float]:
    raw = [OFTEN if i < LEADERS else 1.0 for i in range(len(nouns))]
    return {noun: w / sum(raw) for noun, w in zip(nouns, raw, strict=True)}


def draw(nouns: tuple[str, ...], n: int, rng: random.Random, share: float = FROM_THEME) -> tuple[str, list[str]]:
    """Return a theme and n different nouns, about `share` of them from it."""
    themes = weights(nouns)
    theme = rng.choice(list(themes))
    of = themes[theme]
    picked: list[str] = []
    while len(picked) < min(n, len(nouns)):
        themed = rng.random() < share and not set(of) <= set(picked)
        noun = rng.choices(list(of), list(of.values()))[0] if themed else rng.choice(nouns)
        if noun not in picked:
            picked.append(noun)
    return theme, picked


@lru_cache(maxsize=64)
def frequency(nouns: tuple[str, ...]) -> dict[str, float]:
    """Return how often each noun is drawn: its chance in one draw."""
    themes = weights(nouns)
    rest = (1 - FROM_THEME) / len(nouns)
    return {n: rest + FROM_THEME * sum(of.get(n, 0.0) for of in themes.values()) / len(themes) for n in nouns}


def company(noun: str, there: Iterable[str], nouns: tuple[str, ...]) -> float:
    """Return how often the noun is seen with those that are there: the sum of its joint chances with each."""
    return sum(_beside(other, nouns).get(noun, 0.0) for other in there)


@lru_cache(maxsize=4096)
def _beside(other: str, nouns: tuple[str, ...]) -> dict[str, float]:
    """Return for each noun that shares a theme with the other the sum of their chances in it, multiplied."""
    joint: dict[str, float] = {}
    for of in weights(nouns).values():
        for noun, chance in of.items() if other in of else ():
            joint[noun] = joint.get(noun, 0.0) + chance * of[other]
    return joint


def set_apart(noun: str) -> bool:
    """Whether the hard split keeps the whole noun out of training: about one in six, by the noun's own digest."""
    return int(digest("scrapbook", noun)[:8], 16) % 6 == 0


ALIKE = (
    {"chicken", "rooster", "hen", "chick"}, {"mouse", "rat", "hamster"}, {"boat", "ship", "sailboat", "canoe"},
    {"bird", "owl", "parrot", "eagle", "duck", "penguin", "chicken", "rooster", "hen", "chick", "turkey", "swan",
     "flamingo", "peacock", "dove", "goose", "crow", "pigeon", "toucan", "ostrich"},
    {"car", "taxi", "police car", "race car"}, {"truck", "fire truck", "van", "ambulance", "pickup truck"},
    {"train", "tram", "locomotive"}, {"bus", "trolleybus", "van"}, {"airplane", "jet", "plane"},
    {"ball", "soccer ball", "basketball", "baseball", "tennis ball", "volleyball", "rugby ball", "football",
     "softball"},
    {"cup", "mug", "glass", "coffee", "tea"}, {"flower", "rose", "tulip", "sunflower", "daisy", "lily", "hibiscus"},
    {"tree", "palm tree", "christmas tree", "pine tree"}, {"fish", "shark", "goldfish", "pufferfish"},
    {"whale", "dolphin", "shark"}, {"cow", "bull", "ox", "buffalo"}, {"sheep", "ram", "lamb", "goat"},
    {"telephone", "phone", "cell phone", "mobile phone"}, {"computer", "laptop", "keyboard", "monitor", "television"},
    {"book", "notebook", "newspaper"}, {"clock", "watch", "alarm clock", "stopwatch"},
    {"shoe", "boot", "sneaker", "sandal", "high heel"}, {"shirt", "t-shirt", "dress", "coat", "blouse", "jacket"},
    {"hat", "cap", "helmet", "top hat"}, {"glasses", "sunglasses", "goggles"},
    {"house", "barn", "cabin", "church", "hut", "castle"}, {"pepper", "chili", "bell pepper"}, {"teapot", "kettle"},
    {"monkey", "gorilla", "chimpanzee", "orangutan"}, {"turtle", "tortoise"}, {"crocodile", "alligator"},
    {"deer", "moose", "reindeer"}, {"bear", "panda", "polar bear", "teddy bear", "koala"}, {"doll", "teddy bear"},
    {"cake", "cupcake", "pie", "birthday cake"}, {"bicycle", "motorcycle", "scooter"}, {"star", "starfish"},
    {"guitar", "banjo", "electric guitar"}, {"violin", "cello", "guitar"}, {"trumpet", "trombone", "saxophone"},
    {"pencil", "pen", "crayon", "paintbrush"}, {"frog", "toad"}, {"rabbit", "hare"},
    {"horse", "pony", "unicorn", "zebra", "donkey"}, {"bee", "wasp", "fly"}, {"butterfly", "moth"},
    {"worm", "caterpillar", "snake"}, {"ant", "spider", "beetle", "ladybug", "cockroach"},
    {"leopard", "cheetah", "tiger"},
    {"lemon", "lime"}, {"peach", "apricot", "plum", "nectarine"}, {"ring", "necklace"},
    {"handbag", "purse", "backpack"},
    {"pot", "pan", "bowl"}, {"moon", "planet"}, {"dog", "wolf", "puppy"}, {"cat", "kitten"}, {"radio", "television"},
    {"broom", "brush"}, {"lobster", "crab", "shrimp"}, {"octopus", "squid"}, {"bread", "croissant", "sandwich"},
    {"donut", "cookie", "bagel"}, {"hamburger", "sandwich"}, {"lamp", "light bulb", "flashlight"},
)  # fmt: skip
"""Nouns of which one may pass for the other: none is said to be absent where another of its kind is present."""


@lru_cache(maxsize=4096)
def like(noun: str) -> frozenset[str]:
    """Return the nouns that are alike to one, itself included."""
    return frozenset({noun}.union(*(kind for kind in ALIKE if noun in kind)))
