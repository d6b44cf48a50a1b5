"""Benchmarks of others, scored twice: by their own rule, defects included, and as the answers were meant."""

from facemllm.evaluation.benchmarks.facebench import score_facebench
from facemllm.evaluation.benchmarks.facehumanbench import (
    facehumanbench_prompt,
    official_letter,
    score_facehumanbench,
)
from facemllm.evaluation.benchmarks.facexbench import facexbench_prompt, official_option, score_facexbench

__all__ = [
    "facehumanbench_prompt",
    "facexbench_prompt",
    "official_letter",
    "official_option",
    "score_facebench",
    "score_facehumanbench",
    "score_facexbench",
]
