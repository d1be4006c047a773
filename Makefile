# Pictures to data to trained models to measured change: docs/proof.md. Both make .venv first.
.PHONY: proof proof-smoke

proof-smoke:
	scripts/proof --smoke

proof:
	scripts/proof --write docs/proof.md
