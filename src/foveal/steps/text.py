"""Rules about texts that need no model: is it garbled, what are its sentences, its lines, its labelled parts."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter

_SPECIAL = re.compile(
    r"<\|[^<>|]{1,40}\|>|<\|[a-z_]+>|<[a-z_]+\|>|</?(?:image|video|audio|img|bbox|ref|box|s|pad|unk|eos|bos)\b[^<>]{0,40}>",
    re.IGNORECASE,
)
_BETWEEN = re.compile(r"(?<=[.!?…])(?<!\b[A-Z]\.)(?<!\b(?:Mr|Ms|Dr|St|No|vs)\.)(?<!\bMrs\.)\s+(?![a-z])|(?<=[。！？])")
_BULLET = re.compile(r"^(?:[-*•·–]|\(?\d{1,2}[.):]|[a-z][.)]|(?:question|q)\s*\d{0,2}\s*[.:)])\s+", re.IGNORECASE)
_ASKED = re.compile(
    r"\W*(?:(?:please|then|now)\s+)?(?:"
    "add|analyse|analyze|argue|arrange|ask|assess|calculate|caption|choose|classify|compare|complete|compose|"
    "compute|convert|count|create|decide|deduce|define|describe|design|determine|discuss|draft|draw|estimate|"
    "evaluate|examine|explain|extract|fill|find|generate|give|guess|identify|imagine|infer|interpret|invent|"
    "judge|label|list|locate|look|make|mark|match|mention|name|offer|order|outline|pick|plan|point|predict|"
    "prepare|present|propose|provide|rank|rate|read|recommend|render|report|rewrite|say|select|share|show|"
    "sketch|solve|sort|specify|state|suggest|summarise|summarize|suppose|talk|tell|think|translate|transcribe|"
    "use|verify|walk|what|when|where|which|who|why|how|write"
    r")\b",
    re.IGNORECASE,
)
"""How requests begin that have no question mark."""
_GENERAL = frozenset(
    ("about", "along", "answer", "arranged", "arrangement", "colour", "colours", "color", "colors", "composition",
     "describe", "description", "detail", "detailed", "details", "elements", "everything", "explain", "image",
     "including", "objects", "people", "photo", "picture", "provide", "scene", "setting", "shown", "shows", "their",
     "there", "these", "thing", "things", "visible", "visual", "where", "which", "write")
)  # fmt: skip
"""Words that are about pictures as such."""
_ENDS = re.compile(r"[.!?。！？…]+(?=\s|$)|[。！？]")


_NOT_ABLE = (
    r"(?:can(?:no|['’])t|can\ not|could\ not|couldn['’]t|(?:am|['’]m)\ (?:unable|not\ able)\ to"
    r"|do\ not|don['’]t|won['’]t|will\ not)"
)
_DECLINES = re.compile(
    rf"""\W*(?:
    (?:(?:i['’]?m|i\ am|we['’]?re)\ )?(?:very\ |so\ |really\ )?(?:sorry|afraid|(?:my\ )?apologies|i\ apologi[sz]e)\b
        [^\n]{{0,120}}?\b(?:can(?:no|['’])t|can\ not|unable|not\ able|won['’]t|don['’]t|do\ not|as\ an\ ai)\b
    |(?:as|being)\ an?\ (?:ai\b|artificial\ intelligence|(?:\w+[ -]){{0,3}}language\ model
        |(?:ai|digital|helpful|virtual)\ assistant\b)
    |(?:unfortunately,\ )?i\ ?{_NOT_ABLE}\ (?:help|assist|provide|offer|answer|fulfil|comply|process|identify|discuss
        |engage|generate|create|write|describe|analy[sz]e|do\ that|have\ (?:the\ (?:ability|capability)|access)
        |(?:see|view|access|open)\ (?:(?:the|this|that|any|your|attached)\ )*(?:images?|pictures?|photos?|files?)
            \ ?(?:[.,!;]|$|directly|as\b|but\b|because\b|(?:that\ )?you\b))
    |i\ can\ only\ (?:say|tell|help|assist|answer|respond|provide|give|talk|process)\b
    |(?:很|非常)?抱歉|对不起|對不起|作为一?[个個]?.{{0,6}}(?:语言模型|人工智能|AI|助手)
    |我(?:无法|不能|無法)(?:查看|看到图|看到圖|提供|回答|协助|幫|帮|识别)
    |申し訳|죄송|lo\ siento|es\ tut\ mir\ leid|je\ suis\ désolée?|désolée?,|sinto\ muito|mi\ dispiace
    |к\ сожалению,?\ я\ не|извините
    )""",
    re.IGNORECASE | re.VERBOSE,
)
"""How answers begin that are none. That something cannot be seen in a picture is an answer."""


def declines(text: str) -> bool:
    """Tell whether a text declines to answer, by how it begins: apologies, "As an AI", "I can only"; many languages."""
    return bool(_DECLINES.match(plain(text)))


def plain(text: str) -> str:
    """Return the text without what looks like special tokens of a template or format, and without outer space."""
    return _SPECIAL.sub("", text).strip()


def sentences(text: str) -> int:
    """Count sentences by their closing marks; a text without any is one."""
    return max(1, len(_ENDS.findall(text)))


def told(text: str) -> list[str]:
    """Return a text's sentences with their marks, in order; a line is never joined with the next."""
    lines = (line.strip() for line in text.splitlines())
    return [part for line in lines for part in _BETWEEN.split(line) if part]


def paragraphs(text: str) -> list[str]:
    """Return a text's paragraphs: what empty lines, or single line ends where there are none, keep apart."""
    found = re.split(r"\n\s*\n", text) if re.search(r"\n\s*\n", text) else text.splitlines()
    return [part.strip() for part in found if part.strip()]


def listed(text: str) -> list[str]:
    """Return the lines of a text without bullets, numbers and quotes around them; repeated ones once, headings not."""
    lines = (_BULLET.sub("", line.strip()).strip().strip('"“”').strip() for line in plain(text).splitlines())
    return list(dict.fromkeys(line for line in lines if line and not line.endswith((":", "："))))


def asking(text: str) -> list[str]:
    """Return the lines of a text that ask something: questions, and requests as far as their first word tells.

    A JSON list of texts is read as lines; a line with a bracket that is not closed is what is left of some other form.
    """
    return [line for line in listed(_unpacked(text)) if asks(line) and _closed(line)]


def _unpacked(text: str) -> str:
    """Return the texts of a JSON list as lines, any other text as it is."""
    found = re.search(r"\[.*\]", text, re.DOTALL)
    try:
        texts = json.loads(found[0]) if found else None
    except ValueError:
        return text
    return "\n".join(texts) if isinstance(texts, list) and all(isinstance(t, str) for t in texts) and texts else text


def _closed(line: str) -> bool:
    return all(line.count(one) == line.count(other) for one, other in ("[]", "{}", "()"))


def asks(text: str) -> bool:
    """Tell whether a text asks for something; of texts in other scripts than Latin, a mark is not demanded."""
    written = any(c.isalpha() and c.isascii() for c in text)
    return "?" in text or "？" in text or (bool(_ASKED.match(text)) if written else any(map(str.isalpha, text)))


def labelled(text: str, *labels: str) -> dict[str, str]:
    """Return label -> what stands after it, of a text in parts such as "Question: ...": marks of emphasis are no part.

    A part goes on to the next label, over several lines if need be. A label that is met twice counts the first time;
    empty parts are left out.
    """
    names = "|".join(re.escape(label) for label in labels)
    label = re.compile(rf"^[ \t#>*_-]*({names})[ \t]*[*_]*[ \t]*[:：][ \t]*[*_]*", re.IGNORECASE | re.MULTILINE)
    found = list(label.finditer(text))
    ends = [*(m.start() for m in found), len(text)][1:]
    known = {name.casefold(): name for name in labels}
    parts: dict[str, str] = {}
    for m, end in zip(found, ends, strict=True):
        if value := text[m.end() : end].strip():
            parts.setdefault(known[m[1].casefold()], value)
    return parts


def one_sentence(text: str) -> bool:
    """Tell whether a text is a single sentence on a single line."""
    return "\n" not in text and sentences(text) == 1


def one_question(text: str) -> bool:
    """Tell whether a text is a single sentence with a question mark."""
    return one_sentence(text) and text.rstrip().endswith(("?", "？"))


def taken_from(part: str, text: str, share: float = 0.9) -> bool:
    """Tell whether a part was copied out of a text: at least this share of its words are among the text's."""
    words = part.casefold().split()
    left = Counter(text.casefold().split())
    found = sum(1 for word in words if left[word] > 0 and not left.subtract([word]))
    return bool(words) and found >= share * len(words)


def words_shared(part: str, text: str) -> float:
    """Return the share of a part's content words that are in a text too; 0 where it has none.

    Content words have five letters or more and do not speak of the picture as such.
    """
    content = {w for w in re.findall(r"[^\W\d_]{5,}", part.casefold()) if w not in _GENERAL}
    return sum(w in text.casefold() for w in content) / len(content) if content else 0.0


def garbled(text: str, shortest: int = 2) -> bool:
    """Tell whether a text is no text: nearly empty, mostly symbols, with broken characters, or going round in circles.

    Args:
        text: what a model wrote.
        shortest: fewest words (or, in scripts without spaces, fewest pairs of letters).
    """
    letters = sum(unicodedata.category(c)[0] in "LMN" for c in text)
    visible = sum(not c.isspace() for c in text)
    words = text.split()
    return (
        (len(words) < shortest and letters < 2 * shortest)
        or letters < 0.5 * visible
        or "\ufffd" in text
        or circling(words)
    )  # fmt: skip


def circling(words: list[str], run: int = 4) -> bool:
    """Tell whether the writer was stuck: a word `run` times in a row, or more than half of the runs repeated."""
    if any(len({w.casefold() for w in words[i : i + run]}) == 1 for i in range(len(words) - run + 1)):
        return True
    grams = Counter(tuple(words[i : i + run]) for i in range(len(words) - run + 1))
    total = sum(grams.values())
    return total >= 12 and total - len(grams) > total / 2
