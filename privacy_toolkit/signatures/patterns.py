"""Pattern lists as in OpenSSH (ssh_config(5), PATTERNS): ``*`` any run, ``?`` one character, ``!`` refuses."""

from __future__ import annotations


def matches_list(text: str, patterns: str) -> bool:
    """Whether a text matches one pattern of a comma-separated list, and none that refuses it."""
    found = False
    for pattern in patterns.split(","):
        refuses = pattern.startswith("!")
        if matches(text, pattern[1:] if refuses else pattern):
            if refuses:
                return False
            found = True
    return found


def matches(text: str, pattern: str) -> bool:
    """Whether a text matches a pattern as a whole, upper and lower case told apart.

    After a failure only the last ``*`` takes one character more, so the work is bounded by the product of both lengths
    whatever the pattern. As in OpenSSH a character is a byte.
    """
    characters, wanted = text.encode(), pattern.encode()
    at = position = 0
    star, resume = -1, 0
    while at < len(characters):
        kind = wanted[position : position + 1]
        if kind == b"*":
            star, resume = position, at
            position += 1
        elif kind in (b"?", characters[at : at + 1]):
            at += 1
            position += 1
        elif star >= 0:
            resume += 1
            at, position = resume, star + 1
        else:
            return False
    return not wanted[position:].strip(b"*")
