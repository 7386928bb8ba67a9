"""Further annotation of the same sentences, joined by ``sent_id``."""

from collections.abc import Iterable
from dataclasses import replace

from trfnb.corpora.errors import CorpusError, Problems
from trfnb.corpora.sentence import LAYERS, Sentence


def join_layer(
    sentences: Iterable[Sentence],
    layer: Iterable[Sentence],
    name: str,
    problems: Problems,
) -> list[Sentence]:
    """Fill layers that the sentences lack from another reading of them.

    Args:
        sentences: What to annotate further; what they have already stays.
        layer: Sentences with the same ``sent_id`` and words, in any order.
        name: The layer's name, for messages.
        problems: What to do with a sentence that the layer lacks or that has other words there.

    Raises:
        CorpusError: the layer or the sentences have no ids, no id is common to both, or, unless
            ``problems`` skips them, a sentence has no partner.
    """
    base = list(sentences)
    index = {s.sent_id: s for s in layer if s.sent_id is not None}
    if base and not any(s.sent_id in index for s in base):
        raise CorpusError(
            name,
            expected="a layer with the sent_id of the sentences to annotate",
            got=f"{len(index)} sentences with a sent_id, none of them among those",
            hint="Give both files '# sent_id = …' lines of the same corpus",
        )
    joined: list[Sentence] = []
    for sentence in base:
        other = index.get(sentence.sent_id) if sentence.sent_id is not None else None
        if other is None or other.words != sentence.words:
            problems.meet(_mismatch(sentence, other, name))
        else:
            news = {
                key: getattr(other, key)
                for key in LAYERS
                if getattr(sentence, key) is None and getattr(other, key) is not None
            }
            joined.append(replace(sentence, **news))
    return joined


def _mismatch(sentence: Sentence, other: Sentence | None, name: str) -> CorpusError:
    hint = 'Use matching releases, or pass on_mismatch="skip" to leave such sentences out'
    if other is None:
        return CorpusError(
            name,
            expected=f"the sentence {sentence.sent_id!r}",
            got="no sentence of that sent_id",
            hint=hint,
            reason=f"not in layer {name}",
        )
    pairs = zip(sentence.words, other.words, strict=False)
    length = min(len(sentence.words), len(other.words))
    at = next((i for i, (a, b) in enumerate(pairs) if a != b), length)
    return CorpusError(
        name,
        expected=f"in {sentence.sent_id!r} from word {at + 1} on {sentence.words[at : at + 4]}",
        got=f"{other.words[at : at + 4]}",
        hint=hint,
        reason=f"tokens differ in layer {name}",
    )
