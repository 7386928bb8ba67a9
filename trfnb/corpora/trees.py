"""Is a list of heads a tree?"""

from collections.abc import Sequence


def tree_fault(heads: Sequence[int]) -> str | None:
    """Return what keeps heads from forming one rooted tree, or ``None`` if they do.

    Args:
        heads: Index of each token's head, from 0; a root is its own head. All within range.
    """
    roots = [i for i, head in enumerate(heads) if head == i]
    if not roots:
        return "no root"
    if len(roots) > 1:
        return f"{len(roots)} roots (words {', '.join(str(r + 1) for r in roots)})"
    reaches = {roots[0]}
    for i in range(len(heads)):
        path: list[int] = []
        while i not in reaches:
            if i in path:
                return f"a cycle through words {', '.join(str(p + 1) for p in path)}"
            path.append(i)
            i = heads[i]
        reaches.update(path)
    return None
