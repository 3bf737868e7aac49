"""Text of others on terminals: names of files, headers and messages may steer a terminal, or mislead a reader.

All that a user reads passes through `visible`; files that others read later hold no such characters either.
"""

from __future__ import annotations

import io
import re
from typing import Any, TextIO

# Controls but for tabs and ends of lines; what is not seen, or turns the direction of writing; halves of characters.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    r"""The text with each character that steers a terminal, or is not seen, as Python writes it: ``\x1b``."""
    return _HIDDEN.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode(), text)


class VisibleStream(io.TextIOWrapper):
    """Writes text as `visible`, whoever prints it; `as_is` writes to the same file what draws on a terminal."""

    def __init__(self, buffer: Any, encoding: str) -> None:
        # What a locale has no letters for is no cause of errors either.
        super().__init__(buffer, encoding, "backslashreplace", line_buffering=True)
        self.as_is = io.TextIOWrapper(buffer, encoding, "backslashreplace", line_buffering=True)

    def write(self, text: str) -> int:
        """Write text."""
        super().write(visible(text))
        return len(text)


def drawn_on(file: TextIO) -> TextIO:
    """Where to draw what is shown on a terminal in place of a file."""
    return file.as_is if isinstance(file, VisibleStream) else file
