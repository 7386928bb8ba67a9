"""What newsroom sentences can look like: clauses, and what they are put into."""

from __future__ import annotations

import newsroom_words as words
from newsroom_phrases import Phrases, full_name, inflect
from newsroom_trees import Node, punct


class Writer(Phrases):
    """Writes whole sentences."""

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
            verb.after("advmod", Node(self.pick(words.ADVERBS), "RB"))
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
        """Write ``The union plans a strike``."""
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
            by = full_name(name, label="PER" if person else "DATE").first("case", Node("by", "IN"))
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
            verb.after("advmod", Node(self.pick(words.ADVERBS), "RB"))
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
        """Write ``“Rose rose late,” said Rose``."""
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
        self.lost["cats"] += 1 - 1 / len(words.CATEGORIES)
        lemma = self.pick(words.BOTH["any"].partition("|")[0])
        subject = Node(self.pick("She He They We"), "PRP")
        verb = Node(inflect(lemma)["VBD"], "VBD", lemma).first("nsubj", subject)
        verb.after("obj", Node(self.pick("it that her them"), "PRP"))
        if verb.right[0].form == "that":
            verb.right[0].tag, verb.right[0].pos = "DT", "PRON"
        return verb.after("obl", self.pick_one(self.where, self.when))


def _lemma(form: str) -> str:
    return "say" if form == "said" else form.removesuffix("ed")


def _be(subject: Node, *, past: bool = False) -> Node:
    plural = subject.tag == "NNS"
    if past:
        return Node("were" if plural else "was", "VBD", "be", "AUX")
    return Node("are" if plural else "is", "VBP" if plural else "VBZ", "be", "AUX")


def _has(node: Node, dep: str) -> bool:
    return any(child.dep == dep for child in node.right)


def _asks(root: Node) -> bool:
    return any(child.form == "?" for child in root.right)
