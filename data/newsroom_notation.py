"""Read sentences in the notation of newsroom_stories.txt and newsroom_plots.txt as trees.

``s(The council) approved o(a budget n(of {M 2-9 million})) b(on {day}) .`` is a clause whose
dependents stand in brackets behind a short label (`LABELS`); words without brackets get their label
from their tag. README.md describes the notation for those who write in it.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from newsroom_cast import Cast, money
from newsroom_lexicon import DEGREE, SUBORDINATORS, TITLES, tag_word
from newsroom_trees import Node, mark

# Short label: label, and whether the bracket holds a clause rather than a phrase.
LABELS = {
    "s": ("nsubj", False), "o": ("obj", False), "i": ("iobj", False), "b": ("obl", False),
    "a": ("obl:agent", False), "n": ("nmod", False), "p": ("nmod:poss", False),
    "t": ("obl:tmod", False), "m": ("obl:npmod", False), "ap": ("appos", False),
    "j": ("conj", False), "x": ("xcomp", True), "c": ("ccomp", True), "v": ("advcl", True),
    "r": ("acl:relcl", True), "l": ("acl", True), "jc": ("conj", True), "par": ("parataxis", True),
}  # fmt: skip
ENTITIES = {"P": "PER", "O": "ORG", "L": "LOC", "D": "DATE", "M": "MONEY"}
PLAIN = {
    "DT": "det", "PDT": "det:predet", "PRP$": "nmod:poss", "JJ": "amod", "JJR": "amod",
    "JJS": "amod", "CD": "nummod", "NN": "compound", "NNS": "compound", "NNP": "compound",
    "IN": "case", "TO": "mark", "MD": "aux", "RB": "advmod", "RBR": "advmod", "WRB": "advmod",
    "CC": "cc", "RP": "compound:prt", "POS": "case", "EX": "expl", "VBG": "amod", "VBN": "amod",
    ".": "punct", ",": "punct", ":": "punct", "``": "punct", "''": "punct", "WDT": "det",
    "RBS": "advmod",
}  # fmt: skip
FIXED = {("more", "than"), ("less", "than"), ("at", "least"), ("because", "of"), ("as", "well"),
         ("according", "to"), ("instead", "of"), ("up", "to"), ("such", "as")}  # fmt: skip
COMPARING = {"more", "less", "at", "up"}
GRADED = {"CD", "JJ", "JJR", "RB", "RBR", "VBN", "VBG"}
GLUED = {",", ".", "?", "”", "'s", "’s", "n't", "'", ";", ":", "!"}

_TOKEN = re.compile(r"\{[^}]*\}|<[A-Z] [^>]*>|~?[a-z]+\(|\)|[^\s()]+")
_WORD = re.compile(r"([^/:]+|:)(?:/([A-Z$~]+))?(?::([a-z:]+))?")
_CHOICE = re.compile(r"\[([^\[\]]*)\]")
# What is no plain statement, or reports already.
_REPORTED = re.compile(r"said|say|told|showed|warn|[Pp]olice|“|s\(\[?I\b|[A-Z]\w* \{P|<| \| [A-Z]")
_VERBS = {"VB", "VBD", "VBG", "VBN", "VBP", "VBZ"}
_NOUNS = {"NN", "NNS", "NNP", "$"}
_ALONE = {"PRP", "WP", "WDT", "EX", "CD", "DT", "JJ", "JJR", "JJS", "VBG", "RB", "WRB", "RBR"}


class NotationError(ValueError):
    """A sentence that cannot be read: names the sentence and what is wrong with it."""


@dataclass
class Item:
    """What stands directly in a bracket: a word, a name, or a bracket that is done."""

    node: Node
    code: str = ""  # of the bracket; empty for words
    starred: bool = False
    label: str = ""  # where the writer gives one


@dataclass
class Reader:
    """Reads sentences, drawing alternatives and coins by chance, names from the cast."""

    rng: random.Random
    cast: Cast
    lost: Counter[str] = field(default_factory=Counter)  # by the coins of the last sentence
    bound: dict[str, int] = field(default_factory=dict)

    def sentence(self, source: str) -> Node:
        """Return a sentence's tree; a line that begins with ``!`` is a headline.

        Raises:
            NotationError: brackets that do not match, an unknown word or label, no head.
        """
        self.lost.clear()
        line = source.removeprefix("! ")
        while match := _CHOICE.search(line):
            name, _, options = match[1].rpartition("=")
            parts = options.split("|")
            chosen = self.rng.choice(parts)
            if name:  # the same choice throughout the document
                chosen = parts[self.bound.setdefault(name, self.rng.randrange(len(parts)))]
            line = f"{line[: match.start()]} {chosen.strip()} {line[match.end() :]}"
        tokens = _TOKEN.findall(line)
        try:
            if tokens.count(")") != sum(token.endswith("(") for token in tokens):
                raise NotationError("brackets do not match")
            root = self._bracket(iter(tokens), "root", clause=True)
        except (NotationError, KeyError) as error:
            raise NotationError(f"{error.args[0]} in {line!r}") from error
        _articles(root)
        if source.startswith("!"):
            _headline(root, shout=self.rng.random() < 0.25)
        else:
            first = next(word for word in root.words() if word.tag != "``")
            first.form = first.form[0].upper() + first.form[1:]
        return root

    def report(self, source: str, who: list[str]) -> str:
        """Return a plain statement as what somebody said, any other sentence as it is."""
        speaker = self.rng.choice(who)
        plain = source.startswith(("s([", "s(The ", "s(A ", "s({")) and source.endswith(" .")
        if not plain or _REPORTED.search(source) or speaker[1:] in source:
            return source
        first = source[2:].lstrip("[").split()[0]
        inside = source.replace(first, first if "{" in first else first.lower(), 1)
        that = self.rng.choice(["that ", ""])
        return f"s({speaker}) [said | say] c({that}{inside.removesuffix(' .')}) ."

    def coin(self, p: float, **layers: float) -> bool:
        """Draw what the words do not tell, and count what a reader must lose by it."""
        for layer, n in layers.items():
            self.lost[layer] += n * min(p, 1 - p)
        return self.rng.random() < p

    def _bracket(
        self, tokens: Iterator[str], code: str, *, clause: bool, flat: bool = False
    ) -> Node:
        """Read up to the closing bracket and return the head with all its dependents."""
        raw: list[Item | str] = []
        for token in tokens:
            if token == ")":
                break
            if token.endswith("("):
                raw.append(self._inner(tokens, token, raw))
            elif token[0] in "{<":
                raw.append(Item(self._slot(token)))
            elif token.startswith(("*{", "*<")):
                raw.append(Item(self._slot(token[1:]), starred=True))
            else:
                raw.append(token)
        items = self._words(raw, code, clause=clause)
        return _assemble(items, clause=clause, flat=flat)

    def _inner(self, tokens: Iterator[str], token: str, before: list[Item | str]) -> Item:
        code = token.strip("~(")
        label, clause = LABELS.get(code, (code, False))
        node = self._bracket(tokens, code, clause=clause)
        if not clause and node.tag == "DT":
            node.pos = "PRON"
        if code == "r":
            first = next(node.words())
            first.tag = "WDT" if first.form == "that" else first.tag
        if token[0] != "~":
            return Item(node, label)
        if code == "a":  # by May: by whom, or by when?
            person = self.coin(0.5, ents=1, deps=1)
            for word in node.words():
                if word.ent:
                    word.ent = "B-PER" if person else "B-DATE"
            return Item(node, "obl:agent" if person else "obl")
        # A phrase after an object belongs to the verb or to the object.
        target = before[-1]
        if not isinstance(target, Item) or self.coin(0.65, heads=1, deps=1):
            return Item(node, "obl")
        target.node.after("nmod", node)
        return Item(node, "moved")

    def _slot(self, token: str) -> Node:
        """Return the tree of a ``{slot}`` or of a ``<P name>``."""
        if token[0] == "{":
            return self.cast.fill(token[1:-1], self)
        kind, _, inside = token[1:-1].partition(" ")
        words = inside.split()
        if kind == "M":
            return money(*words[1:])
        names = [f"{word}/NNP" if word[0].isupper() else word for word in words]
        node = self._bracket(iter(names), "name", clause=False, flat=kind == "P")
        return mark(node, ENTITIES[kind])

    def _words(self, raw: list[Item | str], code: str, *, clause: bool) -> list[Item]:
        """Return the bracket's items, every word tagged."""
        items: list[Item] = []
        quoted = False
        if code == "v" and not any(isinstance(x, Item) and x.code == "nsubj" for x in raw):
            code = "l"  # built in 1974, it …
        for i, token in enumerate(raw):
            if isinstance(token, Item):
                if token.code != "moved":
                    items.append(token)
                    next(token.node.words()).glued |= quoted
                quoted = False
                continue
            starred, word = token[0] == "*" and len(token) > 1, token.removeprefix("*")
            if not (match := _WORD.fullmatch(word)):
                raise NotationError(f"neither word, word/TAG nor word/TAG:label: {word!r}")
            word, given, label = match.groups("")
            plain = [x for x in raw[i + 1 :] if not isinstance(x, Item) and x not in GLUED]
            named = i + 1 < len(raw) and isinstance(raw[i + 1], Item) and not raw[i + 1].code
            if word in TITLES.split() and named:
                given = "NNP"
            if given == "~":  # leading, planned: adjective or participle?
                fallback = "VBG" if word.endswith("ing") else "VBN"
                given = "JJ" if self.coin(0.7, tags=1) else fallback
            before = [x.node for x in items if not x.code]
            last = not plain and not (i + 1 < len(raw) and named)
            tag, lemma, pos = tag_word(
                word, given, before, code=code, clause=clause and not starred, last=last
            )
            node = Node(word, tag, lemma, pos, glued=word in GLUED or quoted)
            quoted = word == "“"
            items.append(Item(node, starred=starred, label=label))
        return items


def _assemble(items: list[Item], *, clause: bool, flat: bool) -> Node:
    """Return the head of a bracket, everything else hung below it."""
    head = _head(items, clause=clause, flat=flat)
    node = items[head].node
    if clause and node.lemma in ("have", "do"):
        node.pos = "VERB"
    left: list[tuple[str, Node]] = []
    right: list[tuple[str, Node]] = []
    for i, item in enumerate(items):
        if i != head and not _hang_below_neighbour(items, i, head, clause=clause):
            label = item.label or item.code or _label(item.node, node, clause=clause, flat=flat)
            (left if i < head else right).append((label, item.node))
    # The head's name may have words of its own, which stand closest to it.
    for label, child in reversed(left):
        node.first(label, child)
    for label, child in right:
        node.after(label, child)
    helped = any(child.lemma == "have" for child in node.left)
    passive = any(label == "aux:pass" for label, _ in left + right)
    if passive or (clause and node.tag == "VBN" and not helped):
        for child in node.left + node.right:
            if child.dep == "nsubj":
                child.dep = "nsubj:pass"
    return node


def _hang_below_neighbour(items: list[Item], i: int, head: int, *, clause: bool) -> bool:
    """Hang a word of a fixed phrase (more than two), or an adverb of degree, below the next one."""
    if items[i].code:
        return False
    word = items[i].node
    before, after, second = (
        items[j].node if 0 <= j < len(items) and not items[j].code else None
        for j in (i - 1, i + 1, i + 2)
    )
    if before and (before.form.lower(), word.form) in FIXED:
        before.after("fixed", word)
        return True
    if after and second and second.tag in ("CD", "$") and word.form.lower() in COMPARING:
        if (word.form.lower(), after.form) in FIXED and i + 2 != head:
            second.first("advmod", word)
            return True
        items[i].label = "advmod"
    if after and after.tag == "CD" and i + 1 != head:
        if word.tag == "CD":
            after.first("compound", word)  # two million people
            return True
        if word.form.lower() in ("about", "around"):
            word.tag, word.pos = "RB", "ADV"
            after.first("advmod", word)
            return True
    modifies = word.tag in ("RB", "RBR", "RBS") and (not clause or word.form in DEGREE)
    if after and i + 1 != head and modifies and (after.tag in GRADED or word.form in DEGREE):
        after.first("advmod", word)
        return True
    return False


def _head(items: list[Item], *, clause: bool, flat: bool) -> int:
    bare = [i for i, item in enumerate(items) if not item.code and item.node.pos != "PUNCT"]
    for i in bare:
        if items[i].starred:
            return i
    if flat:
        return bare[0]
    tags = {i: items[i].node.tag for i in bare}
    verbs = [i for i in bare if tags[i] in _VERBS]
    if clause and verbs:
        last = verbs[-1]
        others = [i for i in bare if i > last and tags[i] in _NOUNS | {"JJ", "JJR", "JJS", "CD"}]
        if items[last].node.lemma != "be" or not others:
            return last
        return others[-1]
    for wanted in (_NOUNS, _ALONE, _VERBS):
        if found := [i for i in bare if tags[i] in wanted]:
            return found[-1]
    raise NotationError("a bracket without a head")


def _label(word: Node, head: Node, *, clause: bool, flat: bool) -> str:
    verbal = clause and head.tag in _VERBS
    if flat and word.tag == "NNP":
        return "flat"
    if word.pos == "PUNCT":
        return "punct"
    if clause and word.tag in _VERBS:
        word.pos = "AUX"
        if word.lemma != "be":
            return "aux"
        if head.tag == "VBN":
            return "aux:pass"
        return "aux" if verbal else "cop"
    if word.tag == "IN" and clause and (verbal or word.form.lower() in SUBORDINATORS):
        word.pos = "SCONJ"
        return "mark"
    if word.tag == "CD" and head.tag == "CD":
        return "compound"
    if word.tag not in PLAIN:
        raise NotationError(f"no label for the word {word.form!r} ({word.tag})")
    return PLAIN[word.tag]


def _articles(root: Node) -> None:
    words = list(root.words())
    for word, following in pairwise(words):
        if word.form in ("a", "an") and word.tag == "DT":
            word.form = "an" if _vowel(following.form.lower()) else "a"


def _vowel(form: str) -> bool:
    if re.match(r"hour|honest|honour|heir|8\d?\b|1[18]\b", form):
        return True
    return form[0] in "aeiou" and not form.startswith(("uni", "use", "usu", "one", "eu", "uk"))


def _headline(root: Node, *, shout: bool) -> None:
    for word in root.words():
        word.form = word.form.upper() if shout else word.form[0].upper() + word.form[1:]
