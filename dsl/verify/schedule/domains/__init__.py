"""What the engine computes with: one kind of value a file."""
