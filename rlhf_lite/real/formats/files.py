"""Rows of any file that holds rows: JSON lines, a JSON array, CSV, TSV or Parquet, each of them perhaps gzipped.

Left out: spreadsheets, databases, and data sets that are only on a hub (download one file of them).
"""

import csv
import gzip
import io
import json
import zlib
from pathlib import Path

from rlhf_lite.files import extra

LISTS = ("data", "rows", "records", "examples")  # where a JSON object may keep its rows


def read_rows(path):
    """A file -> ([(where, row)], [problem]): "line 3" and a dict, or a sentence for each row that cannot be read.

    Raises FileNotFoundError, or ValueError when not a single row can be found.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path}: this is a folder, not a file; name one file in it.")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file; check the name.")
    data, name = path.read_bytes(), path.name.lower()
    if data[:2] == b"\x1f\x8b":
        try:
            data, name = gzip.decompress(data), name.removesuffix(".gz")
        except (OSError, EOFError, zlib.error):
            raise ValueError(f"{path}: the compressed file is damaged; export it again.") from None
    if not data.strip():
        raise ValueError(f"{path}: the file is empty; export it again.")
    if data[:4] == b"PAR1":
        return _parquet(path, data), []
    text = _decoded(path, data)
    if name.endswith((".csv", ".tsv")):
        return _table(path, text, "\t" if name.endswith(".tsv") else ",")
    return _json(path, text)


def _decoded(path, data):
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        raise ValueError(f"{path}: this is neither text in UTF-8 nor Parquet; save it as UTF-8.") from None


def _json(path, text):
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        whole = None
    if isinstance(whole, dict):
        inside = next((whole[key] for key in LISTS if isinstance(whole.get(key), list)), None)
        whole = [whole] if inside is None else inside
    if isinstance(whole, list):
        return _only_objects(path, [(f"row {number}", row) for number, row in enumerate(whole, 1)])
    found, problems = [], []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                found.append((f"line {number}", json.loads(line)))
            except (ValueError, RecursionError):
                problems.append(f"{path}, line {number}: this is not a whole JSON row; fix or delete the line.")
    if not found:
        raise ValueError(f"{path}: this is not JSON (lines or an array), CSV, TSV or Parquet; export it as one of "
                         "these, with the matching ending.")
    rows, others = _only_objects(path, found)
    return rows, problems + others


def _only_objects(path, found):
    rows = [(where, row) for where, row in found if isinstance(row, dict)]
    return rows, [f"{path}, {where}: this is not an object with named fields; fix or delete it." for where, row in found
                  if not isinstance(row, dict)]


def _table(path, text, separator):
    csv.field_size_limit(10 ** 9)
    table = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
    head = [name.strip() for name in table.fieldnames or []]
    if len(head) < 2 or len(set(head)) < len(head):
        raise ValueError(f"{path}: the first line must name at least two columns, each name once; it has {head[:5]}.")
    table.fieldnames = head
    rows, problems = [], []
    try:
        for row in table:
            if None in row or None in row.values():  # too many cells, or too few
                problems.append(f"{path}, line {table.line_num}: this row does not have {len(head)} cells; fix it.")
            else:
                rows.append((f"line {table.line_num}", {name: _cell(value) for name, value in row.items()}))
    except csv.Error as error:
        raise ValueError(f"{path}, line {table.line_num}: {error}; save it as a plain CSV file.") from None
    return rows, problems


def _cell(value):
    """Cells that hold JSON lists or objects, as pandas writes them, are read as such; numbers stay text."""
    if value[:1] in "[{" and value[-1:] in "]}" and value:
        try:
            return json.loads(value)
        except ValueError:
            pass
    return value


def _parquet(path, data):
    parquet, pyarrow = extra("pyarrow.parquet"), extra("pyarrow")
    try:
        table = parquet.read_table(pyarrow.BufferReader(data)).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path}: the Parquet file is damaged ({str(error).splitlines()[0][:80]}).") from None
    return [(f"row {number}", without_none(row)) for number, row in enumerate(table, 1)]


def without_none(value):
    """Arrow gives every struct in a column the fields of all of them; those that were not there are None."""
    if isinstance(value, dict):
        return {key: without_none(inner) for key, inner in value.items() if inner is not None}
    return [without_none(inner) for inner in value] if isinstance(value, list) else value
