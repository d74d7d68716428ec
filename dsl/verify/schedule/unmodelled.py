"""What the engine says of what it does not know."""


class Unmodelled(Exception):
    """Something that the engine does not know; the text names it. Never a pass."""


class OutsideArray(LookupError):
    """An index array is read where it has no element."""

    def __init__(self, array: str, at: tuple[int, ...]) -> None:
        super().__init__(f"{array}{list(at)} is read, which lies outside of the array")
        self.array, self.at = array, at
