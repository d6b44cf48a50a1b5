"""A prompt and a parser are part of a score: neither may change unnoticed.

After a change that is meant: FACEMLLM_SNAPSHOT=write pytest tests/evaluation/test_snapshots.py. Where the
parser reads an answer differently, raise PARSER_VERSION; where a protocol's wording changes, its version.
"""

import hashlib
import json
import os
from pathlib import Path

import facemllm.evaluation
from facemllm.data import canonical_question
from facemllm.data.vocabularies import CELEBA_ATTRIBUTES
from facemllm.evaluation.parsing import PARSER_VERSION, parse
from facemllm.evaluation.protocols import load_protocol
from facemllm.evaluation.tasks import TASKS

SNAPSHOT = Path(__file__).with_name("snapshot.json")
FILES = (
    Path(facemllm.evaluation.__file__).parent / "data" / "answers.jsonl",
    Path(__file__).with_name("heldout_answers.jsonl"),
)


def readings() -> str:
    """Return a digest of what every known answer is read as."""
    digest = hashlib.sha256()
    for file in FILES:
        for line in file.read_text("utf-8").splitlines():
            case = json.loads(line)
            read = parse(case["task"], case["text"], case["options"])
            digest.update(json.dumps([read.outcome, read.label], sort_keys=True).encode())
    return digest.hexdigest()


def current() -> dict:
    protocol = load_protocol("celeba-zero-shot")
    attributes = {name: canonical_question("attributes", name) for name in CELEBA_ATTRIBUTES.labels}
    return {
        "questions": {task: canonical_question(task) for task in TASKS if task != "attributes"} | attributes,
        "protocols": {
            f"{protocol.name} {protocol.version}": {
                "unseen": list(protocol.unseen),
                "questions": [protocol.ask(name) for name in (*protocol.seen, *protocol.unseen)],
            }
        },
        "parser": {"version": PARSER_VERSION, "readings": readings()},
    }


def test_prompts_and_parser_are_those_of_the_snapshot():
    found = current()
    if os.environ.get("FACEMLLM_SNAPSHOT") == "write":
        SNAPSHOT.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    kept = json.loads(SNAPSHOT.read_text("utf-8"))
    assert found["questions"] == kept["questions"]
    assert found["protocols"] == kept["protocols"], "a changed protocol needs a new version"
    assert found["parser"] == kept["parser"], "answers are read differently: raise PARSER_VERSION"


def test_a_changed_prompt_is_noticed(monkeypatch):
    from facemllm.evaluation import protocols

    changed = protocols.load_protocol("celeba-zero-shot").model_copy(update={"question": "Say, {third}?"})
    monkeypatch.setattr(f"{__name__}.load_protocol", lambda name: changed)
    assert current()["protocols"] != json.loads(SNAPSHOT.read_text("utf-8"))["protocols"]


def test_a_changed_reading_is_noticed(monkeypatch):
    before = readings()
    real = parse
    monkeypatch.setitem(globals(), "parse", lambda task, text, options: real(task, text + " Happy.", options))
    assert readings() != before
