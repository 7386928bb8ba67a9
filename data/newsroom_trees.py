"""Dependency trees that are put together word by word, and their CoNLL-U rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

POS = {
    "NN": "NOUN", "NNS": "NOUN", "NNP": "PROPN", "VB": "VERB", "VBD": "VERB", "VBG": "VERB",
    "VBN": "VERB", "VBP": "VERB", "VBZ": "VERB", "MD": "AUX", "DT": "DET", "IN": "ADP",
    "JJ": "ADJ", "RB": "ADV", "PRP": "PRON", "PRP$": "PRON", "WP": "PRON", "WDT": "PRON",
    "EX": "PRON", "WP$": "PRON", "WRB": "ADV", "RBR": "ADV", "RBS": "ADV", "JJR": "ADJ",
    "JJS": "ADJ", "RP": "ADP", "PDT": "DET", "UH": "INTJ", "CD": "NUM", "CC": "CCONJ",
    "TO": "PART", "POS": "PART", "$": "SYM",
}  # fmt: skip


@dataclass
class Node:
    """A word with its dependents to the left and to the right, both in reading order."""

    form: str
    tag: str
    lemma: str = ""
    pos: str = ""
    ent: str = ""
    dep: str = "root"
    glued: bool = False  # no space before it
    left: list[Node] = field(default_factory=list)
    right: list[Node] = field(default_factory=list)

    def before(self, dep: str, child: Node) -> Node:
        """Add the next dependent to the left (after those already there)."""
        child.dep = dep
        self.left.append(child)
        return self

    def first(self, dep: str, child: Node) -> Node:
        """Add a dependent in front of all others."""
        child.dep = dep
        self.left.insert(0, child)
        return self

    def after(self, dep: str, child: Node) -> Node:
        """Add the next dependent to the right."""
        child.dep = dep
        self.right.append(child)
        return self

    def words(self) -> Iterator[Node]:
        """Yield the tree's words as they are read."""
        for child in self.left:
            yield from child.words()
        yield self
        for child in self.right:
            yield from child.words()


def mark(node: Node, label: str) -> Node:
    """Make the whole of a small tree one entity."""
    for i, word in enumerate(node.words()):
        word.ent = f"{'I' if i else 'B'}-{label}"
    return node


def rows(root: Node) -> list[str]:
    """Return the tree's CoNLL-U rows; MISC holds SpaceAfter and NER."""
    order = list(root.words())
    index = {id(word): i for i, word in enumerate(order, start=1)}
    head = {id(child): index[id(word)] for word in order for child in (*word.left, *word.right)}
    lines = []
    for i, word in enumerate(order):
        misc = ["SpaceAfter=No"] if i + 1 < len(order) and order[i + 1].glued else []
        misc += [f"NER={word.ent}"] if word.ent else []
        pos = word.pos or POS[word.tag]
        lemma = word.lemma or (word.form if pos == "PROPN" else word.form.lower())
        columns = [str(i + 1), word.form, lemma, pos, word.tag, "_", str(head.get(id(word), 0))]
        lines.append("\t".join([*columns, word.dep, "_", "|".join(misc) or "_"]))
    return lines


def text(root: Node) -> str:
    """Return the sentence as it is written."""
    return "".join(("" if w.glued else " ") + w.form for w in root.words()).strip()
