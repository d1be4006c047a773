"""Faithful captions (a pipeline of MM-INF, 2503.08741)."""
