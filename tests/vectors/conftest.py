"""Register what the tests name in configs, entry points or not."""

import trfnb.vectors.embed
import trfnb.vectors.store  # noqa: F401
