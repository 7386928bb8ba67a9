"""What tag and lemma a word has: newsroom_lexicon.txt, and the closed classes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from newsroom_trees import POS, Node

CLOSED = {
    "DT": "the a an this that these those some any every each no another all both either neither",
    "PRP": "I we they he she it you me us them him himself herself itself themselves one",
    "PRP$": "my her our their his its your",
    "MD": "will would can could may might must should",
    "IN": "of to in on at by for with from after before since until during against between among "
    "under over near through into onto about as if because while although though than without "
    "across along behind despite beyond within outside inside towards toward like around except "
    "unless whether amid per above below past besides upon",
    "CC": "and or but nor",
    "RB": "not n't never very too so also only just now then here there again almost nearly still "
    "already soon ever even yet later once twice instead ago perhaps away back together far "
    "however often always sometimes rather quite well abroad ahead home tonight overnight",
    "WP": "who what whom",
    "WP$": "whose",
    "WDT": "which",
    "WRB": "when where why how",
    "RP": "up out off down",
    "``": "“",
    "''": "”",
    ",": ",",
    ".": ". ? !",
    ":": ": ; – …",
    "CD": "two three four five six seven eight nine ten eleven twelve million billion hundred "
    "thousand dozen",
}
SUBORDINATORS = {"that", "if", "because", "while", "although", "though", "whether", "unless"}
DEGREE = {"very", "too", "so", "almost", "nearly", "quite", "only", "just", "even", "about"}
TITLES = """Mayor Senator Minister President Governor Councillor Judge Inspector Sergeant Captain
Coach Dr Mr Mrs Ms Professor Dame Sir Maestro Chairman Prosecutor Detective Commissioner"""
LEMMAS = {
    "an": "a", "n't": "not", "me": "I", "us": "we", "them": "they", "him": "he", "these": "this",
    "those": "that", "whom": "who", "worst": "bad", "worse": "bad", "better": "good",
    "best": "good", "more": "more", "most": "most", "less": "less", "least": "least",
    "further": "far",
}  # fmt: skip
BE = {"be": "VB", "is": "VBZ", "are": "VBP", "am": "VBP", "was": "VBD", "were": "VBD",
      "been": "VBN", "being": "VBG"}  # fmt: skip

_VERBS = {"VB", "VBD", "VBG", "VBN", "VBP", "VBZ"}

PRONOUNS = """nobody somebody everybody anyone everyone someone nothing something everything
anything none"""

Reading = tuple[str, str]  # tag and lemma


class UnknownWordError(KeyError):
    """A word that newsroom_lexicon.txt does not list."""


@cache
def readings() -> dict[str, list[Reading]]:
    """Return every form's tags and lemmas."""
    found: dict[str, list[Reading]] = defaultdict(list)
    for tag, words in CLOSED.items():
        for word in words.split():
            found[word].append((tag, LEMMAS.get(word, word)))
    for form, tag in BE.items():
        found[form].append((tag, "be"))
    text = Path(__file__).with_name("newsroom_lexicon.txt").read_text(encoding="utf-8")
    paragraphs = [line for line in text.split("\n\n") if not line.startswith("#")]
    for paragraph in paragraphs:
        kind, _, words = paragraph.partition(": ")
        for entry in words.split(";" if kind.endswith("!") else None):
            for form, reading in _forms(kind, entry.split()):
                if reading not in found[form]:
                    found[form].append(reading)
    return dict(found)


def _forms(kind: str, entry: list[str]) -> list[tuple[str, Reading]]:
    """Return the forms of one entry of the lexicon: a lemma, or a lemma and its forms."""
    lemma = entry[0]
    if kind in ("noun", "noun!"):
        plural = entry[1] if kind == "noun!" else _s(lemma)
        return [(lemma, ("NN", lemma)), (plural, ("NNS", lemma))]
    if kind in ("verb", "verb+", "verb!"):
        past, participle = entry[1:3] if kind == "verb!" else (_ed(lemma, kind), _ed(lemma, kind))
        ing = entry[3] if len(entry) > 3 else _ing(lemma, kind)
        s = "has" if lemma == "have" else _s(lemma)
        tags = zip(
            (lemma, s, past, participle, ing), ("VB", "VBZ", "VBD", "VBN", "VBG"), strict=True
        )
        return [(form, (tag, lemma)) for form, tag in tags]
    if kind == "other!":
        return [(lemma, (entry[1], entry[2] if len(entry) > 2 else lemma))]
    return [(lemma, ({"adj": "JJ", "adv": "RB"}[kind], lemma))]


def _s(lemma: str) -> str:
    if lemma.endswith(("s", "x", "z", "ch", "sh")) or lemma in ("go", "do", "forgo", "undergo"):
        return lemma + "es"
    if lemma.endswith("y") and lemma[-2] not in "aeiou":
        return lemma[:-1] + "ies"
    return lemma + "s"


def _ed(lemma: str, kind: str) -> str:
    if lemma.endswith("e"):
        return lemma + "d"
    if lemma.endswith("y") and lemma[-2] not in "aeiou":
        return lemma[:-1] + "ied"
    return lemma + (lemma[-1] if kind == "verb+" else "") + "ed"


def _ing(lemma: str, kind: str) -> str:
    if lemma.endswith("e") and not lemma.endswith(("ee", "oe")):
        return lemma[:-1] + "ing"
    return lemma + (lemma[-1] if kind == "verb+" else "") + "ing"


def tag_word(
    word: str, given: str, before: Sequence[Node], *, code: str, clause: bool, last: bool
) -> tuple[str, str, str]:
    """Return a word's tag, lemma and coarse tag from where it stands.

    Args:
        word: The word as written.
        given: The tag that the writer gives, or nothing.
        before: The bracket's own words so far.
        code: The bracket's short label.
        clause: Whether a verb is meant, if the word can be one.
        last: Whether no other word of its own follows in the bracket.
    """
    options = readings().get(word) or readings().get(word.lower()) or []
    if given:
        lemma = next((lemma for tag, lemma in options if _fits(tag, given)), None)
        if lemma is None:
            lemma = word if given == "NNP" or word[0].isupper() else word.lower()
        return given, lemma, _coarse(given, lemma)
    if word[0].isdigit():
        if word.endswith(("-year-old", "th", "st", "nd", "rd", "-day", "-month", "-page")):
            return "JJ", word, "ADJ"
        return "CD", word, "NUM"
    if word[0].isupper() and not options:
        return "NNP", word, "PROPN"
    tags = [tag for tag, _ in options]
    tag = _special(word, before, code=code, clause=clause, last=last) or (
        _verb(tags, before, code) if clause else None
    )
    if tag is None:
        nouns, adjectives = ["NN", "NNS"], ["JJ", "JJR", "JJS"]
        order = nouns + adjectives if last else adjectives + nouns
        if clause:
            order = ["RB", "RBR", *order]
        rest = ["RP", "VBG", "VBN", "RB", "VBD", "VB", "VBZ"]
        order = ["RP", *order] if clause else ["IN", *order]
        tag = next((t for t in order if t in tags), None) or next(
            (t for t in [*tags, *rest] if t in tags), None
        )
    if tag == "VBD" and not clause:
        tag = "VBN"  # a retired teacher
    if tag is None:
        raise UnknownWordError(f"unknown word {word!r}")
    lemma = next((lemma for t, lemma in options if _fits(t, tag)), word.lower())
    if word.lower() == "her" and tag == "PRP":
        lemma = "she"
    return tag, lemma, _coarse(tag, lemma)


def _fits(listed: str, tag: str) -> bool:
    return listed == tag or (listed == "VB" and tag == "VBP")


def _special(
    word: str, before: Sequence[Node], *, code: str, clause: bool, last: bool
) -> str | None:
    """Return the tag of the words that have one of their own in each place."""
    if word == "to":
        return "TO" if clause else "IN"
    if word == "'s":
        return "VBZ" if clause else "POS"
    if word == "'":
        return "POS"
    if word.lower() == "that":
        return "IN" if clause else "DT"
    if word.lower() == "her":
        return "PRP" if last else "PRP$"
    if word.lower() == "there" and code == "s":
        return "EX"
    if word.lower() == "one":
        return "CD"
    return None


def _verb(tags: Sequence[str], before: Sequence[Node], code: str) -> str | None:
    """Return the tag of a verb in a clause, from the auxiliaries before it."""
    helped = [word for word in before if word.tag == "MD" or word.lemma in ("be", "have", "do")]
    marked = any(word.tag == "TO" for word in before)
    perfect = bool(helped) and helped[-1].lemma in ("be", "have")
    others = [tag for tag in tags if tag not in _VERBS]
    if others and any(w.tag in _VERBS and w.lemma not in ("be", "have", "do") for w in before):
        return None  # the clause has its verb
    if "VBG" in tags:
        return "VBG"
    if "VBN" in tags and (perfect or (code == "l" and not marked and not helped)):
        return "VBN"
    if "VB" in tags and (marked or helped):
        return "VB"
    if "VBD" in tags:
        return "VBD"
    if "VBZ" in tags:
        return "VBZ"
    if "VB" in tags:
        return "VB" if code == "x" else "VBP"
    return "VBP" if "VBP" in tags else "VBN" if "VBN" in tags else None


def _coarse(tag: str, lemma: str) -> str:
    if tag in (",", ".", ":", "``", "''"):
        return "PUNCT"
    if lemma == "not":
        return "PART"
    if lemma in PRONOUNS.split():
        return "PRON"
    if lemma == "be" and tag.startswith("V"):
        return "AUX"
    return POS[tag]
