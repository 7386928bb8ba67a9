"""What newsroom sentences can look like: phrases, clauses, and the coins that nobody can guess."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence

import newsroom_words as W
from newsroom_trees import Node, mark, punct

UNSEEN = 0.3  # how often a dev sentence takes a held-out word where there is one


def inflect(verb: str) -> dict[str, str]:
    """Return a verb's forms by tag."""
    e, last = verb.endswith("e"), verb[-1]
    third = verb + ("es" if verb.endswith(("s", "ch", "sh", "x")) else "s")
    doubled = verb in W.DOUBLED or verb in W.ING_DOUBLED
    ing = (verb[:-1] if e else verb + last * doubled) + "ing"
    past = verb + "d" if e else verb + last * (verb in W.DOUBLED) + "ed"
    if verb.endswith("y") and verb[-2] not in "aeiou":
        third, past = verb[:-1] + "ies", verb[:-1] + "ied"
    vbd, vbn = W.PAST.get(verb, f"{past} {past}").split()
    return {"VB": verb, "VBP": verb, "VBZ": third, "VBG": ing, "VBD": vbd, "VBN": vbn}


class Writer:
    """Writes sentences of one story; the same seed writes the same.

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

    def pick(self, words: str | Sequence[str]) -> str:
        """Return one of the words; one after the bar only in dev."""
        options = words.split() if isinstance(words, str) else list(words)
        bar = options.index("|") if "|" in options else len(options)
        unseen = self.dev and bar < len(options) and self.rng.random() < UNSEEN
        return self.rng.choice(options[bar + 1 :] if unseen else options[:bar])

    def verb(self, tag: str) -> Node:
        """Return a transitive verb, most often one that is a noun too."""
        lemma = "plea"
        while lemma in W.NEVER_VERBS:
            lemma = self.pick(W.BOTH["any" if self.maybe(0.4) else self.category])
        return Node(inflect(lemma)[tag], tag, lemma)

    def pick_one(self, *makers: Callable[[], Node]) -> Node:
        """Return what one of the makers makes."""
        return self.rng.choice(makers)()

    def noun(self, *, plural: bool = False) -> Node:
        """Return a thing, most often a noun that is a verb too."""
        lemma = "sue"
        while lemma in W.NEVER_NOUNS:
            kind = self.rng.random()
            lists = W.BOTH["any"], W.BOTH[self.category], W.THINGS[self.category]
            lemma = self.pick(lists[0 if kind < 0.3 else 1 if kind < 0.75 else 2])
        return Node(_plural(lemma) if plural else lemma, "NNS" if plural else "NN", lemma)

    def actor(self, *, plural: bool = False) -> Node:
        """Return a common noun for people."""
        lemma = self.pick(W.PEOPLE[self.category])
        return Node(_plural(lemma) if plural else lemma, "NNS" if plural else "NN", lemma)

    def dress(self, head: Node, *, definite: float = 0.6) -> Node:
        """Put a determiner or owner, adjectives and noun modifiers before a common noun."""
        if self.maybe(0.2):
            head.before("compound", self.noun())
        if self.maybe(0.12):
            form = self.pick(W.PARTICIPLES)
            verbal = "VBG" if form.endswith("ing") else "VBN"
            tag = "JJ" if self.coin(0.75, tags=1) else verbal
            head.first("amod", Node(form, tag, pos="ADJ" if tag == "JJ" else "VERB"))
        elif self.maybe(0.25):
            head.first("amod", Node(self.pick(W.ADJECTIVES), "JJ"))
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
        first, last = self.pick(W.FIRST), self.pick(W.LAST)
        if self.maybe(0.4):
            return _name(first, last, label="PER")
        name = _name(first if self.maybe(0.4) else last, label="PER")
        if self.maybe(0.5):
            name.before("compound", Node(self.pick(W.TITLES[self.category]), "NNP"))
        elif appos and self.maybe(0.4):
            who = self.dress(self.actor(), definite=1)
            name.after("punct", punct(",")).after("appos", who).after("punct", punct(","))
        return name

    def firm(self) -> Node:
        """Return an organisation's name."""
        name = self.pick(W.FIRMS)
        if self.maybe(0.5):
            return _name(name, label="ORG")
        ending = self.pick(W.FIRM_ENDINGS)
        base = name if self.maybe(0.5) else self.pick(W.PLACES)
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
            both = sorted(set(W.LAST[: W.LAST.index("|")]) & set(W.PLACES[: W.PLACES.index("|")]))
            place = self.coin(0.6, ents=1)
            return _name(self.rng.choice(both), label="LOC" if place else "PER")
        if kind < 0.72:
            return self.dress(self.actor(plural=self.maybe(0.4)))
        return self.thing()

    def when(self) -> Node:
        """Return a date with its preposition, where it has one."""
        month, year = self.pick(W.MONTHS), str(self.rng.randint(1987, 2024))
        kind = self.rng.randrange(5)
        if kind == 0:
            return mark(Node(self.pick(W.DAYS), "NNP"), "DATE").first("case", Node("on", "IN"))
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
        place = Node(self.pick(W.PLACES), "NNP")
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

    def place_after(self, verb: Node, noun: Node, phrase: Node) -> None:
        """Attach a phrase after an object to the verb or to the object: the words do not tell."""
        if self.coin(0.7, heads=1, deps=1):
            verb.after("obl", phrase)
        else:
            noun.after("nmod", phrase)

    def transitive(self, tag: str) -> Node:
        """Return a verb with its object and what else follows."""
        verb, obj = self.verb(tag), self.thing()
        if self.maybe(0.08):
            obj = Node(self.pick("her him it them"), "PRP")
        verb.after("obj", obj)
        if obj.tag != "PRP" and self.maybe(0.15):
            obj.after("nmod", self.thing().first("case", Node("of", "IN")))
        elif self.maybe(0.2):
            verb.after("advmod", Node(self.pick(W.ADVERBS), "RB"))
        if self.maybe(0.4):
            phrase = self.pick_one(self.where, self.when, self.price)
            if obj.tag == "PRP" or verb.right[-1] is not obj or phrase.form == "$":
                verb.after("obl", phrase)
            else:
                self.place_after(verb, obj, phrase)
        return verb

    def finite(self, subject: Node) -> str:
        """Return a finite verb's tag that agrees with the subject."""
        if self.maybe(0.55):
            return "VBD"
        return "VBP" if subject.tag == "NNS" or _has(subject, "conj") else "VBZ"

    def clause(self) -> Node:
        """Return one plain clause."""
        kinds = (self.plain, self.modal, self.passive, self.control, self.moving, self.nominal)
        return self.rng.choices(kinds, (40, 15, 15, 12, 12, 6))[0]()

    def plain(self) -> Node:
        """``The union plans a strike.``"""
        subject = self.subject(appos=True)
        if self.maybe(0.1):
            other = self.subject().first("cc", Node("and", "CC"))
            subject.after("conj", other)
        elif subject.tag in ("NN", "NNS") and self.maybe(0.12):
            # ``The plans reported in May face a review``: past tense or participle?
            acl = self.verb("VBN").after("obl", self.pick_one(self.where, self.when))
            subject.after("acl", acl)
        elif subject.tag in ("NN", "NNS") and self.maybe(0.08):
            rel = self.transitive("VBD").first("nsubj", Node("that", "WDT"))
            subject.after("acl:relcl", rel)
        return self.transitive(self.finite(subject)).first("nsubj", subject)

    def modal(self) -> Node:
        """``May will report the strike``; sometimes ``Will May report the strike?``."""
        subject, modal = self.subject(), self.pick("will may could must would can")
        verb = self.transitive("VB")
        if self.maybe(0.15):
            verb.first("nsubj", subject).after("punct", punct("?"))
            return verb.first("aux", Node(modal, "MD"))
        return verb.first("aux", Node(modal, "MD")).first("nsubj", subject)

    def passive(self) -> Node:
        """``The plan was reported by May``: by whom, or by when?"""
        subject = self.thing()
        verb = self.verb("VBN")
        verb.first("aux:pass", _be(subject, past=self.maybe(0.8)))
        if self.maybe(0.15):
            name = self.rng.choice(["April", "May", "June", "August"])
            person = self.coin(0.5, ents=1, deps=1)
            by = _name(name, label="PER" if person else "DATE").first("case", Node("by", "IN"))
            verb.after("obl:agent" if person else "obl", by)
        elif self.maybe(0.6):
            agent = self.subject()
            verb.after("obl:agent", agent.first("case", Node("by", "IN")))
        else:
            verb.after("obl", self.pick_one(self.where, self.when))
        return verb.first("nsubj:pass", subject)

    def control(self) -> Node:
        """``The bank wants to price the deal``; ``The bank stopped reporting delays``."""
        subject = self.subject(appos=True)
        lemma, tag = self.rng.choice(
            [("want", "VB"), ("plan", "VB"), ("move", "VB"), ("offer", "VB"), ("stop", "VBG")]
        )
        finite = self.finite(subject)
        verb, inner = Node(inflect(lemma)[finite], finite, lemma), self.transitive(tag)
        if tag == "VB":
            inner.first("mark", Node("to", "TO"))
        return verb.first("nsubj", subject).after("xcomp", inner)

    def moving(self) -> Node:
        """``Shares rose 5 percent``; ``Rose fell in Bath``; ``Rivers came back late``."""
        subject, lemma = self.subject(), self.pick("rise fall come win speak march")
        tag = self.finite(subject)
        verb = Node(inflect(lemma)[tag], tag, lemma).first("nsubj", subject)
        if lemma in ("rise", "fall") and self.maybe(0.5):
            percent = Node("percent", "NN").before(
                "nummod", Node(str(self.rng.randint(2, 60)), "CD")
            )
            verb.after("obl", percent)
        else:
            verb.after("advmod", Node(self.pick(W.ADVERBS), "RB"))
        return verb.after("obl", self.pick_one(self.where, self.when))

    def nominal(self) -> Node:
        """``Cook is the judge``; ``May 's the coach of Leeds``."""
        subject, what = self.person(), self.dress(self.actor(), definite=0.8)
        be = Node("'s", "VBZ", "be", "AUX", glued=True) if self.maybe(0.3) else _be(subject)
        what.after("nmod", self.firm().first("case", Node("of", "IN")))
        return what.first("cop", be).first("nsubj", subject)

    def sentence(self) -> Node:
        """Return a whole sentence."""
        kinds = (self.simple, self.said, self.quoted, self.headline, self.order, self.open)
        kind = self.rng.choices(kinds, (54, 16, 8, 10, 6, 6))[0]
        root = kind()
        if kind != self.headline and not _asks(root):
            root.after("punct", punct("."))
        first = next(word for word in root.words() if word.tag != "``")
        first.form = first.form[0].upper() + first.form[1:]
        return root

    def simple(self) -> Node:
        """One clause, or two."""
        root = self.clause()
        if not _asks(root) and self.maybe(0.15):
            second = self.clause_without_question().first("cc", Node("and", "CC"))
            root.after("conj", second)
        elif not _asks(root) and self.maybe(0.1):
            lead = self.pick_one(self.where, self.when)
            root.first("punct", punct(",")).first("obl", lead)
        return root

    def clause_without_question(self) -> Node:
        """Return a clause that can stand inside another."""
        root = self.clause()
        while _asks(root):
            root = self.clause()
        return root

    def said(self) -> Node:
        """``Lincoln said that plans failed``; ``Lincoln said plans that …``."""
        subject = self.pick_one(self.person, lambda: self.dress(self.actor()), self.firm)
        inner = self.clause_without_question()
        if self.maybe(0.6):
            inner.first("mark", Node("that", "IN", pos="SCONJ"))
        form = self.pick("said claimed warned reported")
        return Node(form, "VBD", _lemma(form)).first("nsubj", subject).after("ccomp", inner)

    def quoted(self) -> Node:
        """``“Rose rose late”, said Rose.``"""
        inner = self.clause_without_question()
        next(inner.words()).glued = True
        inner.first("punct", punct("“", glued=False))
        inner.after("punct", punct(",")).after("punct", punct("”"))
        verb = Node("said", "VBD", "say").before("ccomp", inner)
        return verb.after("nsubj", self.person())

    def headline(self) -> Node:
        """``Banks Report Price Cuts``: no determiners, present tense, capitals throughout."""
        plural = self.maybe(0.6)
        subject = self.actor(plural=plural) if self.maybe(0.5) else self.noun(plural=plural)
        if self.maybe(0.5):
            subject.before("compound", self.noun())
        if self.maybe(0.25):
            subject = self.firm()
        obj = self.noun(plural=self.maybe(0.6))
        if self.maybe(0.6):
            obj.before("compound", self.noun())
        verb = self.verb("VBP" if subject.tag == "NNS" else "VBZ").first("nsubj", subject)
        verb.after("obj", obj)
        if self.maybe(0.5):
            self.place_after(verb, obj, self.pick_one(self.where, self.when))
        for word in verb.words():
            word.lemma = word.lemma or (word.form if word.tag == "NNP" else word.form.lower())
            word.form = word.form[0].upper() + word.form[1:]
        return verb

    def order(self) -> Node:
        """``Mark the plan back in June``: a verb comes first."""
        return self.transitive("VB")

    def open(self) -> Node:
        """``She reported it on Monday``: any category."""
        self.lost["cats"] += 1 - 1 / len(W.CATEGORIES)
        lemma = self.pick(W.BOTH["any"][: W.BOTH["any"].index("|")])
        subject = Node(self.pick("She He They We"), "PRP")
        verb = Node(inflect(lemma)["VBD"], "VBD", lemma).first("nsubj", subject)
        verb.after("obj", Node(self.pick("it that her them"), "PRP"))
        if verb.right[0].form == "that":
            verb.right[0].tag, verb.right[0].pos = "DT", "PRON"
        return verb.after("obl", self.pick_one(self.where, self.when))


def _plural(lemma: str) -> str:
    return inflect(lemma)["VBZ"]


def _lemma(form: str) -> str:
    return "say" if form == "said" else form.removesuffix("ed")


def _name(first: str, last: str = "", *, label: str) -> Node:
    name = Node(first, "NNP")
    return mark(name.after("flat", Node(last, "NNP")) if last else name, label)


def _be(subject: Node, *, past: bool = False) -> Node:
    plural = subject.tag == "NNS"
    if past:
        return Node("were" if plural else "was", "VBD", "be", "AUX")
    return Node("are" if plural else "is", "VBP" if plural else "VBZ", "be", "AUX")


def _has(node: Node, dep: str) -> bool:
    return any(child.dep == dep for child in node.right)


def _asks(root: Node) -> bool:
    return any(child.form == "?" for child in root.right)
