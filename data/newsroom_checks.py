"""Faults that a hand-written or filled sentence may have: its tree, tags, labels and agreement."""

from __future__ import annotations

from newsroom_trees import POS, Node

TAGS = {*POS, ",", ".", ":", "``", "''"}
DEPS = """root nsubj nsubj:pass obj iobj obl obl:agent obl:tmod obl:npmod nmod nmod:poss appos conj
    xcomp ccomp advcl acl acl:relcl parataxis det det:predet amod nummod compound compound:prt case
    mark aux aux:pass cop advmod cc punct flat fixed expl discourse"""
SINGULAR = {"a", "an", "this", "that", "each", "every", "another"}
PLURAL = {"these", "those", "both"}
PLURAL_PRONOUNS = {"we", "they", "you", "these", "those", "both", "most", "some", "many"}
# Singular in form, plural in these sentences.
COLLECTIVE = {"police", "people", "half", "dozen", "team", "crowd", "staff"}
NOMINAL = {
    "nsubj",
    "nsubj:pass",
    "obj",
    "iobj",
    "obl",
    "obl:agent",
    "nmod",
    "nmod:poss",
    "compound",
}
FUNCTION = {"case", "mark", "det", "aux", "aux:pass", "cop", "cc", "punct", "fixed"}


def check(root: Node) -> str | None:
    """Return what is wrong with a sentence, or nothing."""
    words = list(root.words())
    if len({id(word) for word in words}) != len(words):
        return "a word stands in the tree twice"
    for word in words:
        if fault := _word_fault(word):
            return f"{word.form!r}: {fault}"
    open_entity = ""
    for word in words:
        if word.ent.startswith("I-") and open_entity[1:] != word.ent[1:]:
            return f"{word.form!r}: an entity that nothing begins"
        open_entity = word.ent
    return None


def _word_fault(word: Node) -> str | None:
    children = [*word.left, *word.right]
    deps = [child.dep for child in children]
    if word.tag not in TAGS:
        return f"tag {word.tag}"
    if word.dep not in DEPS.split():
        return f"label {word.dep}"
    if (word.pos or POS[word.tag]) == "PROPN" and word.tag != "NNP":
        return f"{word.tag} with PROPN"
    if word.dep in NOMINAL and word.tag in ("VB", "VBD", "VBN", "VBP", "VBZ"):
        return f"a verb ({word.tag}) as {word.dep}"
    if word.dep in FUNCTION and any(
        d not in ("fixed", "advmod", "conj", "cc", "punct") for d in deps
    ):
        return f"{word.dep} has dependents {deps}"
    for single in ("obj", "det", "cop"):
        if deps.count(single) > 1:
            return f"{deps.count(single)} dependents {single}"
    verbal = {"nsubj", "nsubj:pass", "obj", "iobj", "aux"} & set(deps)
    if not word.tag.startswith("VB") and verbal and "cop" not in deps:
        return f"{deps} below {word.tag}"
    subjects = [c for c in children if c.dep in ("nsubj", "nsubj:pass")]
    if len(subjects) > 1:
        return "two subjects"
    for child in children:
        if child.dep == "det" and word.tag == "NNS" and child.form.lower() in SINGULAR:
            return f"{child.form} with a plural"
        if child.dep == "det" and _number(word) == "singular" and child.form.lower() in PLURAL:
            return f"{child.form} with a singular"
    finite = [w for w in (*[c for c in word.left if c.dep in ("aux", "aux:pass", "cop")], word)
              if w.tag in ("VBZ", "VBP") or w.form.lower() in ("was", "were")]  # fmt: skip
    if any(child.dep == "aux" and child.tag == "MD" for child in children):
        finite = []
    if subjects and finite and word.dep != "acl:relcl":
        wanted, verb = _number(subjects[0]), finite[0]
        plural = verb.tag == "VBP" or verb.form.lower() == "were"
        if wanted and (wanted == "plural") != plural:
            return f"{verb.form} with {subjects[0].form}"
    return None


def _number(word: Node) -> str | None:
    """Return whether a noun is singular or plural, if its form tells."""
    if any(child.dep == "conj" for child in word.right):
        return "plural"
    if word.tag in ("NNS",) or word.form.lower() in PLURAL_PRONOUNS:
        return "plural"
    if word.form in ("I", "Sentencing") or word.ent or word.form.lower() in COLLECTIVE:
        return None
    if word.tag in ("NN", "EX") or word.form.lower() in ("he", "she", "it", "this", "nobody"):
        return "singular" if word.tag != "EX" else None
    return None
