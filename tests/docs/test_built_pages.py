"""The pages as they were built: `make docs` comes before."""

import re
from html import unescape
from pathlib import Path

BUILT = Path(__file__).parents[2] / "docs" / "_build" / "html"
LOADED = re.compile(r'<(?:script|img|iframe|source)\b[^>]*\bsrc="([^"]*)"|<link\b[^>]*\bhref="([^"]*)"')


def test_they_load_nothing_from_elsewhere():
    pages = sorted(BUILT.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        for found in LOADED.findall(page.read_text(encoding="utf-8")):
            assert not re.match(r"(https?:)?//", "".join(found)), (page.name, found)


def test_formulas_are_mathml():
    page = (BUILT / "algorithm.html").read_text(encoding="utf-8")
    assert page.count("<math") > 30
    assert "\\frac" not in page


def test_settings_are_listed_with_kind_default_and_option():
    page = (BUILT / "settings.html").read_text(encoding="utf-8")
    words = " ".join(unescape(re.sub(r"<[^>]*>", " ", page)).split())
    for entry in (
        "n_scale int ; default 2 ; --n-scale Number of scales.",
        'tile_size int or "auto" ; default auto ; --tile-size Side of a tile\'s core in pixels.',
        "memory_target int ; default 1GiB ; --memory-target ",
    ):
        assert entry in words, entry


def test_every_command_has_its_section():
    from cwt_dask.cli.commands import cli

    page = (BUILT / "cli.html").read_text(encoding="utf-8")
    assert all(f'id="cwt-dask-{name}"' in page for name in cli.commands)
