"""Compiles the templates of report.html beforehand: ``python -m tests.support.templates`` writes them again."""

import json

import jinja2
from jinja2.meta import find_referenced_templates

from privacy_toolkit.core.model import Job
from privacy_toolkit.reporting import html

#: What is asked for by name; everything else is named in these.
FIRST = ("report.html.j2", "style.css")


def compiled(job: Job = Job.ERASE) -> str:
    """What the file holds: the code of each template by the checksum of its source, under the version of Jinja2."""
    environment = html._environment(job)
    code, seen, left = {}, set(FIRST), list(FIRST)
    while left:
        name = left.pop()
        source, _, _ = environment.loader.get_source(environment, name)
        code[html.Compiled().get_source_checksum(source)] = environment.compile(source, name, raw=True)
        found = {other for other in find_referenced_templates(environment.parse(source)) if other} - seen
        seen |= found
        left += found
    return json.dumps({jinja2.__version__: code}, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    html.COMPILED.write_text(compiled(), "utf-8")
