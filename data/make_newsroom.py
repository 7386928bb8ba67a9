"""Make the newsroom corpus: ``python data/make_newsroom.py [FOLDER]``; ``--report`` measures it.

Stories come from newsroom_stories.txt, where each is written out, and from newsroom_plots.txt,
whose slots and alternatives are filled by chance. The same files and seed make the same bytes,
which a test checks.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from newsroom_cast import Cast
from newsroom_checks import check
from newsroom_notation import NotationError, Reader
from newsroom_report import report
from newsroom_trees import Node, rows, text

SEED = 20
SENTENCES = {"test": 400, "dev": 400, "train": 1800}
CATEGORIES = ("politics", "business", "sport", "culture", "courts", "weather")
OWN = 0.5  # share of dev and test stories whose plot training never shows
HEADLINE, OPTIONAL, COMMON = 0.35, 0.45, 0.55  # how often a story has such a sentence
REPORTED = 0.12  # how often a statement is put into somebody's mouth
SOURCES = {
    "politics": ["Officials", "Aides"], "business": ["Analysts", "Traders"],
    "sport": ["Reporters", "Officials"], "culture": ["Friends", "Reporters"],
    "courts": ["Police", "Lawyers"], "weather": ["Officials", "Residents"],
}  # fmt: skip
SHORTEST, LONGEST = 4, 8

# An annotator's slips: this share of these tags becomes the other.
SLIP = 0.01
SLIPS = {"NN": "VB", "VBD": "VBN", "VBN": "VBD", "JJ": "NN", "NNS": "VBZ", "VBZ": "NNS", "RB": "JJ"}
CATEGORY_SLIP = 0.02


@dataclass
class Story:
    """A story, a plot, or sentences that fit several plots (split ``any``, plots by name).

    A step is its mark (``-``, ``?`` or ``!``) and its alternatives.
    """

    split: str
    categories: tuple[str, ...]
    names: frozenset[str]
    kinds: dict[str, str] = field(default_factory=dict)
    steps: list[tuple[str, list[str]]] = field(default_factory=list)


def read_stories(name: str) -> list[Story]:
    """Return the stories of a file in the notation that README.md describes."""
    stories: list[Story] = []
    for line in Path(__file__).with_name(name).read_text(encoding="utf-8").split("\n"):
        sign, _, rest = line.partition(" ")
        if sign == "==":
            split, *words = rest.split()
            categories = tuple(word for word in words if word in CATEGORIES)
            names = frozenset(words) - frozenset(CATEGORIES)
            stories.append(Story(split, categories, names))
        elif sign == "/":
            stories[-1].steps[-1][1].append(rest)
        elif sign in ("-", "?", "!"):
            stories[-1].steps.append((sign, [rest if sign != "!" else line]))
        elif sign and sign != "#":
            stories[-1].kinds.update(pair.split("=") for pair in line.split())
    return stories


class Maker:
    """Writes the splits one after another, so that no sentence is written twice."""

    def __init__(self) -> None:
        self.stories = read_stories("newsroom_stories.txt")
        plots = read_stories("newsroom_plots.txt")
        self.plots = [plot for plot in plots if plot.split != "any"]
        self.common = [plot for plot in plots if plot.split == "any"]
        self.lost: dict[str, Counter[str]] = {split: Counter() for split in SENTENCES}
        self.seen: set[str] = set()

    def split(self, split: str) -> str:
        """Return a split as CoNLL-U."""
        rng = random.Random(f"{SEED} {split}")
        written = [story for story in self.stories if story.split == split]
        total = sum(len(story.steps) for story in written)
        docs = [self._tell(story, story.categories[0], rng, split) for story in written]
        counts = Counter[str]()
        for story, doc in zip(written, docs, strict=True):
            counts[story.categories[0]] += len(doc)
        decks: dict[tuple[str, str], list[Story]] = {}
        while total < SENTENCES[split]:
            category = min(CATEGORIES, key=lambda name: counts[name])
            source = split if split != "train" and rng.random() < OWN else "train"
            deck = decks.setdefault((category, source), [])
            if not deck:
                deck += [p for p in self.plots if p.categories[0] == category and p.split == source]
                rng.shuffle(deck)
            doc = self._tell(deck.pop(), category, rng, split)
            counts[category] += len(doc)
            total += len(doc)
            docs.append(doc)
        rng.shuffle(docs)
        return "".join(
            self._format(doc, f"{split}-{i}", rng) for i, doc in enumerate(docs, start=1)
        )

    def _tell(
        self, story: Story, category: str, rng: random.Random, split: str
    ) -> list[tuple[Node, str]]:
        """Return a story's sentences, each with its category."""
        reader = Reader(rng, Cast(rng, split, story.kinds))
        shares = {"-": 1.0, "?": OPTIONAL, "!": HEADLINE}
        steps = [s for s in story.steps if shares[s[0]] == 1 or rng.random() < shares[s[0]]]
        left_out = [s for s in story.steps if s not in steps and s[0] == "?"]
        while len(steps) < SHORTEST and left_out:
            steps.append(left_out.pop(0))
        steps = [s for s in story.steps if s in steps]
        doc: list[tuple[Node, str]] = []
        for number, (_, frames) in enumerate(steps):
            # A lead tells the news itself, and so does what is written out.
            if number > 1 and story.split in ("train", "dev", "test") and len(frames) > 1:
                frames = [
                    reader.report(frame, SOURCES[category]) if rng.random() < REPORTED else frame
                    for frame in frames
                ]
            if tree := self._write(reader, frames, split):
                doc.append((tree, category))
        common = [
            (frames, plot)
            for plot in self.common
            if category in plot.categories and (not plot.names or plot.names & story.names)
            for _, frames in plot.steps
        ]
        for _ in range(2 if story.names else 0):  # what is written out is left alone
            if len(doc) < SHORTEST or (len(doc) < LONGEST and rng.random() < COMMON):
                frames, plot = rng.choice(common)
                if tree := self._write(reader, frames, split):
                    doc.insert(-1, (tree, category))
                    self.lost[split]["cats"] += 1 - 1 / len(plot.categories)
        return doc

    def _write(self, reader: Reader, frames: list[str], split: str) -> Node | None:
        """Return a sentence that is not there yet, or nothing if chance finds none."""
        for _ in range(20):
            frame = reader.rng.choice(frames)
            tree = reader.sentence(frame)
            if text(tree) not in self.seen:
                self.seen.add(text(tree))
                self.lost[split].update(reader.lost)
                if fault := check(tree):
                    raise NotationError(f"{fault} in {text(tree)!r}, from {frame!r}")
                return tree
        return None

    def _format(self, doc: list[tuple[Node, str]], name: str, rng: random.Random) -> str:
        lost = self.lost[name.partition("-")[0]]
        blocks = []
        for number, (tree, category) in enumerate(doc, start=1):
            label = category
            if rng.random() < CATEGORY_SLIP:
                label = rng.choice([c for c in CATEGORIES if c != category])
            lost["cats"] += CATEGORY_SLIP
            _slip(tree, rng, lost)
            head = [f"# newdoc id = {name}"] if number == 1 else []
            head += [f"# sent_id = {name}-{number}", f"# category = {label}"]
            blocks.append("\n".join([*head, f"# text = {text(tree)}", *rows(tree)]) + "\n\n")
        return "".join(blocks)


def _slip(tree: Node, rng: random.Random, lost: Counter[str]) -> None:
    for word in tree.words():
        if word.tag in SLIPS:
            lost["tags"] += SLIP
            if rng.random() < SLIP:
                # The coarse tag stays what it is, so that it does not give the slip away.
                word.tag = SLIPS[word.tag]


def make() -> tuple[dict[str, str], dict[str, Counter[str]]]:
    """Return the splits as CoNLL-U, and how many answers their coins make unknowable, by layer."""
    maker = Maker()
    return {split: maker.split(split) for split in SENTENCES}, maker.lost


def main() -> None:
    """Write all splits, or print their difficulty."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent / "newsroom")
    parser.add_argument("--report", action="store_true", help="print the difficulty, write nothing")
    arguments = parser.parse_args()
    splits, lost = make()
    if arguments.report:
        print(report(splits, lost))
        return
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for split, conllu in splits.items():
        path = arguments.folder / f"newsroom-{split}.conllu"
        path.write_text(conllu, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
