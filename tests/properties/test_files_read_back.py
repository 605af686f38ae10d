"""What we write, we read: the files of ids that one job hands over are the inputs of another, byte for byte."""

import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_toolkit.core.model import InputError, Subject
from privacy_toolkit.inputs.options import InputOptions, judge
from privacy_toolkit.inputs.pairs import PairForm, coupon_of
from privacy_toolkit.inputs.scan import read_input
from privacy_toolkit.jobs.holders import Holder, MadeCode, encode_code, holders_table
from privacy_toolkit.jobs.writes import codes_table
from privacy_toolkit.reporting.rows import write_table

#: What formulas, quoting, other encodings and our own guard are made of; the API may hold any of it.
PIECES = [
    "+",
    "=",
    "-",
    "@",
    "'",
    '"',
    ",",
    ";",
    "\t",
    "\r",
    "\n",
    "\x1b",
    "\x00",
    " ",
    "00123",
    "1e5",
    "\ufeff",
    "é",
    "e\u0301",
]
PIECES += [
    "\uff1d",
    "\uff0b",
    "\uff0d",
    "\uff20",
    "\u200b",
    "\u2028",
    "\x85",
    "名",
    "😀",
    "\\",
    "'+49",
    "exact",
    "NA",
    "#",
]
HOSTILE = st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join) | st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1
)


def read_back(path, form=None, **options):
    """What our own inputs take of a file: accepted rows with what they give, and how many were rejected."""
    with read_input(str(path), InputOptions(**options), spool_folder=path.parent, form=form) as scan:
        return [tuple(row[1:]) for page in scan.subjects() for row in page], scan.summary


def fine(text):
    return judge(text)[1] is None


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@given(pairs=st.lists(st.tuples(HOSTILE, HOSTILE), min_size=1, max_size=5))
def test_holders_are_read_as_they_were_listed_or_refused_and_never_as_others(suffix, pairs):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"holders{suffix}"
        kept = [(Subject(1, 1, coupon), msgspec.msgpack.encode([Holder(id_)])) for coupon, id_ in pairs]
        write_table(path, holders_table({}, lambda: kept))
        taken, summary = read_back(path, PairForm())
    usable = dict.fromkeys((id_, coupon) for coupon, id_ in pairs if fine(id_) and fine(coupon))
    assert [(id_, coupon_of(given)) for id_, given in taken] == list(usable)
    assert summary.rejected == sum(not (fine(id_) and fine(coupon)) for coupon, id_ in pairs)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@given(made=st.lists(st.tuples(HOSTILE, HOSTILE), min_size=1, max_size=5, unique_by=lambda pair: pair[0]))
def test_codes_are_read_as_they_were_made(suffix, made):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"codes{suffix}"
        kept = [(Subject(n, n + 1, id_), encode_code(MadeCode(code, n, None))) for n, (id_, code) in enumerate(made, 1)]
        write_table(path, codes_table({}, lambda: kept))
        ids, _ = read_back(path, id_column="advocate_id")
        codes, _ = read_back(path, id_column="referral_code")
    assert [id_ for (id_,) in ids] == [id_ for id_, _ in made if fine(id_)]
    assert [code for (code,) in codes] == list(dict.fromkeys(code for _, code in made if fine(code)))


@given(pairs=st.lists(st.tuples(HOSTILE, HOSTILE), max_size=3))
def test_a_file_that_was_made_safe_for_spreadsheets_is_refused_with_the_reason(pairs):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "holders.csv"
        kept = [(Subject(1, 1, coupon), msgspec.msgpack.encode([Holder(id_)])) for coupon, id_ in pairs]
        write_table(path, holders_table({}, lambda: kept), guard=True)
        with pytest.raises(InputError, match="made safe for spreadsheets"):
            read_back(path)


@pytest.mark.parametrize(
    "header",
    [
        "coupon_value,customer_id,exact",
        "coupon_value,customer_id,created,attributes,total_sales,closed_sessions,last_activity,exact",
        "row,advocate_id,referral_code,referral_id,expiry,exact",
    ],
)
def test_so_are_the_guarded_files_of_earlier_versions(tmp_path, header):
    path = tmp_path / "old.csv"
    path.write_text(f"{header}\n")
    with pytest.raises(InputError, match="made safe for spreadsheets"):
        read_back(path, id_column="advocate_id" if "advocate" in header else None)
    path.write_text("customer_id,exact\nx,yes\n")  # a column of the operator's own
    assert read_back(path)[0] == [("x",)]
