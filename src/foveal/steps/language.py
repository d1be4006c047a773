"""What language a text is in, by a rule of thumb that needs no model and no package."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import cache

LANGUAGE_METHOD = (
    "A rule of thumb: by script, and for the Latin script by counting common short words of thirteen languages; "
    "texts with too few of them are not told."
)
_SCRIPTS = {
    "HIRAGANA": "Japanese",
    "KATAKANA": "Japanese",
    "HANGUL": "Korean",
    "CJK": "Chinese",
    "CYRILLIC": "Cyrillic script",
    "ARABIC": "Arabic script",
    "DEVANAGARI": "Devanagari script",
    "THAI": "Thai",
    "GREEK": "Greek",
    "HEBREW": "Hebrew",
    "BENGALI": "Bengali",
    "TAMIL": "Tamil",
    "LATIN": "Latin",
}
_COMMON = {
    "English": """
        a an and any are based be can color count describe do does explain find for from give has have how i
        identify if image in is it list many name not of on picture show shown tell that the there this to what
        where which who why with write you your""",
    "French": """
        au aux avec ce cette dans des du est et il la le les photo pour que quel quelle quels qui se sont sur trouve
        un une à""",
    "German": """
        auf bild das dem den der des die ein eine es ich im in ist mit nicht sind und von was welche welcher wie zu""",
    "Spanish": """
        al con cuál cuántos cómo de del el en es esta este está hay imagen la las los para por que qué se son un una
        y""",
    "Italian": """
        che con cosa del della di e gli il immagine in la le nel nella per quale quanti questo si sono un una è""",
    "Portuguese": """
        a as com da do e em esta este está há imagem na no o os para por qual quantos que se são um uma é""",
    "Dutch": """
        aan dat de deze dit een en er foto het hoe ik in is je met niet op van voor wat welke zijn""",
    "Norwegian": """
        av bildet de den det dette en er et for hva hvilken hvor hvordan i ikke kan med og på som til""",
    "Swedish": """
        av bilden de den det detta en ett för hur i inte kan med och på som till vad vilken är""",
    "Polish": """
        co do gdzie i ile jak jaka jaki jest kto na nie się są ta ten to w z zdjęciu""",
    "Turkish": """
        bir bu da de görüntüde hangi ile için kaç kim mi nasıl ne nedir olan resimde var ve""",
    "Vietnamese": """
        bao cho cái có của gì hình không là một người nhiêu những này trong và với được ảnh""",
    "Indonesian": """
        ada adalah apa berapa dalam dan dari dengan di gambar ini itu pada tidak untuk yang""",
}
_WORDS = {name: frozenset(words.split()) for name, words in _COMMON.items()}


@cache
def _script(letter: str) -> str:
    name = unicodedata.name(letter, "")
    return next((language for start, language in _SCRIPTS.items() if name.startswith(start)), "other scripts")


def language(text: str) -> str:
    """Return the language of a text as far as a rule of thumb can tell, else "not told"."""
    scripts = Counter(_script(c) for c in text[:2000] if c.isalpha())
    if not scripts:
        return "no letters"
    if scripts["Japanese"] and scripts["Japanese"] * 10 >= scripts["Chinese"]:
        scripts["Japanese"] += scripts.pop("Chinese", 0)
    # One Han or Hangul letter says as much as a Latin word of several.
    for dense in ("Chinese", "Japanese", "Korean"):
        scripts[dense] *= 3
    first = scripts.most_common(1)[0][0]
    return _latin(text) if first == "Latin" else first


def _latin(text: str) -> str:
    words = re.findall(r"[^\W\d_]+", text[:2000].casefold())
    votes = Counter({name: sum(w in common for w in words) for name, common in _WORDS.items()}).most_common(2)
    (first, most), (_, second) = votes
    return first if most > second and most >= max(1, len(words) // 12) else "not told"
