"""Options that can't be meant are refused before a file is touched."""

import pytest

from privacy_toolkit.core.model import InputError
from privacy_toolkit.inputs.options import InputOptions


@pytest.mark.parametrize(
    "options",
    [
        *({"encoding": name} for name in ("nonsense", "hex", "locale", "", "a\0b")),
        *({"delimiter": mark} for mark in ("", ";;", "\\t", '"', "\n", "\r", "\0")),
        *({"limit": number} for number in (0, -1)),
    ],
)
def test_options_that_can_not_be_meant_are_refused(options):
    with pytest.raises(InputError) as caught:
        InputOptions(**options)
    assert caught.value.exit_code == 2
    assert caught.value.hint


def test_encodings_have_many_names():
    assert {InputOptions(encoding=name).codec for name in ("utf-8", "UTF8", "U8")} == {"utf-8"}
