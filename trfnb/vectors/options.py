"""How to convert a table; checked before anything is loaded."""

from dataclasses import dataclass

from trfnb.vectors.report import VectorsError

DTYPES = ("float32", "float16", "int8")


@dataclass(frozen=True)
class Options:
    """How to convert; see `convert`."""

    limit: int | None = None
    lower: bool = False
    normalise: bool = False
    dtype: str = "float32"
    width: int | None = None
    attr: str = "ORTH"
    lang: str = "en"
    name: str = "trfnb.vectors"

    def check(self) -> None:
        """Raise `VectorsError` with everything that is wrong."""
        wrong = []
        if self.dtype not in DTYPES:
            wrong.append(f"dtype: expected one of {', '.join(DTYPES)}, got {self.dtype!r}")
        if self.limit is not None and self.limit < 1:
            wrong.append(f"limit: expected at least 1, got {self.limit}")
        if self.width is not None and self.width < 1:
            wrong.append(f"width: expected at least 1, got {self.width}")
        if self.attr not in ("ORTH", "LOWER", "NORM", "LEMMA", "SHAPE", "PREFIX", "SUFFIX"):
            wrong.append(f"attr: expected a token attribute such as ORTH, got {self.attr!r}")
        if wrong:
            raise VectorsError("Cannot convert: " + "; ".join(wrong) + ".")
