"""The fast reader of text gives what the strict one gives, or leaves the file to it."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from passk_lab.rollouts import _fast, _tables
from passk_lab.rollouts._tables import read_table

USUAL = {
    "text": [
        '"x"',
        '""',
        '"é"',
        r'"\u00e9"',
        r'"\ud83d\ude00"',
        '"007"',
        '"2020-01-01"',
        r'"\"a\": 1"',
    ],
    "whole": ["0", "7", "-3", "123456789012345678"],
    "real": ["0.5", "1.0", "-2e-3", "1E5", "0.1234567890123456789"],
    "truth": ["true", "false"],
}
ODD = [
    *(
        "null",
        "1",
        "1.5",
        '"s"',
        "NaN",
        "-Infinity",
        "Inf",
        "1e999",
        "-0",
        "-0.0",
        "1e5",
        "007",
        "+1",
    ),
    *(
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775809",
        "1" * 40,
        "True",
        "[1]",
    ),
    *(
        '{"b": 1}',
        "[]",
        r'"\ud83d"',
        r'"\udc00x"',
        '"a\tb"',
        r'"\u0000"',
        r'"\x"',
        "'s'",
        ".5",
        "5.",
    ),
]
LINES = [
    *(
        "",
        "  ",
        "null",
        "{}",
        "5",
        "[]",
        '{"a": 1}{"a": 2}',
        '{"a": 1} null',
        '{"a":',
        "1}",
        "}",
        "{",
    ),
    *('{"a": 1,}', '{"a": 1} x', '{"a": 1, "a": "x"}', r'{"\u0061": null}', '{"a": 1}\r', "\x0b"),
]
NAMES = ["a", "answer", "é", "a b", r"q\"a", "correct"]
SETTINGS = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def mostly(usual: list[str], odd: list[str]) -> st.SearchStrategy[str]:
    return st.integers(0, 19).flatmap(lambda n: st.sampled_from(usual if n else odd))


@st.composite
def jsonl(draw: st.DrawFn) -> bytes:
    kinds = draw(st.dictionaries(st.sampled_from(NAMES), st.sampled_from([*USUAL]), min_size=1))
    colon = draw(st.sampled_from([": ", ":", " :\t"]))
    lines = []
    for _ in range(draw(st.integers(1, 12))):
        fields = {name: draw(mostly(USUAL[kind], [*ODD, ""])) for name, kind in kinds.items()}
        cells = (f'"{name}"{colon}{token}' for name, token in fields.items() if token)
        lines.append(draw(mostly([f"{{{', '.join(cells)}}}"], LINES)))
    return draw(broken(lines))


@st.composite
def broken(draw: st.DrawFn, lines: list[str]) -> bytes:
    """Join lines; now and then with other line breaks, none at the end, or a byte changed."""
    content = draw(mostly(["\n"], ["\r\n", "\n\n", "\r"])).join(lines).encode()
    content = draw(mostly(["", "\n"], ["\ufeff"])).encode() + content
    content += draw(st.sampled_from([b"\n", b""]))
    if not draw(st.integers(0, 5)):
        at = draw(st.integers(0, len(content)))
        piece = draw(
            st.sampled_from([b"", b'"', b",", b"\n", b"\r", b"}", b"\xff", b"\0", b" ", b"\\"])
        )
        content = content[:at] + piece + content[at + draw(st.integers(0, 1)) :]
    return content


CELLS = {
    "text": ["x", "y z", '"a,b"', '"say ""a"""', '"two\nlines"', "é", "(1)"],
    "whole": ["0", "7", "-3", "123456789012345678"],
    "real": ["0.5", "1.0", "-2.25", "3", "0.1234567890123456"],
    "truth": ["True", "False", "true", "FALSE"],
}
ODD_CELLS = [
    *(
        "",
        '""',
        "007",
        "+1",
        " 1",
        "1 ",
        "1.",
        ".5",
        "1e5",
        "1E-7",
        "nan",
        "NaN",
        "inf",
        "-inf",
        "0x1F",
    ),
    *("9223372036854775807", "9223372036854775808", "9223372036854776000", "1" * 25, "-0", "1_000"),
    *(
        'x"y',
        '"x"y',
        '"x',
        '" x "',
        "tRue",
        "yes",
        "null",
        "None",
        "1.0",
        "1,2",
        "\t",
        "1;2",
        "-",
        "#",
    ),
]


@st.composite
def csv(draw: st.DrawFn) -> bytes:
    names = draw(st.lists(st.sampled_from([*NAMES, "b", "c"]), min_size=1, max_size=5))
    if draw(st.integers(0, 9)):
        names = [*dict.fromkeys(names)]
    kinds = [draw(st.sampled_from([*CELLS])) for _ in names]
    between = draw(mostly([","], [";", "\t"]))
    lines = [between.join(names)]
    for _ in range(draw(st.integers(0, 12))):
        cells = [draw(mostly(CELLS[kind], ODD_CELLS)) for kind in kinds]
        lines.append(draw(mostly([between.join(cells)], ["", "  ", between, "x", "\t,"])))
    return draw(broken(lines))


def found(path: Path, wanted: list[str] | None) -> object:
    """Say all there is to a table, or what is said against it."""
    try:
        frame, names = read_table(path, wanted)
    except ValueError as error:
        return str(error)
    cells = {name: [(type(v), repr(v)) for v in frame[name]] for name in frame}
    return cells, frame.dtypes.astype(str).to_dict(), names, len(frame)


def line_by_line(path: Path, wanted: list[str] | None) -> tuple[pd.DataFrame, list[str]]:
    records = [record for _, record in _tables.numbered_jsonl(path)]
    return _tables._from_records(records, path, wanted)


def check(path: Path, wanted: list[str] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(_tables, "_from_jsonl", line_by_line)
        patch.setattr(_tables, "frame_of_csv", lambda *_: None)
        strict = found(path, wanted)
    for block in (64, 128, 1 << 20):
        with monkeypatch.context() as patch:
            patch.setattr(_tables, "_BLOCK", block)
            patch.setattr(_fast, "BLOCK", block)
            assert found(path, wanted) == strict


WANTED = st.sampled_from([None, ["a", "answer"]])


@SETTINGS
@given(content=jsonl(), wanted=WANTED)
@example(b'{"a": 0.5}\n{"a": 1}\n{"a": 2.5}', None)
@example(b'{"a": 1}\n{"a": 9223372036854775808}', None)
@example(b'{"a": "x"}\n{}\n{"a": null}', None)
@example(b'{"a": 1}\n{"a": 1}{"a": 2}\n', None)
@example(b'{"a": 1}\n{"a":\n1}\n{"a": 1}{"a": 2}\n', None)
@example(b'{"a": "x"}\n{"a": "\xff"}\n', None)
@example(b'{"a": "x"}\nnull\n{"a": "x"}\n', None)
@example(b'{"a": 1.5}\n{"b": 1}\n{"a": 1.5, "b": 1}', None)
def test_jsonl_as_strictly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, wanted: list[str] | None
) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(content)
    check(path, wanted, monkeypatch)


@SETTINGS
@given(content=csv(), wanted=WANTED)
@example(b'a,b\n1,"x\n', None)
@example(b'a,b\n1,"x', None)
@example(b'a,b\n1,x"\n2,"y\n', None)
@example(b"a,b\n1,0x1F\n", None)
@example(b"a\n  \n", None)
@example(b"a\tb\n \t \n", None)
@example(b"a,b\n1,nan\n", None)
@example(b"a,b\n1,007\n", None)
def test_csv_as_strictly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, wanted: list[str] | None
) -> None:
    path = tmp_path / ("r.tsv" if b"\t" in content.partition(b"\n")[0] else "r.csv")
    path.write_bytes(content)
    check(path, wanted, monkeypatch)


def rows(n: int) -> pd.DataFrame:
    table = {
        "problem_id": [f"p{i // 4}" for i in range(n)],
        "sample_id": [i % 4 for i in range(n)],
        "correct": [i % 3 == 0 for i in range(n)],
        "answer": [None if i % 5 == 1 else f"{i % 7}" for i in range(n)],
        "logprob": [-i / 7 for i in range(n)],
        "text": ['}\n{ é\u2028 "a": 1' for _ in range(n)],
    }
    return pd.DataFrame(table)


@pytest.mark.parametrize("ascii", [True, False])
def test_usual_lines_are_read_fast(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ascii: bool
) -> None:
    path = tmp_path / "r.jsonl"
    records = rows(3000).to_dict(orient="records")
    records = [{k: None if v is None or v != v else v for k, v in one.items()} for one in records]
    path.write_text("".join(json.dumps(one, ensure_ascii=ascii) + "\n" for one in records))
    parsed: list[str] = []
    strict = _tables._parsed
    monkeypatch.setattr(_tables, "_BLOCK", 1 << 16)
    monkeypatch.setattr(_tables, "_parsed", lambda text: parsed.append(text) or strict(text))
    assert len(read_table(path)[0]) == 3000
    assert len(parsed) < 20  # the first block


def test_usual_csv_is_read_fast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.csv"
    rows(3000).to_csv(path, index=False)
    read_csv = pd.read_csv  # of the header alone
    monkeypatch.setattr(pd, "read_csv", lambda *a, nrows, **o: read_csv(*a, nrows=nrows, **o))
    assert len(read_table(path)[0]) == 3000
