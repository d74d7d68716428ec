"""What the engine says of what it does not know."""


class Unmodelled(Exception):
    """Something that the engine does not know; the text names it. Never a pass."""
