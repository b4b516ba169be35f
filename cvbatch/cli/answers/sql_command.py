"""`cvbatch sql`: an SQL query over the rows of a run."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from cvbatch.cli.answers.common import print_answer
from cvbatch.cli.arguments import JSON_HELP, Subparsers, add_command_parser, add_output_argument, parse_positive
from cvbatch.cli.common import output_from_options

_ROWS_FOR_PEOPLE: Final = 40
_DESCRIPTION: Final = """\
Answer an SQL query with DuckDB, over the views 'images' (all columns), 'detections' (a row for each box) and 'segments'
(a row for each class in an image). Without a query, list the views and their columns. A query can read other files,
such as read_csv('truth.csv'), and changes nothing."""


def add_command(subparsers: Subparsers) -> None:
    """Add `sql` to the command line."""
    parser = add_command_parser(subparsers, "sql", "answer an SQL query over the predictions", _DESCRIPTION)
    parser.set_defaults(command=sql_command)
    add_output_argument(parser)
    parser.add_argument(
        "query", nargs="?", metavar="QUERY", help="the query in quotes; '-' reads it from standard input"
    )
    parser.add_argument(
        "--rows",
        type=parse_positive,
        metavar="N",
        help=f"print at most N rows (default: {_ROWS_FOR_PEOPLE}, with --json all)",
    )
    printed = parser.add_mutually_exclusive_group()
    printed.add_argument("--json", action="store_true", help=JSON_HELP)
    printed.add_argument("--to", metavar="FILE", help="write all rows to a file that ends in .parquet or .csv")


def sql_command(options: argparse.Namespace) -> int:
    """`cvbatch sql`."""
    from cvbatch.results.sql.query import SqlQuery, check_target
    from cvbatch.results.sql.result_table import result_table

    if options.query is None:
        return _list_views(options)
    output = output_from_options(options)
    if options.to is not None:
        check_target(options.to, output)
    text = sys.stdin.read() if options.query == "-" else options.query
    with SqlQuery.open(output, text) as query:
        if options.to is not None:
            query.write(options.to)
            sys.stdout.write(f"the result is in {options.to}\n")
            return 0
        rows, complete = query.first_rows(options.rows or (sys.maxsize if options.json else _ROWS_FOR_PEOPLE))
        columns = {field.name: str(field.type) for field in query.schema}
    answer = {"columns": columns, "rows": rows, "complete": complete}
    return print_answer(options, answer, lambda: result_table(list(columns), rows, complete=complete))


def _list_views(options: argparse.Namespace) -> int:
    from cvbatch.results.committed import open_output
    from cvbatch.results.console import facts_table
    from cvbatch.results.sql.views import make_views

    views = make_views(open_output(output_from_options(options)))
    answer = {name: {field.name: str(field.type) for field in view.schema} for name, view in views.items()}
    rows = [(name, ", ".join(columns)) for name, columns in answer.items()]
    return print_answer(options, {"views": answer}, lambda: facts_table(rows))
