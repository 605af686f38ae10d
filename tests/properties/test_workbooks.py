"""A workbook of texts is read as the CSV next to it, whatever is in it."""

from hypothesis import given
from hypothesis import strategies as st

from privacy_toolkit.config.file import InputProfile, MappingFile, read_mapping
from privacy_toolkit.config.settings import Flags, load_settings
from privacy_toolkit.inputs.options import DATE_FORMS, MAPPED_COLUMNS, InputOptions, date_form, fitting_forms
from privacy_toolkit.inputs.scan import read_input
from tests.properties.test_inputs import ASKED, SIZES, TEXTS, as_csv
from tests.support.workbooks import escaped, text, typed, write

#: What looks like an escape of the format, or like a part of one.
ESCAPES = st.lists(st.sampled_from(["_x0041_", "_x005F_", "x005F_", "_", "x", "a", "_x00", "A1_"]), max_size=4).map(
    "".join
)
#: Cells that are stored in each of the ways in which programs store text.
WAYS = st.sampled_from(["inline", "shared", "formula"])


def everything(path, page_rows, **options):
    with read_input(str(path), InputOptions(**options), spool_folder=path.parent, page_rows=page_rows) as scan:
        summary = scan.summary
        return {
            "records": [(one.id, one.status, one.reason) for one in scan.records()],
            "requests": list(scan.requests()),
            "subjects": [id_ for page in scan.subjects() for _, id_ in page],
            "sums": (summary.read, summary.rejected_by_reason, summary.duplicates, summary.subjects, summary.columns),
        }


def stored(rows, ways):
    """The same texts, stored in different ways; the shared ones with them."""
    shared, cells = [], []
    for row, way in zip(rows, ways, strict=False):
        made = []
        for value in row:
            if way == "shared":
                made.append(typed("s", len(shared)))
                shared.append(text(value).replace('<c{} t="inlineStr"><is>', "<si>").replace("</is></c>", "</si>"))
            else:
                made.append(text(value) if way == "inline" or not value else typed("str", escaped(value), "A1"))
        cells.append(made)
    return cells, shared


@given(st.lists(TEXTS | ESCAPES, max_size=30), st.lists(WAYS, min_size=31, max_size=31), st.booleans(), SIZES)
def test_ids_come_back_byte_for_byte_as_from_a_csv(tmp_path_factory, texts, ways, strip, page_rows):
    folder = tmp_path_factory.mktemp("xlsx")
    texts = [*texts, "end"]  # rows without anything behind the last one are none
    rows = [["note", "id"], *(["-", one] for one in texts)]
    (folder / "a.csv").write_bytes(as_csv(rows).encode())
    cells, shared = stored(rows, ways)
    write(folder / "a.xlsx", [cell or [] for cell in cells], shared=shared)
    length = len(cells) - 1
    found = everything(folder / "a.xlsx", page_rows, strip=strip)
    (folder / "a.csv").write_bytes(as_csv(rows[: length + 1]).encode())
    assert found == everything(folder / "a.csv", page_rows, strip=strip)


@given(ASKED, SIZES)
def test_what_rows_say_besides_is_as_from_a_csv(tmp_path_factory, asked, page_rows):
    folder = tmp_path_factory.mktemp("xlsx")
    rows = [["id", "requested_at", "extended_at", "ticket", "ground"], *map(list, asked), ["end", "", "", "", ""]]
    (folder / "a.csv").write_bytes(as_csv(rows).encode())
    write(folder / "a.xlsx", rows)
    assert everything(folder / "a.xlsx", page_rows) == everything(folder / "a.csv", page_rows)


@given(st.dates(), st.sampled_from([*DATE_FORMS, "%d-%m-%Y", "%Y/%m/%d", "%m %d of %Y"]))
def test_a_day_is_read_in_the_form_in_which_it_was_written(day, name):
    written = DATE_FORMS.get(name, name)
    written = written.replace("%d", f"{day.day:02}").replace("%m", f"{day.month:02}").replace("%Y", f"{day.year:04}")
    assert date_form(name)(written) == day.isoformat()
    assert date_form(name)(day.isoformat()) == day.isoformat()
    if name in DATE_FORMS:
        assert DATE_FORMS[name] in {DATE_FORMS[one] for one in fitting_forms([written])}


@given(st.text(max_size=12))
def test_no_text_makes_a_form_fail(text_):
    for name in DATE_FORMS:
        assert date_form(name)(text_) is None or len(text_) > 7


@given(
    st.dictionaries(st.sampled_from(MAPPED_COLUMNS), st.text(min_size=1, max_size=20)),
    st.dictionaries(st.sampled_from(InputProfile.__struct_fields__), st.text(min_size=1, max_size=8)),
)
def test_a_saved_mapping_is_read_back_byte_for_byte(tmp_path_factory, columns, how):
    path = tmp_path_factory.mktemp("map") / "map.toml"
    saved = MappingFile(columns, InputProfile(**how))
    path.write_bytes(saved.encode())
    assert read_mapping(path) == saved
    config = tmp_path_factory.mktemp("config") / "privacy-toolkit.toml"
    config.write_bytes(saved.encode())
    assert load_settings(Flags(config=str(config)), {}).input == saved.given()
