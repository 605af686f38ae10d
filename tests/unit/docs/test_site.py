"""The documentation as a site: built strictly, complete, and sufficient in itself."""

import pytest

from privacy_toolkit.cli.main import examples
from release import site
from tests.support.commands import commands


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The site, built once: links and headings that are not there would have ended it."""
    return site.build(tmp_path_factory.mktemp("work"))


def test_every_page_is_built_and_nothing_comes_from_elsewhere(built):
    pages = {path.relative_to(site.ROOT / "docs").with_suffix(".html") for path in (site.ROOT / "docs").glob("*.md")}
    there = {path.relative_to(built) for path in built.rglob("*.html")}
    assert pages <= there
    assert site.loaded_from_elsewhere(built) == []


def test_the_reference_has_every_command_with_its_examples(built):
    said = (built / "commands.html").read_text("utf-8")
    assert [words for words in commands() if f'id="{words.replace(" ", "-")}"' not in said] == []
    assert all(line.split()[1] in said for lines in examples().values() for line, _ in lines)


def test_a_link_to_a_heading_that_is_not_there_ends_the_build(tmp_path, monkeypatch):
    def put_together(folder):
        folder.mkdir()
        (folder / "index.md").write_text("# Start\n\n[gone](#nowhere)\n")

    monkeypatch.setattr(site, "put_together", put_together)
    with pytest.raises(site.SiteError, match="anchor does not exist"):
        site.build(tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.html", '<script defer src="https://cdn.example.org/x.js"></script>'),
        ("a.html", '<link rel="stylesheet" href="//fonts.example.org/css">'),
        ("a.html", '<img alt="x" src=https://example.org/x.png>'),
        ("a.html", '<pre class="mermaid"><code>graph</code></pre>'),
        ("a.css", "@font-face { src: url(https://example.org/x.woff2) }"),
    ],
)
def test_what_a_browser_would_load_from_elsewhere_is_found(tmp_path, name, text):
    (tmp_path / name).write_text(f'<a href="https://example.org">a link is fine</a>\n{text}')
    assert len(site.loaded_from_elsewhere(tmp_path)) == 1


def test_a_page_that_is_in_no_navigation_is_found(tmp_path):
    (tmp_path / "lost.md").write_text("# Lost\n")
    assert site.pages_left_out(tmp_path) == ["lost.md"]
