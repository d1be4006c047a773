from __future__ import annotations

import pytest

from foveal.steps.language import language
from foveal.view.texts import root


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What color is the car?", "English"),
        ("Describe the layout of the kitchen.", "English"),
        ("图片中的女人手里拿着什么？", "Chinese"),
        ("写真の中の女性は何を持っていますか？", "Japanese"),
        ("이 사진에는 무엇이 있습니까?", "Korean"),
        ("¿De qué color es el coche que está delante de la casa?", "Spanish"),
        ("Quel animal se trouve au premier plan de la photo ?", "French"),
        ("Was ist auf dem Bild zu sehen?", "German"),
        ("Hva er det på bildet?", "Norwegian"),
        ("Trong ảnh này có bao nhiêu người?", "Vietnamese"),
        ("Сколько людей на фото?", "Cyrillic script"),
        ("12 + 3 = ?", "no letters"),
        ("Lorem ipsum dolor", "not told"),
    ],
)
def test_language(text, expected):
    assert language(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Describe the layout of the kitchen.", ("describe", "layout")),
        ("Please count the bananas in the bowl.", ("count", "banana")),
        ("Can you write a short story about the boat?", ("write", "story")),
        ("What color is the car?", ("be", "color")),
        ("What is the name on the sign above the door?", ("be", "name")),
        ("Is there a cat in the picture?", ("be", "cat")),
        ("How many people are standing on the platform?", ("stand", "people")),
        ("What is the woman holding?", ("hold", "")),
        ("Who wrote the letter?", ("write", "letter")),
        ("What does the sign say?", ("say", "")),
        ("Which of these two animals is larger?", ("be", "animal")),
        ("What is the colour of the car parked by the fence?", ("be", "colour")),
        ("Based on the image, identify the brand of the car.", ("identify", "brand")),
        ("I took this in Rome. What building is shown here?", ("show", "building")),
        ("A cat on a mat.", None),
        ("", None),
    ],
)
def test_root_verb_and_noun(text, expected):
    assert root(text) == expected
