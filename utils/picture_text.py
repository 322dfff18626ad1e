"""Names in pictures: in fonts of this machine that have their letters; what none has, or what
cannot be seen, is escaped, such as \\u65e5. Nothing in a name is taken for a formula.
"""

import contextlib
import functools
import unicodedata
from collections.abc import Iterable, Iterator

import matplotlib
from matplotlib import font_manager, ft2font
from PIL import Image, ImageDraw, ImageFont

PLAIN = "DejaVu Sans"
# families that have boxes for letters, or other signs in their places
UNFIT = ("last resort", "cmb", "cmex", "cmmi", "cmr", "cmss", "cmsy", "cmtt", "stixsize")
UNSEEN = "\u200b\u200c\u200d\ufe0e\ufe0f\ufeff"  # joiners and selectors


@functools.cache
def plain_font() -> str:
    """Path of the font of all that it has."""
    return font_manager.findfont(PLAIN)


@functools.cache
def _fonts() -> tuple[tuple[str, str], ...]:
    """(path, family) of the usable fonts, the plain one first, upright regular ones before
    the rest.
    """
    found = {}
    for entry in font_manager.fontManager.ttflist:
        if not entry.name.casefold().startswith(UNFIT) and entry.name != "STIXNonUnicode":
            plain = entry.style == "normal" and str(entry.weight) in (
                "400",
                "normal",
                "regular",
            )
            found[str(entry.fname)] = (not plain, str(entry.fname), entry.name)
    ranked = sorted(found.values())
    return ((plain_font(), PLAIN), *((path, family) for _, path, family in ranked))


@functools.lru_cache(maxsize=1024)
def _characters(path: str) -> frozenset[int]:
    """Code points that a font has; none of one that cannot be scaled."""
    with contextlib.suppress(OSError, RuntimeError):
        font = ft2font.FT2Font(path)
        if font.scalable:
            return frozenset(font.get_charmap())
    return frozenset()


@functools.lru_cache(maxsize=4096)
def _font_of(wanted: frozenset[int]) -> tuple[str, str] | None:
    """(path, family) of the first font that has all these code points."""
    for path, family in _fonts():
        if wanted <= _characters(path):
            return path, family
    return None


def font_with(text: str) -> str | None:
    """Path of a font on this machine that has every character of a text, None where there
    is none.
    """
    font = _font_of(frozenset(map(ord, text)))
    return font and font[0]


def shown(text: str) -> str:
    """A text of one line whose characters the fonts of this machine have."""
    return "".join(map(_shown_character, text))


@functools.lru_cache(maxsize=4096)
def _shown_character(character: str) -> str:
    if character in UNSEEN:
        return ""
    if unicodedata.category(character) == "Zs":
        return " "
    if character.isprintable() and _font_of(frozenset([ord(character)])):
        return character
    return (
        character.encode("ascii", "backslashreplace").decode() if ord(character) > 31 else " "
    )


def pieces(text: str) -> list[tuple[str, str]]:
    """The shown text as (part, path of its font) one after the other: one part where a font
    has all of it.
    """
    text = shown(text)
    whole = font_with(text)
    if whole:
        return [(text, whole)]
    parts: list[tuple[str, str]] = []
    for character in text:
        path = parts[-1][1] if parts else plain_font()
        if ord(character) not in _characters(path):
            path = font_with(character) or plain_font()
        if parts and parts[-1][1] == path:
            parts[-1] = (parts[-1][0] + character, path)
        else:
            parts.append((character, path))
    return parts


@functools.lru_cache(maxsize=64)
def _scaled(path, size):
    return ImageFont.truetype(path, size)


def text_width(text: str, size: int) -> float:
    """Pixels that draw_text needs."""
    return sum(_scaled(path, size).getlength(part) for part, path in pieces(text))


def draw_text(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    color: tuple[int, int, int] | str,
    size: int,
    anchor: str = "la",
) -> float:
    """Draw a name with Pillow -> x of its end. place: of its left end, see Pillow's anchors."""
    x, y = place
    for part, path in pieces(text):
        font = _scaled(path, size)
        draw.text((x, y), part, color, font, anchor)
        x += font.getlength(part)
    return x


def text_picture(text: str, size: int, color: tuple[int, int, int], margin: int = 3):
    """PIL image of a name in black on a ground of this color."""
    boxes = [_scaled(path, size).getbbox(part, anchor="ls") for part, path in pieces(text)]
    top, bottom = min((b[1] for b in boxes), default=0), max((b[3] for b in boxes), default=0)
    width = round(text_width(text, size)) + 2 * margin
    image = Image.new("RGB", (width, max(bottom - top, size) + 2 * margin), color)
    draw_text(ImageDraw.Draw(image), (margin, margin - top), text, (0, 0, 0), size, "ls")
    return image


def label(text: str, most: int = 1000) -> str:
    """A name for matplotlib, which would take what stands between dollars for a formula; of
    one longer than `most` characters both ends.
    """
    text = shown(text)
    if len(text) > most:
        text = f"{text[: most - 11]}…{text[-10:]}"
    return text.replace("$", r"\$")


def lines(text: str) -> str:
    """label() of a text of several lines."""
    return "\n".join(map(label, text.split("\n")))


@contextlib.contextmanager
def fonts_for(texts: Iterable[str]) -> Iterator[None]:
    """Inside, what matplotlib draws may have the characters of these texts. Where the plain
    font has them all, nothing changes.
    """
    families = {}
    for character in sorted(set(shown("".join(texts)))):
        font = _font_of(frozenset([ord(character)]))
        if font and font[1] != PLAIN:
            families[font[1]] = None
    more = {"font.family": [PLAIN, *families]} if families else {}
    with matplotlib.rc_context(more):
        yield
