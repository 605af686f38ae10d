"""The templates are compiled beforehand, and what was compiled is what they say."""

import jinja2
import pytest

from privacy_toolkit.core.model import Job
from privacy_toolkit.reporting import html
from tests.support.templates import compiled


@pytest.mark.parametrize("job", Job)
def test_what_was_compiled_is_of_the_templates_of_today_whatever_the_job(job):
    assert html.COMPILED.read_text("utf-8") == compiled(job), "make templates"


def template_with(cache):
    loader = jinja2.DictLoader({"a": "{{ 1 + 1 }}"})
    return jinja2.Environment(loader=loader, autoescape=True, bytecode_cache=cache).get_template("a")


def known(path, version=jinja2.__version__):
    """A file that knows another code for a template, so that it shows whether it was taken."""
    code = jinja2.Environment(autoescape=True).compile("known", "a", raw=True)
    checksum = html.Compiled().get_source_checksum("{{ 1 + 1 }}")
    path.write_bytes(html.msgspec.json.encode({version: {checksum: code}}))
    return html.Compiled(path)


def test_a_template_that_was_compiled_is_not_compiled_again(tmp_path):
    assert template_with(known(tmp_path / "compiled.json")).render() == "known"


def test_another_version_of_jinja_compiles_for_itself(tmp_path):
    assert template_with(known(tmp_path / "compiled.json", "3.0.0")).render() == "2"


@pytest.mark.parametrize("content", [None, b"", b"[]", b"{"])
def test_without_the_file_templates_are_compiled_as_ever(tmp_path, content):
    if content is not None:
        (tmp_path / "compiled.json").write_bytes(content)
    assert template_with(html.Compiled(tmp_path / "compiled.json")).render() == "2"
