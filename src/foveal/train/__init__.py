"""From rows to weights: thin on TRL, with what it lacks for vision-language models (docs/training.md)."""
