"""Whatever the documentation tells to type is understood by the program; other blocks are what they say they are."""

import ast
import json
import re
import tomllib
from pathlib import Path

import click
import pytest

from tests.support.commands import parsed

ROOT = Path(__file__).parents[3]
#: Decision records tell of their day; samples are made by `make tour` and `make bench`, which run what they show.
PAGES = [
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if not {"adr", "samples"} & set(path.parts)),
]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`(privacy-toolkit [^`\n]+)`(?!`)")
#: What stands for a value in an outline of a command, where any text would not do.
VALUES = {"N": "1", "DATE": "2026-01-01"}


def blocks(page: Path, language: str) -> list[str]:
    return [body for found, body in BLOCK.findall(page.read_text("utf-8")) if found == language]


def lines_typed(body: str) -> list[str]:
    """The calls of the program in a block, each without what the shell does with it."""
    found = []
    for line in body.replace("\\\n", " ").splitlines():
        start = re.search(r"(?:^|[\s(])(privacy-toolkit(?: .*)?)$", line)
        if start:
            found.append(re.split(r"\s(?:#|\||\|\||&&|[12]?>>?|<)\s|\)\"|\s{2,}(?![\[-])|;", start.group(1))[0])
    return found


def spelled_out(outline: str) -> str:
    """An outline such as `[--lang en|de] [--json]` as a call that gives all of it."""
    outline = re.sub(r"\[options\]", "", outline)
    outline = re.sub(r"(--[a-z-]+)\|--[a-z-]+ [A-Z]+", r"\1", outline)
    words = re.sub(r"\[(.*?)\]", r"\1", outline).split()
    return " ".join(VALUES.get(word, word.partition("|")[0]) for word in words)


def fault(line: str, *, whole: bool) -> str | None:
    """What is wrong with a call, if anything is; one that is only named (not ``whole``) may lack values."""
    if re.search(r"\[(?:--|\w)", line):
        line = spelled_out(line)
    try:
        parsed(line)
    except click.exceptions.Exit:  # --help and --version
        return None
    except (click.MissingParameter, click.BadOptionUsage) as error:
        return f"{line}: {error.format_message()}" if whole else None
    except (click.exceptions.NoArgsIsHelpError, ValueError) as error:
        return f"{line}: {error}" if whole else None
    except click.ClickException as error:
        return f"{line}: {error.format_message()}"
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_a_page_shows_can_be_parsed(page):
    calls = [
        line for language in ("", "sh", "console") for body in blocks(page, language) for line in lines_typed(body)
    ]
    assert [found for line in calls if (found := fault(line, whole=True))] == []
    named = [re.sub(r"\s*…$", "", line) for line in INLINE.findall(page.read_text("utf-8"))]
    assert [found for line in named if (found := fault(line, whole=False))] == []


def test_there_are_commands_to_be_parsed_and_a_wrong_one_is_found():
    assert sum(len(lines_typed(body)) for page in PAGES for body in blocks(page, "")) > 60
    assert fault("privacy-toolkit erase ids.csv --nonsense", whole=False)
    assert fault("privacy-toolkit runs lst", whole=True)
    assert fault("privacy-toolkit verify", whole=True)
    assert fault("privacy-toolkit due [--days N] [--holds]", whole=True) is None
    assert fault("privacy-toolkit due [--days N] [--nonsense]", whole=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_other_blocks_are_what_they_say_they_are(page):
    for body in blocks(page, "toml"):
        tomllib.loads(body)
    for body in blocks(page, "python"):
        ast.parse(body)
    for body in blocks(page, "json"):
        json.loads(body.replace("…", ""))
