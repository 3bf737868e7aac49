"""Reports of runs, for tests."""

import json
import re
from html.parser import HTMLParser


class Here:
    """Stages that do all tiles in this process."""

    def map_tiles(self, function, tiles, _):
        return {tile: function(tile) for tile in tiles}


def page_of(run):
    return run.files.report.read_text(encoding="utf-8")


def data_of(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL).group(1))


class Parsed(HTMLParser):
    """Elements, and the text of each kind."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.texts, self.open = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    @property
    def content(self):
        return " ".join(" ".join(text for tag, text in self.texts if tag not in ("script", "style")).split())
