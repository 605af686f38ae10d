"""What a preview says of the parameters of a plan."""

import pytest

from privacy_toolkit.cli.preview import PARAMETERS
from privacy_toolkit.core.model import Job
from privacy_toolkit.jobs import declaration


@pytest.mark.parametrize("job", Job)
def test_every_parameter_of_a_job_has_words(job):
    assert set(declaration(job).settable) - {"at_once"} <= set(PARAMETERS)


def test_names_fit_their_column():
    assert all(0 < len(label) <= 9 for label, _ in PARAMETERS.values())
