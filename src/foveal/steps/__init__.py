"""Verbs that methods share."""
