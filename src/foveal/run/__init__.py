"""Mapping shards."""
