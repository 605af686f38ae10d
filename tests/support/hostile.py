"""Text with which somebody else would like to do more than be read, and the places in a report where it stands."""

#: Markup, a template, a formula, an address, characters that turn text around, and such that steer a terminal.
HOSTILE = (
    "=1+1</title></style></textarea>\"'><img src=http://127.0.0.1:9/x onerror=alert(1)><script>alert(2)</script>"
    "<svg onload=alert(3)>--><a href=javascript:alert(4)>{{ 7 * 7 }}{% raw %}&lt;"
    "\x00\x07\x1b[31m\x9b\u202eoiduts\u2066\u200b\u2028\ufeff\U000e0041\ud7ff"
)
#: Where it stands: each place has a name of its own, to be told apart.
PLACES = (
    "target",
    "planner",
    "approver",
    "approver key",
    "operator",
    "operator key",
    "hold",
    "python",
    "rate",
    "max_failures",
    "api_key",
    "gone_predicate",
    "timeout",
)


def hostile(place: str) -> str:
    """The text that stands in a place; a plan takes none that is not seen."""
    text = "".join(filter(str.isprintable, HOSTILE)) if place in {"target", "planner"} else HOSTILE
    return f"{place}: {text}"
