"""What happens when pretraining cannot start, or must not go on."""

from collections.abc import Sequence


class PretrainingError(ValueError):
    """Input or settings that cannot be used.

    Args:
        problems: Each names the object, what was expected, what was found, and what to do.
    """

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__(
            problems[0] if len(problems) == 1 else "Cannot pretrain:\n- " + "\n- ".join(problems)
        )


def refuse(problems: Sequence[str]) -> None:
    """Raise all problems at once, if there are any."""
    if problems:
        raise PretrainingError(*problems)
