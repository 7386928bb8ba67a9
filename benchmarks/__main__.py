"""Everything beside the peers: ``python -m benchmarks [--quick] [--only PART …]``."""

from .speed.command import main

if __name__ == "__main__":
    main()
