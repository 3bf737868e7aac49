"""What a package index shows has links of its own: README's are made absolute, and the project's addresses are named.

python address.py SOURCE REPOSITORY, of a copy of what is built and where the project is, such as https://host/owner/name.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!\w+:|#)([^)]+)\)")


def main(source: Path, repository: str) -> None:
    """Change README.md and pyproject.toml of a copy.

    Parameters
    ----------
    source : Path
        The copy.
    repository : str
        The project's address.
    """
    project = source / "pyproject.toml"
    at = f"v{tomllib.loads(project.read_text(encoding='utf-8'))['project']['version']}"

    def absolute(link: re.Match[str]) -> str:
        kind, text, path = link.groups()
        return f"{kind}[{text}]({repository}/{'raw' if kind else 'blob'}/{at}/{path})"

    readme = source / "README.md"
    readme.write_text(_LINK.sub(absolute, readme.read_text(encoding="utf-8")), encoding="utf-8")
    urls = f'Source = "{repository}"\nDocumentation = "{repository}/tree/{at}/docs"\n'
    urls += f'Changelog = "{repository}/blob/{at}/CHANGELOG.md"\n'
    with project.open("a", encoding="utf-8") as file:
        file.write(f"\n[project.urls]\n{urls}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2].rstrip("/"))
