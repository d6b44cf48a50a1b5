"""``facemllm annotate``: photos in, captions and attribute labels of a vision-language model out."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
import yaml

from facemllm.cli.options import AsJson, print_json
from facemllm.core.errors import ConfigError

_PANEL_ASK, _PANEL_PICTURES, _PANEL_RUN = "Annotator", "Pictures", "Run"


def annotate(
    images: Annotated[
        str,
        typer.Option(
            "--images",
            "-i",
            help="Folder or pattern of images, or img2dataset's .tar shards. Quote patterns.",
            metavar="PATTERN",
        ),
    ],
    out: Annotated[
        str,
        typer.Option("--out", "-o", help="Folder; the same again goes on where it stopped.", metavar="DIR"),
    ],
    endpoint: Annotated[
        str | None,
        typer.Option(
            help="Base address of an OpenAI-compatible server.", metavar="URL", rich_help_panel=_PANEL_ASK
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Model's name.", rich_help_panel=_PANEL_ASK)
    ] = None,
    annotator: Annotated[
        str, typer.Option(help="openai, local, replay, or a plug-in.", rich_help_panel=_PANEL_ASK)
    ] = "openai",
    replay: Annotated[
        str | None,
        typer.Option(
            help="Recorded answers, for --annotator replay.", metavar="FILE", rich_help_panel=_PANEL_ASK
        ),
    ] = None,
    second: Annotated[
        list[str] | None,
        typer.Option(
            help="Also ask this model, at --second-endpoint; repeats.",
            metavar="MODEL",
            rich_help_panel=_PANEL_ASK,
        ),
    ] = None,
    second_endpoint: Annotated[
        str | None,
        typer.Option(help="Default: --endpoint.", metavar="URL", rich_help_panel=_PANEL_ASK),
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "--parameter",
            help="Of generation; repeats. null takes one out.",
            metavar="KEY=VALUE",
            rich_help_panel=_PANEL_ASK,
        ),
    ] = None,
    structured: Annotated[
        str, typer.Option(help="json_schema, json_object or none.", rich_help_panel=_PANEL_ASK)
    ] = "json_schema",
    api_key_env: Annotated[
        str, typer.Option(help="Environment variable with the key.", rich_help_panel=_PANEL_ASK)
    ] = "OPENAI_API_KEY",
    terms: Annotated[
        str, typer.Option(help="Terms of the annotator's answers; stored.", rich_help_panel=_PANEL_ASK)
    ] = "not stated",
    price_in: Annotated[
        float | None, typer.Option(help="US dollars for a million tokens read.", rich_help_panel=_PANEL_ASK)
    ] = None,
    price_out: Annotated[
        float | None, typer.Option(help="US dollars for a million written.", rich_help_panel=_PANEL_ASK)
    ] = None,
    prompt: Annotated[str, typer.Option(help="Name, or a YAML file.", rich_help_panel=_PANEL_ASK)] = "face",
    include: Annotated[
        list[str] | None,
        typer.Option(
            help="Also ask for gender, ethnicity (perceived), age_bin or expression; repeats.",
            rich_help_panel=_PANEL_ASK,
        ),
    ] = None,
    licence: Annotated[
        str, typer.Option(help="Of pictures that say nothing.", rich_help_panel=_PANEL_PICTURES)
    ] = "unknown",
    allow_licence: Annotated[
        list[str] | None,
        typer.Option(help="Only such licences; repeats.", metavar="PATTERN", rich_help_panel=_PANEL_PICTURES),
    ] = None,
    deny_list: Annotated[
        str | None,
        typer.Option(
            help="Ids, URLs, SHA-256 of withdrawn pictures.", metavar="FILE", rich_help_panel=_PANEL_PICTURES
        ),
    ] = None,
    nsfw_max: Annotated[
        float | None,
        typer.Option(
            help="Highest NSFW score. If given, pictures without one are rejected; else 0.5.",
            rich_help_panel=_PANEL_PICTURES,
        ),
    ] = None,
    min_size: Annotated[
        int, typer.Option(help="Least shorter side, in pixels.", rich_help_panel=_PANEL_PICTURES)
    ] = 64,
    min_face: Annotated[
        int, typer.Option(help="Least side of a face, in pixels.", rich_help_panel=_PANEL_PICTURES)
    ] = 40,
    crop: Annotated[
        str,
        typer.Option(
            help="none: pictures are face crops.", metavar="face|none", rich_help_panel=_PANEL_PICTURES
        ),
    ] = "face",
    detector: Annotated[
        str, typer.Option(help="Name of a face detector.", rich_help_panel=_PANEL_PICTURES)
    ] = "centerface",
    format: Annotated[
        str, typer.Option("--format", help="jsonl or webdataset.", rich_help_panel=_PANEL_RUN)
    ] = "jsonl",
    shard_size: Annotated[int, typer.Option(help="Records to a shard.", rich_help_panel=_PANEL_RUN)] = 1000,
    concurrency: Annotated[
        int, typer.Option(help="Pictures asked about at once.", rich_help_panel=_PANEL_RUN)
    ] = 16,
    threads: Annotated[
        int, typer.Option(help="Pictures read and cropped at once.", rich_help_panel=_PANEL_RUN)
    ] = 2,
    timeout: Annotated[
        float, typer.Option(help="Seconds for one reply.", rich_help_panel=_PANEL_RUN)
    ] = 120.0,
    retries: Annotated[
        int, typer.Option(help="When the server is busy or silent.", rich_help_panel=_PANEL_RUN)
    ] = 8,
    budget_usd: Annotated[
        float | None, typer.Option(help="Money; needs prices.", rich_help_panel=_PANEL_RUN)
    ] = None,
    budget_tokens: Annotated[
        int | None, typer.Option(help="Tokens read and written.", rich_help_panel=_PANEL_RUN)
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="At most so many pictures are asked about.", rich_help_panel=_PANEL_RUN)
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            help="Run over a Ray cluster at this address; auto, or local to start one.",
            metavar="ADDRESS",
            rich_help_panel=_PANEL_RUN,
        ),
    ] = None,
    ray_workers: Annotated[int, typer.Option(help="Ray workers.", rich_help_panel=_PANEL_RUN)] = 2,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Count, try a few, estimate the cost; ask nobody.", rich_help_panel=_PANEL_RUN
        ),
    ] = False,
    json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Have a vision-language model describe the faces of many photos, with every source and cost on record.

    Writes records-*.jsonl, rejects-*.jsonl, summary.json and the ledger. Killed at any moment, the same
    command goes on: nothing is lost, nothing is asked or stored twice.
    """
    from facemllm.annotation import AnnotateConfig, RunConfig
    from facemllm.annotation import annotate as run
    from facemllm.annotation import dry_run as estimate
    from facemllm.core.config import validate

    shared = {"terms": terms, "price_in": price_in, "price_out": price_out}
    extra = {
        "parameters": _parameters(parameter or []), "structured": structured,
        "api_key_env": api_key_env, "timeout": timeout,
    }  # fmt: skip
    first = {"name": annotator, "options": _options(annotator, endpoint, model, replay, extra), **shared}
    seconds = [
        {
            "name": "openai",
            "options": _options("openai", second_endpoint or endpoint, name, None, extra),
            **shared,
        }
        for name in second or []
    ]
    if budget_usd is not None and price_in is None and price_out is None:
        raise ConfigError(
            "cannot keep to a budget of money",
            given=f"--budget-usd {budget_usd:g} without prices",
            expected="--price-in and --price-out, in US dollars for a million tokens",
            do="give the prices, or use --budget-tokens or --limit",
        )
    config = validate(
        AnnotateConfig,
        {
            "images": images, "licence": licence, "licences": tuple(allow_licence or ()), "deny_list":
            deny_list,
            "nsfw_max": 0.5 if nsfw_max is None else nsfw_max, "nsfw_required": nsfw_max is not None,
            "min_size": min_size, "min_face": min_face, "crop": crop, "detector": detector, "prompt": prompt,
            "include": tuple(include or ()), "annotator": first, "second": tuple(seconds), "format": format,
            "shard_size": shard_size,
        },
        source="the command line",
    )  # fmt: skip
    how = validate(
        RunConfig,
        {
            "concurrency": concurrency, "threads": threads, "ray": ray, "ray_workers": ray_workers,
            "patience": {"timeout": timeout, "retries": retries},
            "budget": {"usd": budget_usd, "tokens": budget_tokens, "images": limit},
        },
        source="the command line",
    )  # fmt: skip
    if dry_run:
        report = estimate(config, out, how)
        print_json(report) if json else _tell_estimate(report)
        return
    summary = run(config, out, how, progress=not quiet and not json and sys.stderr.isatty())
    print_json(summary.to_dict()) if json else _tell(summary.to_dict())


def _options(
    annotator: str, endpoint: str | None, model: str | None, replay: str | None, extra: dict[str, Any]
) -> dict[str, Any]:
    """Return a plug-in's options, or say which is missing."""
    needed = {
        "openai": {"--endpoint": endpoint, "--model": model},
        "local": {"--model": model},
        "replay": {"--replay": replay},
    }.get(annotator, {})
    missing = [name for name, value in needed.items() if value is None]
    if missing:
        raise ConfigError(
            f"the annotator {annotator!r} needs {' and '.join(missing)}",
            given=f"no {' and no '.join(missing)}",
            expected=", ".join(needed),
            do="for example --endpoint http://localhost:8000/v1 --model NAME, or another --annotator",
        )
    if annotator == "openai":
        return {"model": model, "endpoint": endpoint, **extra}
    if annotator == "replay":
        return {"path": replay}
    given = {"model": model, "endpoint": endpoint, "parameters": extra["parameters"]}
    return {name: value for name, value in given.items() if value not in (None, {})}


def _parameters(given: list[str]) -> dict[str, Any]:
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ConfigError(
                "cannot read a parameter", given=text, expected="KEY=VALUE", do="write for example top_p=0.9"
            )
        try:
            found[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ConfigError(
                "cannot read a parameter", given=text, expected="a value in YAML", do="quote the value"
            ) from None
    return found


def _tell_estimate(report: dict[str, Any]) -> None:
    cost = report["estimate"]
    rejected = ", ".join(f"{count} {reason}" for reason, count in report["rejects"].items()) or "none"
    print(f"{report['images']} pictures; of the first {report['tried']}, rejected: {rejected}")
    print(f"about {cost['asked']} to ask, {cost['tokens_in']:,} tokens in, {cost['tokens_out']:,} out")
    print(
        "cost unknown without --price-in and --price-out"
        if cost["usd"] is None
        else f"about ${cost['usd']:.2f}"
    )


def _tell(summary: dict[str, Any]) -> None:
    print(f"{summary['records']} records, {sum(summary['rejects'].values())} rejects in {summary['out']}")
    for reason, count in summary["rejects"].items():
        print(f"  {reason:16} {count}")
    requests, tokens = summary["requests"], summary["tokens"]
    cost = "cost unknown" if summary["cost_usd"] is None else f"${summary['cost_usd']:.4f}"
    print(f"{requests['sent']} requests, {tokens['in']:,} tokens in, {tokens['out']:,} out, {cost}")
    if summary["stopped"] == "limit":
        print("--limit is reached; raise it, or leave it out, and run the same command to go on")
    elif summary["stopped"]:
        print("stopped by the budget; raise it and run the same command to go on")
