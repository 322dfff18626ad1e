"""Words for people: numbers with their nouns."""


def many(count: int, noun: str) -> str:
    """ "1 video", "3 videos"; "2 boxes" of "box"."""
    plural = f"{noun}es" if noun.endswith("x") else f"{noun}s"
    return f"{count} {noun if count == 1 else plural}"
