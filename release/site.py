"""The documentation as a site (``make site``): pages in ``build/pages``, built strictly into ``build/site``.

A link that leads nowhere, or to a heading that is not there, ends the build; so does anything that a reader's browser
would load from elsewhere.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from release.manual import markdown

ROOT = Path(__file__).parents[1]
SETTINGS = ROOT / "zensical.toml"
#: Pages that are not in ``docs``: where GitHub looks for them.
AT_THE_TOP = ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
#: What a page loads by itself, from another host. A link that a person follows is none of it.
_LOADED = re.compile(
    r"<(?:script|img|iframe|source|link(?=[^>]*rel=[\"']?(?:stylesheet|preconnect|preload|icon)))[^>]*"
    r"(?:src|href)=[\"']?(?:https?:)?//[^\"' >]+"
)
_LOADED_BY_STYLE = re.compile(r"(?:url\(|@import )[\"']?(?:https?:)?//[^\"') ]+")
#: A diagram for which the theme would load a library from elsewhere.
_DIAGRAM = 'class="mermaid"'


class SiteError(Exception):
    """The site can't be built as it has to be."""


def put_together(folder: Path) -> None:
    """Fill a folder, which is made again, with all pages: those of docs, those at the top, and the reference."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "docs", folder)
    for name in AT_THE_TOP:
        text = (ROOT / name).read_text("utf-8").replace("](docs/", "](")
        text = text.replace("```mermaid", "```text")  # drawn on GitHub; here its library would come from elsewhere
        text = text.replace("](adr/)", "](adr/0001-httpx2-own-transport.md)")
        (folder / ("index.md" if name == "README.md" else name)).write_text(text, "utf-8")
    (folder / "commands.md").write_text(markdown(), "utf-8")


def navigated(nav: Any) -> list[str]:
    """List the pages of a navigation."""
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav
    return [page for part in parts for page in navigated(part)]


def pages_left_out(folder: Path) -> list[str]:
    """List the pages that nobody finds: all that are not in the navigation. Decision records are found by links."""
    listed = navigated(tomllib.loads(SETTINGS.read_text("utf-8"))["project"]["nav"])
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*.md")}
    return sorted(page for page in there - set(listed) if not page.startswith(("adr/", "samples/")))


def loaded_from_elsewhere(site: Path) -> list[str]:
    """List what a reader's browser would load from another host."""
    found = []
    for path in sorted(site.rglob("*")):
        if path.suffix in {".html", ".css"}:
            text = path.read_text("utf-8")
            here = _LOADED.findall(text) + (_LOADED_BY_STYLE.findall(text) if path.suffix == ".css" else [])
            here += [_DIAGRAM] if _DIAGRAM in text else []
            found += [f"{path.relative_to(site)}: {one}" for one in here]
    return found


def build(work: Path = ROOT / "build") -> Path:
    """Build the site below a folder and return its own.

    Raises:
        SiteError: a link leads nowhere, a page is in no navigation, or something would be loaded from elsewhere.
    """
    pages, site = work / "pages", work / "site"
    put_together(pages)
    if left_out := pages_left_out(pages):
        raise SiteError(f"Not in the navigation of {SETTINGS.name}: {', '.join(left_out)}.")
    settings = work / SETTINGS.name  # folders in it are meant from where it is
    settings.write_text(SETTINGS.read_text("utf-8").replace('"build/', '"'), "utf-8")
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "--config-file", str(settings)]
    done = subprocess.run(command, cwd=work, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SiteError(done.stdout + done.stderr)
    if elsewhere := loaded_from_elsewhere(site):
        raise SiteError("Loaded from elsewhere: " + "; ".join(elsewhere))
    return site


def main() -> int:
    """Build the site, or say why it can't be built."""
    try:
        site = build()
    except SiteError as error:
        print(error)
        return 1
    print(f"The site is in {site.relative_to(ROOT)}. To read it: python3 -m http.server --directory build/site 8000")
    return 0


if __name__ == "__main__":
    sys.exit(main())
