"""Static vectors: convert, prune, inspect, embed, distil."""
