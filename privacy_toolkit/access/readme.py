"""``README.txt``: what a package is, how to open it, whom to ask, and the check sums of its files."""

from __future__ import annotations

import hashlib
import textwrap
from collections.abc import Mapping
from typing import Final

from privacy_toolkit.access.languages import language
from privacy_toolkit.access.page import Facts, visible

NAME: Final = "README.txt"
_WIDTH: Final = 78


def readme(facts: Facts, files: Mapping[str, bytes]) -> bytes:
    """The text, in the language of the package; its last lines are in the format of ``sha256sum``."""
    words = language(facts.lang)
    text, moment = words.text, words.read_at(facts.read_at)
    begun = text["readme_nothing" if facts.data is None else "readme_held"].format(moment=moment)
    parts = [
        text["readme_title"],
        _wrapped(begun),
        _wrapped(text["readme_careful"]),
        _titled(text["readme_open_title"], _wrapped(text["readme_open"])),
        _titled(text["readme_ask_title"], _whom_to_ask(facts)),
        _titled(text["readme_facts_title"], _about(facts, moment)),
        _titled(text["readme_sums_title"], _wrapped(text["readme_sums"])),
        "\n".join(f"{hashlib.sha256(data).hexdigest()}  {name}" for name, data in sorted(files.items())),
    ]
    return ("\n\n".join(parts) + "\n").encode("utf-8", "backslashreplace")


def _whom_to_ask(facts: Facts) -> str:
    text = language(facts.lang).text
    said = {key: facts.notice.said(key, facts.lang) for key in ("controller", "contact", "dpo")}
    given = {key: visible(found.text.strip()) for key, found in said.items() if found}
    if "controller" not in given:
        return _wrapped(text["readme_ask_blank"])
    parts = [text["readme_ask_notice"], given["controller"]]
    parts += [given["contact"]] if "contact" in given else []
    parts += [text["readme_dpo"], given["dpo"]] if "dpo" in given else []
    return "\n".join(parts)


def _about(facts: Facts, moment: str) -> str:
    """The id is left out: this file names the package to whoever has to find it, and need not name the person."""
    text = language(facts.lang).text
    lines = {
        "fact_read": moment,
        "fact_target": f"{visible(facts.target)} ({text[facts.environment]})",
        "fact_reference": facts.reference,
    }
    return "\n".join(f"{text[key]}{text['colon']}{value}" for key, value in lines.items())


def _titled(title: str, body: str) -> str:
    return f"{title}\n{'-' * len(title)}\n{body}"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)
