"""Agentic kernel optimisation: a tile language, proofs, bounds, an honest harness and a memory."""
