"""Names, dates, sums and numbers: who and what fills the slots of a document."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from newsroom_trees import Node, mark

if TYPE_CHECKING:
    from newsroom_notation import Reader

BOTH = "Washington Lincoln Hamilton Kent York Madison Jordan Georgia"  # people and places
# In every list: what training shows | what only dev shows | what only test shows.
WOMEN = """April May June Rose Hope Grace Paris Charlotte Georgia Sydney Chelsea Florence Anna Maria
Nina Leila Ingrid Ruth | Faith Victoria Helen Priya Joy | Brooklyn Alexandria Sue Mei Olive"""
MEN = """August Mark Bill Will Grant Chase Drew Frank Dean Pat Jack Austin Jordan Peter David Omar
Viktor Samuel | Rob Carlos Art Dallas Hugo | Josh Simon Miles Emeka Lance"""
# Many are also a place, a firm, a noun, a verb or the weather.
SURNAMES = """Washington Lincoln Hamilton Kent York Madison Ford Lloyd Morgan Wells Cook Banks Price
Park Field Marsh Rivers Snow Frost Hunt Bush Stone Baker Fisher Miller Page Young Long Strong Best
Case Novak Garcia Okafor Jensen Haddad Kowalski Lindqvist
| Jackson Cleveland Barclay Storm Law Cross Singer Rossi Mbeki Achterberg
| Houston Dell Gale Judge Waters Butler Short Tanaka Iyer Fontaine"""
PLACES = {
    "town": """Washington Lincoln Hamilton Kent York Madison Austin Chelsea Reading Bath Cork Boston
    Milan Leeds Oslo Florence Paris Sydney Charlotte Ashby Marlow Tarrow
    | Houston Victoria Dallas Nice Vienna Lagos Dunmore
    | Jackson Cleveland Brooklyn Mobile Alexandria Quito Selwick""",
    "country": """Turkey Jordan Georgia Kenya Peru Norway Ireland Poland | Chile Ghana Latvia
    | Oman Bolivia Iceland""",
    "river": "Arden Marl Tarn Wye Kell | Orrin Vesk | Lune Brae",
}
FIRMS = """Lloyd Morgan Wells Hunt Stone Amber Anchor Summit Harbour Corvan Valmet Kestrel
Brightwater | Storm Cross Falcon Cherry Orinoco Halden | Dell Gale Ridge Vector Cascade Nordlys"""
# How the names of organisations end; "" leaves the bare name of a firm or a place.
ENDINGS = {
    "company": ["", "", "", "Motors", "Foods", "Group", "| Energy", "| Labs"],
    "airline": ["Air", "Airways", "| Airlines"],
    "bank": ["Bank", "Bank", "Trust", "| Savings"],
    "club": ["", "", "Rovers", "United", "City", "| Wanderers", "| Athletic"],
    "council": ["Council", "City Council", "Borough Council", "| County Council"],
    "party": ["Party"],
    "union": ["Union"],
    "court": ["Court", "High Court", "District Court", "| Crown Court"],
    "police": ["Police"],
    "museum": ["Museum", "Gallery", "| Institute"],
    "theatre": ["Theatre", "Opera", "Playhouse", "| Lyceum"],
    "paper": ["Post", "Herald", "Mail", "| Courier"],
    "station": ["Weather Centre", "Observatory", "| Met Office"],
    "university": ["University", "College", "| Academy"],
}
OWN_NAMES = {"party": "Liberal Labour Green Reform Unity | Centre | Alliance",
             "union": "General Workers Trade Unity | Allied | Amalgamated"}  # fmt: skip
MONTHS = "January February March April May June July August September October November December"
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"
NUMBERS = ["two", "three", "four", "five", "six", "seven", "eight", "nine"]
PRONOUNS = {"he": ("he", "she", "PRP"), "him": ("him", "her", "PRP"), "his": ("his", "her", "PRP$")}
NEW = 0.45  # share of names in dev and test that training never shows


class Cast:
    """The names of one document, chosen when they are first needed and kept from then on."""

    def __init__(self, rng: random.Random, split: str, kinds: dict[str, str]) -> None:
        self.rng, self.split, self.kinds = rng, split, kinds
        self._chosen: dict[str, list[str]] = {}
        self._sexes: dict[str, int] = {}
        self._met: set[str] = set()

    def pick(self, choices: str) -> str:
        """Return a word of a list, in dev and test often one that training never shows."""
        known, *held = (part.split() for part in choices.split("|"))
        new = held[("dev", "test").index(self.split)] if held and self.split != "train" else []
        used = {word for words in self._chosen.values() for word in words}
        pool = new if new and self.rng.random() < NEW else known
        return self.rng.choice([word for word in pool if word not in used] or pool)

    def fill(self, slot: str, reader: Reader) -> Node:
        """Return what stands for ``{slot}``: see README.md for the slots that there are."""
        name, _, rest = slot.partition(" ")
        if name == "N":
            return self._number(rest)
        if name[0] == "M":
            return self._money(name, rest)
        if name in ("age", "young"):
            age = f"{self.rng.randint(19, 34 if name == 'young' else 66)}-year-old"
            return Node(age, "JJ", age)
        if name == "X":  # a bare name that is the person or the place
            both = self._once("X", lambda: [self.pick(BOTH)])[0]
            place = reader.coin(0.6, ents=1)
            return mark(Node(both, "NNP"), "LOC" if place else "PER")
        if name == "may":
            return mark(Node(self.rng.choice(["April", "May", "June", "August"]), "NNP"), "PER")
        if name in ("day", "day2", "month", "month2", "year", "later", "date"):
            return self._date(name)
        role, _, form = name.partition(".")
        kind = self.kinds.get(role) or {"P": "person", "L": "town"}[role[0]]
        if kind in PLACES:
            return mark(Node(self._once(role, lambda: [self.pick(PLACES[kind])])[0], "NNP"), "LOC")
        if kind in ENDINGS:
            return self._organisation(role, kind)
        return self._person(role, form, kind)

    def _once(self, role: str, choose: Callable[[], list[str]]) -> list[str]:
        if role not in self._chosen:
            self._chosen[role] = choose()
        return self._chosen[role]

    def _person(self, role: str, form: str, kind: str) -> Node:
        sex = self._sexes.setdefault(role, {"man": 0, "woman": 1}.get(kind, self.rng.randrange(2)))
        if form in PRONOUNS:
            tag = PRONOUNS[form][2]
            lemma = ("he", "she")[sex] if tag == "PRP" else PRONOUNS[form][sex]
            return Node(PRONOUNS[form][sex], tag, lemma)
        first, last = self._once(role, lambda: [self.pick((MEN, WOMEN)[sex]), self.pick(SURNAMES)])
        if role not in self._met or self.rng.random() < 0.1:
            self._met.add(role)
            return mark(Node(first, "NNP").after("flat", Node(last, "NNP")), "PER")
        return mark(Node(last, "NNP"), "PER")

    def _organisation(self, role: str, kind: str) -> Node:
        def choose() -> list[str]:
            held = self.split != "train"
            endings = [e.removeprefix("| ") for e in ENDINGS[kind] if held or e[:1] != "|"]
            ending = self.rng.choice(endings).split()
            if kind in OWN_NAMES:
                return [self.pick(OWN_NAMES[kind]), *ending]
            # A firm has a firm's name, all others that of the document's town.
            if kind in ("company", "bank", "airline"):
                return [self.pick(FIRMS), *ending]
            home = "L2" if role.endswith("2") else "L"
            if self.kinds.get(home, "town") != "town":
                return [self.pick(PLACES["town"]), *ending]
            return [self._once(home, lambda: [self.pick(PLACES["town"])])[0], *ending]

        words = self._once(role, choose)
        name = Node(words[-1], "NNP")
        for word in words[:-1]:
            name.before("compound", Node(word, "NNP"))
        return mark(name, "ORG")

    def _number(self, span: str) -> Node:
        low, _, high = span.partition("-")
        value = self.rng.randint(int(low), int(high))
        step = 100 if value >= 1000 else 10 if value >= 200 else 1
        value = value // step * step
        word = NUMBERS[value - 2] if 2 <= value <= 9 else f"{value:,}"
        return Node(word, "CD", word)

    def _money(self, role: str, span: str) -> Node:
        def choose() -> list[str]:
            bounds, _, unit = span.partition(" ")
            low, _, high = bounds.partition("-")
            value = self.rng.randint(int(low), int(high))
            value = value // 10 * 10 if value >= 200 else value
            if unit == "thousand":
                return [f"{value},000"]
            return [f"{value:,}", *unit.split()]

        return money(*self._once(role, choose))

    def _date(self, name: str) -> Node:
        if name.startswith("day"):
            day = self._once(name, lambda: [self.pick(DAYS)])[0]
            return mark(Node(day, "NNP"), "DATE")
        if name in ("year", "later"):
            years = (1987, 2023) if name == "year" else (2027, 2040)
            return mark(Node(str(self.rng.randint(*years)), "CD"), "DATE")
        role = "month2" if name == "month2" else "month"
        month = Node(self._once(role, lambda: [self.pick(MONTHS)])[0], "NNP")
        if name == "date":
            number = Node(str(self.rng.randint(1, 28)), "CD")
            month.before("nummod", number) if self.rng.random() < 0.5 else month.after(
                "nummod", number
            )
        return mark(month, "DATE")


def money(number: str, unit: str = "") -> Node:
    """Return a sum of dollars, ``$3`` or ``$3 million``, as an entity."""
    amount = Node(number, "CD", number, glued=True)
    if unit:
        amount = Node(unit, "CD").before("compound", amount)
    return mark(Node("$", "$").after("nummod", amount), "MONEY")
