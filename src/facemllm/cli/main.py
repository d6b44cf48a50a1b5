"""The command ``facemllm``: thin commands over the library."""

from __future__ import annotations

import sys

import typer

from facemllm.cli import (
    annotate,
    ask,
    compare,
    demo,
    describe,
    evaluate,
    export,
    info,
    leaks,
    parse,
    questions,
    runs,
    stats,
    train,
)
from facemllm.core.errors import FaceMLLMError

app = typer.Typer(
    name="facemllm",
    help="Face perception for multimodal language models. For research; read the model card first.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("ask")(ask.ask)
app.command("describe")(describe.describe)
app.command("demo")(demo.demo)
app.command("info")(info.info)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("runs")(runs.runs)
app.command("compare")(compare.compare)
app.command("questions")(questions.questions)
app.command("parse")(parse.parse)
app.command("annotate")(annotate.annotate)
app.command("stats")(stats.stats)
app.command("leaks")(leaks.leaks)
app.command("export")(export.export)


def main() -> None:
    """Run the command; a user's error ends with its four parts and status 2, never a traceback."""
    try:
        app()
    except FaceMLLMError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output went away
        sys.exit(141)


if __name__ == "__main__":
    main()
