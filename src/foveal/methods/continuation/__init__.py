"""Continuation of conversations, as Oasis (2503.08741) begins them."""
