"""Workbooks made by hand: every cell as the XML that a spreadsheet program, or nobody, would write."""

import re
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr
from zipfile import ZIP_DEFLATED, ZipFile

MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
KINDS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
LINKS = "http://schemas.openxmlformats.org/package/2006/relationships"


def letters(column: int) -> str:
    """The letters of a column, from 1."""
    text = ""
    while column:
        column, rest = divmod(column - 1, 26)
        text = chr(65 + rest) + text
    return text


def escaped(text: str) -> str:
    """A text as ST_Xstring has it: what XML can't hold, and what looks like an escape, is escaped."""
    text = re.sub("_(?=x[0-9A-Fa-f]{4}_)", "_x005F_", text)
    return re.sub("[\x00-\x08\x0b-\x1f\ud800-\udfff\ufffe\uffff]", lambda found: f"_x{ord(found[0]):04X}_", text)


def text(value: str) -> str:
    """A text cell, inline."""
    return f'<c{{}} t="inlineStr"><is><t xml:space="preserve">{escape(escaped(value))}</t></is></c>'


def number(value, style: int = 0) -> str:
    """A number cell, with the number of a style."""
    return f'<c{{}} s="{style}"><v>{value}</v></c>'


def typed(kind: str, value, formula: str = "") -> str:
    """A cell of another type: b, e, str, s, d."""
    made = f"<f>{escape(formula)}</f>" if formula else ""
    return f'<c{{}} t="{kind}">{made}<v>{escape(str(value))}</v></c>'


def cell(value) -> str:
    """A cell as a spreadsheet program makes one of a value; what has a ``<c`` in it is one already."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return typed("b", int(value))
    if isinstance(value, int | float):
        return number(value)
    return value if value.startswith("<c") else text(value)


def sheet(rows, *, attributes=None, after: str = "") -> str:
    """The XML of a sheet; ``attributes`` are those of rows by number, a row may be None."""
    made = []
    for at, row in enumerate(rows, 1):
        if row is None:
            continue
        cells = "".join(
            cell(value).replace("<c{}", f'<c r="{letters(column)}{at}"', 1) for column, value in enumerate(row, 1)
        )
        made.append(f'<row r="{at}"{(attributes or {}).get(at, "")}>{cells}</row>')
    return f"<worksheet {MAIN}><sheetData>{''.join(made)}</sheetData>{after}</worksheet>"


def write(path: Path, rows=(), *, sheets=None, formats=(), shared=None, is_1904=False, parts=None, states=None) -> Path:
    """Write a workbook of one sheet of ``rows``, or of ``sheets`` (XML by title).

    ``formats`` are the codes of the styles from 1 on, ``shared`` the texts that cells share; ``parts`` replaces or adds
    parts by their names, ``states`` are those of sheets by title.
    """
    sheets = {"Requests": sheet(rows)} if sheets is None else sheets
    listed = "".join(
        f'<sheet name={quoteattr(title)} sheetId="{at}" state="{(states or {}).get(title, "visible")}" r:id="r{at}"/>'
        for at, title in enumerate(sheets, 1)
    )
    codes = "".join(f'<numFmt numFmtId="{200 + at}" formatCode={quoteattr(code)}/>' for at, code in enumerate(formats))
    styles = "".join(f'<xf numFmtId="{200 + at}"/>' for at in range(len(formats)))
    links = "".join(
        f'<Relationship Id="r{at}" Type="{KINDS}/worksheet" Target="worksheets/sheet{at}.xml"/>'
        for at in range(1, len(sheets) + 1)
    )
    made = {
        "_rels/.rels": f'<Relationships xmlns="{LINKS}"><Relationship Id="w" Type="{KINDS}/officeDocument"'
        ' Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook {MAIN} xmlns:r="{KINDS}"><workbookPr date1904="{int(is_1904)}"/>'
        f"<sheets>{listed}</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{LINKS}">{links}'
        f'<Relationship Id="st" Type="{KINDS}/styles" Target="styles.xml"/>'
        f'<Relationship Id="sh" Type="{KINDS}/sharedStrings" Target="/xl/sharedStrings.xml"/></Relationships>',
        "xl/styles.xml": f"<styleSheet {MAIN}><numFmts>{codes}</numFmts>"
        f'<cellStyleXfs><xf numFmtId="14"/></cellStyleXfs><cellXfs><xf numFmtId="0"/>{styles}</cellXfs></styleSheet>',
        **{f"xl/worksheets/sheet{at}.xml": xml for at, xml in enumerate(sheets.values(), 1)},
        **({} if shared is None else {"xl/sharedStrings.xml": f"<sst {MAIN}>{''.join(shared)}</sst>"}),
        **(parts or {}),
    }
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        for name, content in made.items():
            archive.writestr(name, content)
    return path
