"""Datasets: labelled faces in, questions and captions out."""

from facemllm.data.answers import UNKNOWN, parse, render
from facemllm.data.captions import write_caption
from facemllm.data.export import EXPORT_FORMATS, export_dataset
from facemllm.data.fingerprints import fingerprint
from facemllm.data.forms import ALL_FORMS, FORMS
from facemllm.data.leaks import Leak, LeakReport, find_leaks
from facemllm.data.mirror import mirror_landmarks, mirror_sample
from facemllm.data.mixture import Mixture
from facemllm.data.pairs import PairDataset, read_pairs
from facemllm.data.readers import READERS, SampleStream, read_dataset, stream_dataset
from facemllm.data.records import Manifest, read_jsonl, read_manifest, write_jsonl, write_shards
from facemllm.data.rewording import reworded
from facemllm.data.schema import QA, Dataset, FacePair, FaceSample, Landmarks, SkipReport
from facemllm.data.statistics import Statistics
from facemllm.data.typing_habits import as_typed
from facemllm.data.unknown import write_unknown
from facemllm.data.verification import write_verification
from facemllm.data.writers import DEFAULT_TASKS, TASKS, canonical_question, write_questions

__all__ = [
    "ALL_FORMS", "DEFAULT_TASKS", "EXPORT_FORMATS", "FORMS", "QA", "READERS", "TASKS", "UNKNOWN",
    "Dataset", "FacePair", "FaceSample", "Landmarks", "Leak", "LeakReport", "Manifest", "Mixture",
    "PairDataset", "SampleStream", "SkipReport", "Statistics", "as_typed", "canonical_question",
    "export_dataset", "find_leaks", "fingerprint", "mirror_landmarks", "mirror_sample", "parse",
    "read_dataset", "read_jsonl", "read_manifest", "read_pairs", "render", "reworded",
    "stream_dataset", "write_caption", "write_jsonl", "write_questions", "write_shards",
    "write_unknown", "write_verification",
]  # fmt: skip
