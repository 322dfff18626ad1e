"""Names in pictures: in a font that has them, or escaped; dollars are dollars."""

import io
import shlex
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from claus.steps.run_state import data_of, flag, flags_of
from claus.utils import overlays, picture_text
from claus.utils.cluster_plot import draw_clusters

HOSTILE = (
    *(
        "$x$",
        "$\\frac{$",
        "a$b",
        r"a\$b$",
        "日本",
        "العربية",
        "e\u0301",
        "👍🏽",
        "a\u202eb",
        "_x",
    ),
    *("\ue000", "a\nb", "𝔘", "हिन्दी", "x" * 300, "% & # {", ""),
)


@pytest.fixture
def one_font(monkeypatch):
    """A machine with the plain font alone."""
    plain = picture_text._fonts()[:1]
    monkeypatch.setattr(picture_text, "_fonts", lambda: plain)
    for cached in (picture_text._shown_character, picture_text._font_of):
        cached.cache_clear()
    yield
    for cached in (picture_text._shown_character, picture_text._font_of):
        cached.cache_clear()


def test_what_no_font_has_is_escaped(one_font):
    assert picture_text.shown("走 a\u202fb") == r"\u8d70 a b"
    assert picture_text.shown("a\u202eb\U0001f44d") == r"a\u202eb\U0001f44d"
    assert picture_text.pieces("é Ж 走") == [(r"é Ж \u8d70", picture_text.plain_font())]


def test_boxes_are_no_letters():
    """Matplotlib brings a font that has a box for every character of the world."""
    assert picture_text.font_with("\ue123\U000e0041") is None
    families = {family for _, family in picture_text._fonts()}
    assert "DejaVu Sans" in families and not any("Last Resort" in name for name in families)


def test_parts_of_a_name_come_from_several_fonts(monkeypatch):
    fonts = (("latin.ttf", "Latin"), ("other.ttf", "Other"))
    have = {"latin.ttf": frozenset(map(ord, "ab ")), "other.ttf": frozenset(map(ord, "走る"))}
    monkeypatch.setattr(picture_text, "_fonts", lambda: fonts)
    monkeypatch.setattr(picture_text, "_characters", lambda path: have.get(path, frozenset()))
    monkeypatch.setattr(picture_text, "plain_font", lambda: "latin.ttf")
    for cached in (picture_text._shown_character, picture_text._font_of):
        cached.cache_clear()
    expected = [("a ", "latin.ttf"), ("走る", "other.ttf"), ("b", "latin.ttf")]
    assert picture_text.pieces("a 走るb") == expected
    with picture_text.fonts_for(["走"]):
        assert picture_text.matplotlib.rcParams["font.family"] == ["DejaVu Sans", "Other"]
    for cached in (picture_text._shown_character, picture_text._font_of):
        cached.cache_clear()


def test_dollars_are_drawn_as_they_are():
    def drawn(text, **more):
        figure = Figure(figsize=(3, 1))
        figure.text(0.1, 0.5, text, **more)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="rgba")
        return buffer.getvalue()

    for name in ("$x$", "a$b", "$\\frac{$", "$$", "pay $5, get $6"):
        assert drawn(picture_text.label(name)) == drawn(name, parse_math=False), name


def test_hostile_names_are_in_every_picture(tmp_path):
    """No error, no warning of a missing glyph, and something to see."""
    names = [*HOSTILE[:-1], "plain"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        n = len(names)
        overlays.confusion_chart(np.arange(n), np.arange(n), names, "title $x$ 日本")
        overlays.class_chart(names, [("f", np.ones(n))], "title $\\x$")
        latents, some = np.random.default_rng(0).random((4, 3)), np.arange(4) == 1
        centers = latents[:2]
        path = tmp_path / "clusters.png"
        draw_clusters(path, latents, np.zeros(4, int), centers, some, some, "run $x$ 走")
    assert path.exists()
    for name in names:
        bar = overlays.text_bar([("name ", (255, 0, 0)), (name, (255, 255, 255))], 400, 20)
        assert (bar[:, 60:].max(axis=2) > 100).any(), name
        assert np.asarray(picture_text.text_picture(name, 14, (250, 250, 0))).min() < 120, name
    assert isinstance(picture_text.text_picture("", 14, (0, 0, 0)), Image.Image)


@pytest.mark.parametrize("name", ["my run", "a'b", "$(x)", "-x", "a;b", "日本", "a b/c"])
def test_printed_commands_can_be_pasted(name):
    source = SimpleNamespace(dataset="ucf101", data=f"{name}/videos")
    settings = SimpleNamespace(run=name, files=f"{name} files", source=source)
    words = shlex.split(flags_of(settings, 2) + data_of(source) + " " + flag("answers", name))
    words = [word for part in words for word in part.split("=", 1)]
    assert words == [
        *("--run", name, "--cycle", "2", "--files", f"{name} files"),
        *("--data", f"{name}/videos", "--answers", name),
    ]
