"""Compiles the templates of report.html beforehand: ``python -m tests.support.templates`` writes them again."""

import json

import jinja2

from privacy_toolkit.core.model import Job
from privacy_toolkit.reporting import html


def compiled(job: Job = Job.ERASE) -> str:
    """What the file holds: the code of each template by the checksum of its source, under the version of Jinja2."""
    environment = html._environment(job)
    code = {}
    for name in environment.list_templates(filter_func=lambda name: "/" not in name):
        source, _, _ = environment.loader.get_source(environment, name)
        code[html.Compiled().get_source_checksum(source)] = environment.compile(source, name, raw=True)
    return json.dumps({jinja2.__version__: code}, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    html.COMPILED.write_text(compiled(), "utf-8")
