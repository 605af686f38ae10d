from pathlib import Path

import pytest
from msgspec.structs import replace

from privacy_toolkit.config.settings import Flags, Settings, load_settings
from privacy_toolkit.core.model import UsageError
from privacy_toolkit.core.privacy import Secret
from privacy_toolkit.talonone.addresses import Credentials
from privacy_toolkit.talonone.client import check_access, client_for

SIGNATURE = ("1", Secret("fefecafedeadbeef", "from file"))


@pytest.fixture
def settings(tmp_path) -> Settings:
    found = load_settings(Flags(), {"PRIVACY_TOOLKIT_BASE_URL": "https://x.talon.one", "PRIVACY_TOOLKIT_API_KEY": "k"})
    return replace(found, state=Path(tmp_path))


def test_settings_become_a_client(settings):
    made = client_for(replace(settings, generation="2020"))
    assert made.generation == "2020"


@pytest.mark.parametrize(
    "change",
    [
        {"base_url": None},
        {"base_url": "http://x.talon.one"},
        {"api_key": None},
        {"api_key": Secret("a\nb", "from file")},
        {"api_key": None, "signature": SIGNATURE},
        {"signature": ("1", Secret("not hex", "from file"))},
    ],
)
def test_what_can_not_work_is_found_before_anything_is_sent(settings, change):
    with pytest.raises(UsageError):
        check_access(replace(settings, **change))


def test_other_credentials_can_be_used(settings):
    client_for(replace(settings, api_key=None), Credentials("other"))


def test_reading_with_a_key_and_signing_the_rest_is_fine(settings):
    check_access(replace(settings, signature=SIGNATURE))
