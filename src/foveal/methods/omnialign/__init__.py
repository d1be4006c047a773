"""OmniAlign-V (2502.18411)."""
