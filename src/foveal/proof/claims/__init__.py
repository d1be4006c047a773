"""The claims: a file each, with a `CLAIM` (see docs/proof.md). They are found by looking into this folder."""
