"""Build pipelines, train them, measure what they cost and gain."""
