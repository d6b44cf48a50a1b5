import json

import pytest
from typer.testing import CliRunner

typer = pytest.importorskip("typer")

from facemllm.cli.parse import parse  # noqa: E402
from facemllm.core.errors import FaceMLLMError  # noqa: E402


@pytest.fixture
def run():
    app = typer.Typer()
    app.command()(parse)
    return lambda *args, **options: CliRunner().invoke(app, list(args), **options)


def test_lines_in_lines_out(run):
    lines = [
        {"task": "age", "options": None, "text": "in her thirties"},
        {"task": "choice", "options": ["happy", "sad"], "text": "A woman who looks sad"},
        {"task": "yesno", "text": "I don't know."},
    ]
    result = run(input="\n".join(map(json.dumps, lines)) + "\n\n")
    assert result.exit_code == 0
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {"outcome": "answer", "label": 35.0},
        {"outcome": "answer", "label": "sad"},
        {"outcome": "refusal", "label": None},
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [("{", "line 1 is not an answer"), ('{"task": "age"}', "line 1 is not an answer"),
     ("[]", "line 1 is not an answer"),
     ('{"task": "choice", "text": "A", "options": [true]}', "options in line 1 are not texts"),
     ('{"task": "mood", "text": "A"}', "cannot read answers of the task 'mood'")],
)  # fmt: skip
def test_bad_lines_are_refused(run, line, message):
    result = run(input=line + "\n")
    assert isinstance(result.exception, FaceMLLMError)
    assert message in str(result.exception)


def test_faulty_lines_are_told_in_their_place_where_it_keeps_going(run):
    lines = [
        "{",
        '{"task": "age", "text": "34"}',
        '{"task": "mood", "text": "A"}',
        '{"task": "age", "text": "35"}',
    ]
    result = run("--keep-going", input="\n".join(lines) + "\n")
    assert result.exit_code == 0
    first, second, third, last = map(json.loads, result.stdout.splitlines())
    assert first == {"outcome": "invalid", "label": None, "error": "line 1 is not an answer"}
    assert "cannot read answers of the task 'mood'" in third["error"]
    assert (second["label"], last["label"]) == (34.0, 35.0)


def test_options_may_be_numbers(run):
    line = {"task": "choice", "options": [3, 8, 13, 18], "text": "B. 8"}
    assert json.loads(run(input=json.dumps(line) + "\n").stdout) == {"outcome": "answer", "label": "8"}
