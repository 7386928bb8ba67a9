"""The phrases of newsroom sentences, and the coins that nobody can guess."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import newsroom_words as words
from newsroom_trees import Node, mark, punct

UNSEEN = 0.3  # how often a dev sentence takes a held-out word where there is one


def inflect(verb: str) -> dict[str, str]:
    """Return a verb's forms by tag."""
    e, last = verb.endswith("e"), verb[-1]
    third = verb + ("es" if verb.endswith(("s", "ch", "sh", "x")) else "s")
    doubled = verb in words.DOUBLED.split() or verb in words.ING_DOUBLED.split()
    ing = (verb[:-1] if e else verb + last * doubled) + "ing"
    past = verb + "d" if e else verb + last * (verb in words.DOUBLED.split()) + "ed"
    if verb.endswith("y") and verb[-2] not in "aeiou":
        third, past = verb[:-1] + "ies", verb[:-1] + "ied"
    vbd, vbn = words.PAST.get(verb, f"{past} {past}").split()
    return {"VB": verb, "VBP": verb, "VBZ": third, "VBG": ing, "VBD": vbd, "VBN": vbn}


class Phrases:
    """Writes phrases in one category; the same seed writes the same.

    Attributes:
        lost: Expected number of wrong answers, by layer, of someone who knows this grammar and
            always answers what is likelier: the share of difficulty that cannot be learnt.
    """

    def __init__(self, rng: random.Random, category: str, *, dev: bool) -> None:
        self.rng, self.category, self.dev = rng, category, dev
        self.lost: Counter[str] = Counter()

    def maybe(self, p: float) -> bool:
        """Return whether an optional part is there."""
        return self.rng.random() < p

    def coin(self, p: float, **loses: float) -> bool:
        """Decide, with ``p`` for true, what the words leave open, and note what that loses."""
        for layer, count in loses.items():
            self.lost[layer] += min(p, 1 - p) * count
        return self.rng.random() < p

    def pick(self, choice: str) -> str:
        """Return one of the words; one after the bar only in dev."""
        options = choice.split()
        bar = options.index("|") if "|" in options else len(options)
        unseen = self.dev and bar < len(options) and self.rng.random() < UNSEEN
        return self.rng.choice(options[bar + 1 :] if unseen else options[:bar])

    def verb(self, tag: str) -> Node:
        """Return a transitive verb, most often one that is a noun too."""
        lemma = "plea"
        while lemma in words.NEVER_VERBS.split():
            lemma = self.pick(words.BOTH["any" if self.maybe(0.4) else self.category])
        return Node(inflect(lemma)[tag], tag, lemma)

    def pick_one(self, *makers: Callable[[], Node]) -> Node:
        """Return what one of the makers makes."""
        return self.rng.choice(makers)()

    def noun(self, *, plural: bool = False) -> Node:
        """Return a thing, most often a noun that is a verb too."""
        lemma = "sue"
        while lemma in words.NEVER_NOUNS.split():
            kind = self.rng.random()
            lists = words.BOTH["any"], words.BOTH[self.category], words.THINGS[self.category]
            lemma = self.pick(lists[0 if kind < 0.3 else 1 if kind < 0.75 else 2])
        return Node(_plural(lemma) if plural else lemma, "NNS" if plural else "NN", lemma)

    def actor(self, *, plural: bool = False) -> Node:
        """Return a common noun for people."""
        lemma = self.pick(words.PEOPLE[self.category])
        return Node(_plural(lemma) if plural else lemma, "NNS" if plural else "NN", lemma)

    def dress(self, head: Node, *, definite: float = 0.6) -> Node:
        """Put a determiner or owner, adjectives and noun modifiers before a common noun."""
        if self.maybe(0.2):
            head.before("compound", self.noun())
        if self.maybe(0.12):
            form = self.pick(words.PARTICIPLES)
            verbal = "VBG" if form.endswith("ing") else "VBN"
            tag = "JJ" if self.coin(0.75, tags=1) else verbal
            head.first("amod", Node(form, tag, pos="ADJ" if tag == "JJ" else "VERB"))
        elif self.maybe(0.25):
            head.first("amod", Node(self.pick(words.ADJECTIVES), "JJ"))
        if self.maybe(0.12):
            return head.first("nmod:poss", self.own(self.person()))
        if self.maybe(0.12):
            return head.first("nmod:poss", Node(self.pick("her his their its"), "PRP$"))
        if head.tag == "NNS" and self.maybe(0.5):
            return head
        form = "the" if self.maybe(definite) else "this" if head.tag == "NN" else "these"
        form = "a" if form == "this" and self.maybe(0.8) else form
        follower = next(head.words()).form
        form = "an" if form == "a" and follower[0] in "aeio" else form
        return head.first("det", Node(form, "DT"))

    def thing(self) -> Node:
        """Return a noun phrase for a thing."""
        return self.dress(self.noun(plural=self.maybe(0.4)))

    def own(self, name: Node) -> Node:
        """Make a possessor."""
        return name.after("case", Node("'s", "POS", glued=True))

    def person(self, *, appos: bool = False) -> Node:
        """Return a person's name, often with what tells that it is one."""
        first, last = self.pick(words.FIRST), self.pick(words.LAST)
        if self.maybe(0.4):
            return full_name(first, last, label="PER")
        name = full_name(first if self.maybe(0.4) else last, label="PER")
        if self.maybe(0.5):
            name.before("compound", Node(self.pick(words.TITLES[self.category]), "NNP"))
        elif appos and self.maybe(0.4):
            who = self.dress(self.actor(), definite=1)
            name.after("punct", punct(",")).after("appos", who).after("punct", punct(","))
        return name

    def firm(self) -> Node:
        """Return an organisation's name."""
        name = self.pick(words.FIRMS)
        if self.maybe(0.5):
            return full_name(name, label="ORG")
        ending = self.pick(words.FIRM_ENDINGS)
        base = name if self.maybe(0.5) else self.pick(words.PLACES)
        return mark(Node(ending, "NNP").before("compound", Node(base, "NNP")), "ORG")

    def subject(self, *, appos: bool = False) -> Node:
        """Return who or what acts."""
        kind = self.rng.random()
        if kind < 0.26:
            return self.person(appos=appos)
        if kind < 0.38:
            return self.firm()
        if kind < 0.42:
            # A bare name that is a place, or stands for its government or a person.
            both = sorted(_known(words.LAST) & _known(words.PLACES))
            place = self.coin(0.6, ents=1)
            return full_name(self.rng.choice(both), label="LOC" if place else "PER")
        if kind < 0.72:
            return self.dress(self.actor(plural=self.maybe(0.4)))
        return self.thing()

    def when(self) -> Node:
        """Return a date with its preposition, where it has one."""
        month, year = self.pick(words.MONTHS), str(self.rng.randint(1987, 2024))
        kind = self.rng.randrange(5)
        if kind == 0:
            return mark(Node(self.pick(words.DAYS), "NNP"), "DATE").first("case", Node("on", "IN"))
        if kind == 1:
            return mark(Node(month, "NNP").before("amod", Node("last", "JJ")), "DATE")
        date = Node(month, "NNP")
        if kind == 2:
            date.before("nummod", Node(str(self.rng.randint(1, 28)), "CD"))
        elif kind == 3:
            date.after("nummod", Node(year, "CD"))
        preposition = "on" if kind == 2 else self.pick("in by since for")
        return mark(date, "DATE").first("case", Node(preposition, "IN"))

    def where(self) -> Node:
        """Return a place with its preposition."""
        place = Node(self.pick(words.PLACES), "NNP")
        if self.maybe(0.2):
            place.before("compound", Node(self.pick("North South Lake Fort"), "NNP"))
        return mark(place, "LOC").first("case", Node(self.pick("in near from to for"), "IN"))

    def price(self) -> Node:
        """Return a sum of money."""
        amount = Node(str(self.rng.randint(2, 90)), "CD", glued=True)
        if self.maybe(0.6):
            amount = Node(self.pick("million billion"), "CD").before("compound", amount)
        return mark(Node("$", "$").after("nummod", amount), "MONEY").first(
            "case", Node("for", "IN")
        )


def _known(choice: str) -> set[str]:
    return set(choice.partition("|")[0].split())


def _plural(lemma: str) -> str:
    return inflect(lemma)["VBZ"]


def full_name(first: str, last: str = "", *, label: str) -> Node:
    """Return a name of one or two words as an entity."""
    name = Node(first, "NNP")
    return mark(name.after("flat", Node(last, "NNP")) if last else name, label)
