"""trfnb beside its peers: speed, memory, start-up and growth, each peer in its own environment."""
