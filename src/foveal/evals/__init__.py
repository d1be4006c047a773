"""Evaluation: a source of questions with known answers, a model that answers in a run, and a scorer that is pure."""
