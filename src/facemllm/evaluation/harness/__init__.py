"""Our tasks and models inside the harnesses of others: lmms-eval and VLMEvalKit."""

from facemllm.evaluation.harness.lmms_tasks import write_lmms_tasks
from facemllm.evaluation.harness.rows import make_rows, score_rows
from facemllm.evaluation.harness.vlmevalkit import register_vlmevalkit, write_vlmevalkit_task

__all__ = ["make_rows", "register_vlmevalkit", "score_rows", "write_lmms_tasks", "write_vlmevalkit_task"]
