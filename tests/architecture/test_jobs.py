"""Everything about a job is in its file: nothing else names one, and whatever is asked of a job its file answers."""

import ast
import re
from collections.abc import Iterator
from importlib import import_module

import pytest

from privacy_toolkit import jobs
from privacy_toolkit.core.model import Job, Outcome
from privacy_toolkit.engine.job import Declaration, Headline, JobWords

#: Where a job may be named.
AT_HOME = ("jobs/", "core/model.py")
#: What has no sensible default: a job that does not say it can't be made.
DEMANDED = {
    Declaration: {"job", "words", "calls", "make"},
    JobWords: {"headline", "title", "possible", "subject", "request", "repeats", "not_covered"},
}


def named_jobs(tree: ast.Module) -> Iterator[str]:
    """Every place that names a job: as a member of the vocabulary, or as a text that a job is compared with."""
    names = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name == "Job"
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in Job.__members__:
            of = ast.unparse(node.value)
            if of in names or of.endswith("model.Job"):
                yield f"{node.lineno} {ast.unparse(node)}"
        elif isinstance(node, ast.Subscript | ast.Call) and _looks_up(node, names):
            yield f"{node.lineno} {ast.unparse(node)}"
        elif isinstance(node, ast.Compare) and re.search(r"\bjob\b", ast.unparse(node)):
            texts = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)}
            if texts & {job.value for job in Job}:
                yield f"{node.lineno} {ast.unparse(node)}"


def _looks_up(node: ast.Subscript | ast.Call, names: set[str]) -> bool:
    """Whether a job is had by a text: ``Job["ERASE"]``, ``Job("erase")``."""
    of, given = (node.value, [node.slice]) if isinstance(node, ast.Subscript) else (node.func, node.args)
    return ast.unparse(of) in names and any(isinstance(part, ast.Constant) for part in given)


def test_the_check_itself_finds_every_form_of_a_name():
    tree = ast.parse(
        "from privacy_toolkit.core.model import Job as Kind\n"
        "from privacy_toolkit.core import model\n"
        "a = Kind.ERASE\nb = model.Job.EXPORT\nc = Kind['ASSIGN']\nd = Kind('events')\n"
        "e = plan.job == 'erase'\nf = job in ('erase', 'export')\n"
        "fine = Kind(plan.job), ERASE, Other.ERASE, plan.job == other.job, name == 'erase'\n"
    )
    assert sorted(int(found.split()[0]) for found in named_jobs(tree)) == [3, 4, 5, 6, 7, 8]


def test_jobs_are_named_nowhere_but_in_their_files(modules):
    assert [
        f"{module.path}:{found}"
        for module in modules
        if not module.path.startswith(AT_HOME)
        for found in named_jobs(module.tree)
    ] == []


def test_no_template_of_a_report_names_a_job(root):
    values = "|".join(job.value for job in Job)
    assert [
        f"{path.name}: {found}"
        for path in sorted((root / "reports" / "templates").glob("*.j2"))
        for found in re.findall(rf"\{{%[^%]*['\"](?:{values})['\"][^%]*%\}}", path.read_text("utf-8"))
    ] == []


@pytest.mark.parametrize("declared", DEMANDED)
def test_a_property_has_a_default_or_is_demanded(declared):
    names = declared.__struct_fields__
    assert set(names[: len(names) - len(declared.__struct_defaults__)]) == DEMANDED[declared]


@pytest.mark.parametrize("declared", DEMANDED)
def test_every_property_is_documented_with_its_meaning(declared):
    described = set(re.findall(r"^ {8}(\w+): ", declared.__doc__, re.MULTILINE))
    assert described == set(declared.__struct_fields__)


@pytest.mark.parametrize("job", Job)
def test_every_job_is_declared_once_in_a_file_of_jobs(job):
    declared = jobs.declaration(job)
    assert declared.job is job
    assert jobs.declaration(job) is declared
    module, name = jobs._PLACES[job]
    assert getattr(import_module(f"privacy_toolkit.jobs.{module}"), name) is declared


def test_a_job_that_says_the_least_is_whole():
    """It writes, is confirmed by yes, hands nothing over, and is about the customer whose id it is."""
    words = JobWords(
        headline=Headline("Greet", "customer", "at"),
        title="Greetings",
        possible=frozenset({Outcome.DONE, Outcome.PENDING}),
        subject="One customer.",
        request="greeting",
        repeats="Never.",
        not_covered={},
    )
    declared = Declaration(Job.ERASE, words, calls=lambda subjects, _: {"greet": (subjects, subjects)}, make=None)
    assert declared.writes
    assert not any((declared.confirmed_by, declared.packages, declared.table, declared.erases, declared.has_clock))
    assert declared.customers("someone", "") == ("someone",)
    assert (declared.form({}), declared.shown("someone", "")) == (None, {})
