from collections.abc import Callable
from pathlib import Path

import pytest

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file under tmp_path; spaces within CoNLL-U rows are tabs there."""

    def _write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
        return path

    return _write


def conllu(*rows: str, comments: str = "") -> str:
    """One sentence from ``"ID FORM UPOS XPOS HEAD DEPREL [MISC]"`` rows."""
    lines = [comments] if comments else []
    for row in rows:
        word_id, form, upos, xpos, head, dep, *misc = row.split()
        lines.append(
            "\t".join([word_id, form, "_", upos, xpos, "_", head, dep, "_", *(misc or ["_"])])
        )
    return "\n".join(lines) + "\n\n"


GOOD = conllu(
    "1 Rose PROPN NNP 2 nsubj", "2 rose VERB VBD 0 root SpaceAfter=No", "3 . PUNCT . 2 punct"
)
