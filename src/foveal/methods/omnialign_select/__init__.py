"""Selection of pictures by OmniAlign-V (2502.18411)."""
