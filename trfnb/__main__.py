"""``python -m trfnb``."""

import sys

from trfnb.cli import main

sys.exit(main())
