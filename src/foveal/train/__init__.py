"""Training on what was made: losses, rewards and verbs, thin on TRL."""
