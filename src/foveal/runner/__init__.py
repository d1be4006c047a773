"""Carrying records through steps, on this machine."""
