"""The record that every reader makes and every consumer takes."""

from collections.abc import Mapping
from dataclasses import dataclass, field

Span = tuple[int, int, str]

# Layers that a further annotation file can bring to the same words.
LAYERS = ("tags", "pos", "lemmas", "heads", "deps", "ents", "cats")
_A_VALUE_A_WORD = ("spaces", "tags", "pos", "lemmas", "heads", "deps")


@dataclass(frozen=True)
class Sentence:
    """One annotated sentence; a layer that was not annotated is ``None``.

    Attributes:
        words: The tokens.
        spaces: Whether a space follows each token.
        tags: Fine-grained part of speech (the treebank's own; UPOS where it has none).
        pos: Coarse part of speech (UPOS).
        lemmas: Base forms.
        heads: Index of each token's head within the sentence, from 0; a root is its own head.
        deps: Dependency labels; a root's is ``"ROOT"``, as in spaCy.
        ents: Entities as ``(start, end, label)`` in tokens, end exclusive, in order.
        cats: Text categories and their values.
        sent_id: The corpus' own name of the sentence.
        doc_id: The corpus' own name of the document that the sentence is from.

    Raises:
        ValueError: a layer's length is not that of ``words``, or an entity lies outside.
    """

    words: tuple[str, ...]
    spaces: tuple[bool, ...]
    tags: tuple[str, ...] | None = None
    pos: tuple[str, ...] | None = None
    lemmas: tuple[str, ...] | None = None
    heads: tuple[int, ...] | None = None
    deps: tuple[str, ...] | None = None
    ents: tuple[Span, ...] | None = None
    cats: Mapping[str, float] | None = field(default=None, hash=False)
    sent_id: str | None = None
    doc_id: str | None = None

    def __post_init__(self) -> None:
        n = len(self.words)
        wrong = [
            f"{name} has {len(values)}"
            for name in _A_VALUE_A_WORD
            if (values := getattr(self, name)) is not None and len(values) != n
        ]
        wrong += [f"head {head} is outside" for head in self.heads or () if not 0 <= head < n]
        end = 0
        for start, stop, label in self.ents or ():
            if not end <= start < stop <= n:
                wrong.append(f"entity ({start}, {stop}, {label}) is empty, overlaps or is outside")
            end = stop
        if wrong or not n:
            problem = "; ".join(wrong) or "it needs at least one"
            raise ValueError(
                f"Sentence {self.sent_id or ' '.join(self.words)[:40]!r} has {n} words, "
                f"but {problem}. Give every layer one value a word, or None."
            )

    @property
    def text(self) -> str:
        """The words with their spaces, without the last one's."""
        pairs = zip(self.words, self.spaces, strict=True)
        return "".join(word + " " * space for word, space in pairs).rstrip(" ")
