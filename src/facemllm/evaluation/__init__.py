"""Measuring what a model says about faces: questions, parser, metrics, report."""

from facemllm.evaluation.asking import Askable
from facemllm.evaluation.compare import Comparison, compare
from facemllm.evaluation.evaluator import evaluate
from facemllm.evaluation.parsing import PARSER_VERSION, Parsed, parse
from facemllm.evaluation.protocols import Protocol, load_protocol
from facemllm.evaluation.records import Record
from facemllm.evaluation.report import Report
from facemllm.evaluation.tasks import EvalTask, supported_tasks

__all__ = [
    "PARSER_VERSION", "Askable", "Comparison", "EvalTask", "Parsed", "Protocol", "Record", "Report",
    "compare", "evaluate", "load_protocol", "parse", "supported_tasks",
]  # fmt: skip
