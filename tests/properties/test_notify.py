"""Whatever a run is called and comes to, the file for Prometheus can be read, and says the same afterwards."""

from datetime import date

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from privacy_toolkit.core.model import Job, Outcome
from privacy_toolkit.notify.telling import Finished, render

_names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
_numbers = st.integers(0, 10**8)
_times = st.integers(0, 4 * 10**15)
_runs = st.builds(
    Finished,
    run_id=_names,
    job=st.sampled_from([job.value for job in Job]),
    target=_names | st.sampled_from(['a"b', "a\\", 'a\\"', "a\nb", '"} 1', 'x",job="erase']),
    environment=st.sampled_from(["live", "sandbox"]),
    verdict=_names,
    exit_code=st.sampled_from([0, 3, 4, 7, 130]),
    outcomes=st.dictionaries(st.sampled_from([outcome.value for outcome in Outcome]), _numbers),
    open=_numbers,
    overdue=_numbers,
    oldest_open=st.none() | st.dates(),
    started_at=_times,
    ended_at=_times,
)


def parsed(text):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@given(_runs)
def test_the_file_parses_and_says_what_the_run_came_to(run):
    found = parsed(render(run))
    labels = (("job", run.job), ("target", run.target))
    assert found["privacy_toolkit_last_run_exit_code", *labels] == run.exit_code
    assert found["privacy_toolkit_open_subjects", *labels] == run.open
    assert found["privacy_toolkit_overdue_subjects", *labels] == run.overdue
    assert (("privacy_toolkit_last_success_timestamp_seconds", *labels) in found) == (run.exit_code == 0)
    day = found.get(("privacy_toolkit_oldest_open_request_timestamp_seconds", *labels))
    assert day == (None if run.oldest_open is None else (run.oldest_open - date(1970, 1, 1)).days * 86_400)
    outcomes = {
        dict(key[1:])["outcome"]: value for key, value in found.items() if key[0] == "privacy_toolkit_outcome_subjects"
    }
    assert outcomes == run.outcomes


@given(_runs, _runs)
def test_runs_of_two_targets_stand_in_one_file_and_repeating_one_changes_nothing(one, other):
    first = render(one)
    both = render(other, first)
    assert render(other, both) == both
    if (one.job, one.target) == (other.job, other.target):
        assert {key for key in parsed(both) if "success" not in key[0]} == {
            key for key in parsed(render(other)) if "success" not in key[0]
        }
    else:
        assert parsed(both) == {**parsed(first), **parsed(render(other))}


@given(_runs, st.text())
def test_anything_may_stand_in_the_file_before(run, before):
    assert parsed(render(run, before)).items() >= parsed(render(run)).items()


@given(_runs)
def test_a_failure_keeps_the_last_success(run):
    good, bad = replace(run, exit_code=0), replace(run, exit_code=4, ended_at=run.ended_at + 1)
    name = "privacy_toolkit_last_success_timestamp_seconds", ("job", run.job), ("target", run.target)
    assert parsed(render(bad, render(good)))[name] == parsed(render(good))[name]
