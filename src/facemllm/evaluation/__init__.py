"""Measuring what a model says about faces: questions, parser, metrics, report."""

from facemllm.evaluation.asking import Askable
from facemllm.evaluation.evaluator import evaluate
from facemllm.evaluation.parsing import PARSER_VERSION, Parsed, parse
from facemllm.evaluation.records import Record
from facemllm.evaluation.report import Report
from facemllm.evaluation.tasks import EvalTask, supported_tasks

__all__ = [
    "PARSER_VERSION", "Askable", "EvalTask", "Parsed", "Record", "Report", "evaluate", "parse",
    "supported_tasks",
]  # fmt: skip
