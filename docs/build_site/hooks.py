"""What MkDocs calls: adds the pages that are made from the code, and those that live outside ``docs/``.

Generated: ``keys.md`` and ``commands.md``. Shown as they are: ``CONTRIBUTING.md``, ``CHANGELOG.md`` and
``docker/README.md``, whose links into the tree become code, since a site has no tree.
"""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

OUTSIDE = {
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "clusters.md": "docker/README.md",
}
"""Page of the site to the file of the tree that it shows."""

_LINK = re.compile(r"\[([^\]]+)\]\((?!https?:|#|mailto:)([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are not files of ``docs/``."""
    sys.path[:0] = [str(ROOT), str(HERE)]  # here, since MkDocs restores the path after loading this module
    from keys import keys_page
    from verbs import verbs_page

    pages = {"keys.md": keys_page(), "commands.md": verbs_page()}
    pages |= {page: (ROOT / path).read_text() for page, path in OUTSIDE.items()}
    for page, text in pages.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, files: Files, **_: Any) -> str:
    """Lead links to where the site has the file; what it does not have is named in code."""
    return site_links(markdown, page.file.src_uri, {file.src_uri for file in files})


def site_links(markdown: str, page: str, known: set[str]) -> str:
    """Markdown of a page with links that hold on the site."""
    source = OUTSIDE.get(page, f"docs/{page}")
    places = {path: name for name, path in OUTSIDE.items()} | {"README.md": "index.md"}

    def there(match: re.Match[str]) -> str:
        words, target, anchor = match[1], match[2], match[3] or ""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        name = places.get(path) or path.removeprefix("docs/")
        if name in known:
            return f"[{words}]({posixpath.relpath(name, posixpath.dirname(page) or '.')}{anchor})"
        return f"{words} (`{path}`)" if words.strip("`") != path else f"`{path}`"

    return _LINK.sub(there, markdown)
