from datetime import UTC, datetime

import pytest

from privacy_toolkit.core.model import UsageError
from privacy_toolkit.signatures.signers import AllowedSigners
from privacy_toolkit.signatures.sshsig import APPROVAL_NAMESPACE, PACK_NAMESPACE, allowed_signers_line

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)


@pytest.fixture
def listed(tmp_path, pair, other):
    """Reads a list in which KEY and OTHER stand for two keys."""

    def read(text: str | bytes) -> AllowedSigners:
        content = text.encode() if isinstance(text, str) else text
        content = content.replace(b"KEY", pair.public.line.encode()).replace(b"OTHER", other.public.line.encode())
        path = tmp_path / "allowed_signers"
        path.write_bytes(content)
        return AllowedSigners.read(path)

    return read


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dpo@x KEY\n", ["dpo@x"]),
        ("dpo@x KEY", ["dpo@x"]),
        ("dpo@x KEY a comment # with a sign\n", ["dpo@x"]),
        ("  \tdpo@x \t KEY\r\n", ["dpo@x"]),
        ("# dpo@x KEY\n\n   \n  # more\nb@x KEY\n", ["b@x"]),
        ("a@x,b@x KEY\n", ["a@x", "b@x"]),
        ("*@x,!c@x KEY\n", ["*@x"]),
        ("a@x,!a@x KEY\n", []),
        ('"a b@x" KEY\n', ["a b@x"]),
        ("a@x KEY\nb@x OTHER\na@x,c@x KEY\n", ["a@x", "c@x"]),
        ('dpo@x namespaces="privacy-toolkit-audit-pack@v1" KEY\n', ["dpo@x"]),
        ('dpo@x namespaces="privacy-toolkit-*" KEY\n', ["dpo@x"]),
        ('dpo@x namespaces="file" KEY\n', []),
        ('dpo@x namespaces="*,!privacy-toolkit-audit-pack@v1" KEY\n', []),
        ('dpo@x namespaces="a b, c" KEY\nb@x KEY\n', ["b@x"]),
        ("dpo@x cert-authority KEY\n", []),
        ('dpo@x valid-after="20240601Z",valid-before="20240602Z" KEY\n', ["dpo@x"]),
        ('dpo@x valid-before="20240601Z" KEY\n', []),
        ('dpo@x valid-after="20240602Z" KEY\n', []),
        ("dpo@x OTHER\n", []),
        ("", []),
        ("ü@x KEY\n", ["ü@x"]),
        ("a\u2028b@x KEY\n", ["a\u2028b@x"]),
    ],
)
def test_whom_a_key_belongs_to(listed, pair, text, expected):
    assert listed(text).principals(pair.public, PACK_NAMESPACE, NOW) == expected


def test_a_principal_is_allowed_by_pattern(listed, pair):
    allowed = listed("*@x,!guest@x KEY\nboss@y OTHER\n")
    names = ["dpo@x", "guest@x", "boss@y", "dpo@y"]
    assert [allowed.allows(name, pair.public, PACK_NAMESPACE, NOW) for name in names] == [True, False, False, False]


def test_the_line_that_we_hand_out_allows_what_it_should(listed, pair):
    allowed = listed(allowed_signers_line("dpo@x", pair.public))
    uses = [PACK_NAMESPACE, APPROVAL_NAMESPACE, "git", "privacy-toolkit-audit-pack@v2"]
    assert [allowed.allows("dpo@x", pair.public, use, NOW) for use in uses] == [True, True, False, False]


def test_keys_of_other_kinds_may_stand_in_the_list(listed, pair, rsa, token):
    allowed = listed(f"a@x {rsa.line}\nb@x {token.public.line}\nc@x KEY\n")
    assert allowed.principals(token.public, PACK_NAMESPACE, NOW) == ["b@x"]
    assert allowed.principals(pair.public, PACK_NAMESPACE, NOW) == ["c@x"]


@pytest.mark.parametrize(
    "line",
    [
        "dpo@x",
        "KEY",
        "dpo@x ssh-ed25519",
        "dpo@x ssh-ed25519 AAAA",
        "dpo@x ssh-new AAAA",
        'dpo@x namespaces="a"',
        'dpo@x namespaces="a KEY',
        "dpo@x namespaces=a KEY",
        "dpo@x unknown KEY",
        "dpo@x valid-after=20240101 KEY",
        'dpo@x valid-after="someday" KEY',
        'dpo@x namespaces="a",namespaces="b" KEY',
        '"dpo@x KEY',
        '"dpo"@x KEY',
        '"" KEY',
        "dpo@x\x00 KEY",
        "dpo@x K\x0bEY",
        b"dpo\xff@x KEY",
        "\ufeffdpo@x KEY",
        "dpo@x KEY\rdpo@y KEY",
    ],
)
def test_a_malformed_line_is_named_by_its_number_and_not_shown(listed, line):
    line = line.encode() if isinstance(line, str) else line
    with pytest.raises(UsageError, match="Line 3 of the list") as caught:
        listed(b"# comment\na@x KEY\n" + line + b"\nb@x KEY\n")
    assert "dpo" not in caught.value.message


def test_a_list_that_is_missing_or_a_folder_is_said(tmp_path):
    with pytest.raises(UsageError, match="There is no list"):
        AllowedSigners.read(tmp_path / "missing")
    with pytest.raises(UsageError, match="can't be read"):
        AllowedSigners.read(tmp_path)
