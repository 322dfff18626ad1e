"""PyAV, imported when it is first used, so that what decodes no video file runs without it:
folders of numbered images, and a network on a rented machine.
"""

import importlib

from claus.utils.runtime import UserError


class _Library:
    """The module `av`. UserError at the first use where it is not installed."""

    def __getattr__(self, name):
        try:
            library = importlib.import_module("av")
            for part in ("stream", "video.reformatter"):  # not imported by av itself
                importlib.import_module(f"av.{part}")
        except ImportError as error:
            raise UserError(
                f"PyAV cannot be imported ({error}); pip install av. Without it only folders "
                "of numbered images are read"
            ) from error
        value = getattr(library, name)
        setattr(self, name, value)  # the next time without this function
        return value


av = _Library()


def decoder_versions() -> dict[str, tuple[int, ...]]:
    """Versions of FFmpeg's libraries, for the keys of what is kept of videos; {} without PyAV."""
    try:
        return av.library_versions
    except UserError:
        return {}
