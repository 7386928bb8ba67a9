"""Keep the memory of large activations between passes, where glibc would hand it back each time."""

import ctypes
import platform
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# The largest that glibc takes, and how much free memory it may keep at the top of its heap.
_LARGEST, _KEPT = 32 * 2**20, 256 * 2**20


@cache
def keep_pages() -> bool:
    """Ask glibc to serve arrays of up to 32 MB from its heap; return whether it agreed.

    Such an array otherwise comes fresh from the system at every pass, and each of its pages costs
    a fault when it is first written: up to a fifth of a training step in half precision.
    Other C libraries are left as they are.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(_MMAP_THRESHOLD, _LARGEST) and libc.mallopt(_TRIM_THRESHOLD, _KEPT))


def give_back() -> None:
    """Return freed memory to the system: batches of many shapes leave holes in glibc's heap."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
