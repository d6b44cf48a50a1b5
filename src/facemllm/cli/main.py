"""The command ``facemllm``: thin commands over the library."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from facemllm import __version__
from facemllm.cli import (
    annotate,
    ask,
    compare,
    demo,
    describe,
    evaluate,
    export,
    harness,
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
app.command("harness")(harness.harness)
app.command("parse")(parse.parse)
app.command("annotate")(annotate.annotate)
app.command("stats")(stats.stats)
app.command("leaks")(leaks.leaks)
app.command("export")(export.export)


# The base of typer's own usage errors: newer releases bring a click of their own, older ones use click's.
UsageError: Any = typer.BadParameter.__base__


def _show_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def facemllm(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Face perception for multimodal language models. For research; read the model card first."""


def main() -> None:
    """Run the command; a user's error ends with its four parts and status 2, never a traceback."""
    try:
        sys.exit(app(prog_name="facemllm", standalone_mode=False) or 0)
    except UsageError as error:
        if type(error).__name__ != "NoArgsIsHelpError":  # the help was shown already
            print(f"error: {_of_the_command_line(error)}", file=sys.stderr)
        sys.exit(2)
    except FaceMLLMError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        print("stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output went away
        sys.exit(141)
    except OSError as error:  # of the system: no such folder, no right to write, no space left
        print(f"error: {_of_the_system(error)}", file=sys.stderr)
        sys.exit(2)


def _of_the_command_line(error: Any) -> FaceMLLMError:
    command = error.ctx.command_path if error.ctx else "facemllm"
    usage = error.ctx.get_usage().removeprefix("Usage: ") if error.ctx else command
    return FaceMLLMError(
        "the command line is not understood",
        given=error.format_message(),
        expected=usage,
        do=f"see {command} --help",
    )


def _of_the_system(error: OSError) -> FaceMLLMError:
    place = f"{error.filename}: " if error.filename else ""
    return FaceMLLMError(
        "a file or an address cannot be used",
        given=f"{place}{error.strerror or error}",
        expected="files and folders that can be read and, where results go, written",
        do="check the path, your rights to it, and the space left",
    )


if __name__ == "__main__":
    main()
