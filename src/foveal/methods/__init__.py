"""One folder a paper."""
