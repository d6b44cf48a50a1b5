"""Re-annotation: photos in, captions and attribute labels of a vision-language model out."""

from facemllm.annotation.agreement import agreement_report
from facemllm.annotation.annotators import (
    ANNOTATORS,
    Annotator,
    Busy,
    NoAnswer,
    Question,
    Reply,
    Unusable,
    create_annotator,
)
from facemllm.annotation.budget import Budget
from facemllm.annotation.config import AnnotateConfig, AnnotatorConfig, RunConfig
from facemllm.annotation.filters import DenyList, Filter, LicenceFilter, NsfwFilter, SizeFilter
from facemllm.annotation.items import Item, Prepared, Rejection
from facemllm.annotation.judge import Patience
from facemllm.annotation.pipeline import Summary, annotate, dry_run
from facemllm.annotation.prepare import FacePreparer
from facemllm.annotation.prompt import Prompt, load_prompt
from facemllm.annotation.records import Annotation, Opinion, Picture, Provenance, Reject
from facemllm.annotation.sources import ImageSource, ShardSource, Source, create_source

__all__ = [
    "ANNOTATORS", "AnnotateConfig", "Annotation", "Annotator", "AnnotatorConfig", "Budget", "Busy",
    "DenyList",
    "FacePreparer", "Filter", "ImageSource", "Item", "LicenceFilter", "NoAnswer", "NsfwFilter", "Opinion",
    "Patience", "Picture", "Prepared", "Prompt", "Provenance", "Question", "Reject", "Rejection", "Reply",
    "RunConfig", "ShardSource", "SizeFilter", "Source", "Summary", "Unusable", "agreement_report", "annotate",
    "create_annotator", "create_source", "dry_run", "load_prompt",
]  # fmt: skip
