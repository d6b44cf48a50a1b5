import importlib.util
from pathlib import Path

import pytest
import yaml

from facemllm.core.errors import ConfigError
from facemllm.data.phrasings import question_set, usable
from facemllm.data.vocabularies import CELEBA_ATTRIBUTES
from facemllm.evaluation import evaluate
from facemllm.evaluation.protocols import Protocol, load_protocol

_spec = importlib.util.spec_from_file_location("oracle", Path(__file__).with_name("oracle.py"))
_oracle = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_oracle)

FIELDS = {
    "name": "mine", "version": 1, "dataset": "mine", "question": "Do you notice that the person {third}?",
    "seen": ["hat"], "unseen": ["scarf"],
}  # fmt: skip


def test_the_built_in_protocol_cuts_all_forty():
    protocol = load_protocol("celeba-zero-shot")
    assert len(protocol.seen) + len(protocol.unseen) == 40
    assert {*protocol.seen, *protocol.unseen} == set(CELEBA_ATTRIBUTES.labels)
    trained = {phrasing.text for phrasing in usable(question_set("attributes").yes_no, "train")}
    assert protocol.question not in trained
    assert len({protocol.ask(name) for name in CELEBA_ATTRIBUTES.labels}) == 40


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unseen": ["hat"]}, "seen or unseen, not both"),
        ({"unseen": []}, "at least one attribute"),
        ({"dataset": "celeba"}, "must be the attributes of celeba"),
        ({"related": {"scarf": ["tie"]}}, "must name attributes of the protocol: tie"),
        ({"question": "{aux} the person {rest}?"}, "must not be one that is trained on"),
        ({"speed": 1}, "speed"),
    ],
)
def test_a_wrong_protocol_is_refused(tmp_path, change, message):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(FIELDS))
    assert load_protocol(path).unseen == ("scarf",)
    path.write_text(yaml.safe_dump(FIELDS | change))
    with pytest.raises(ConfigError, match=message):
        load_protocol(path)
    with pytest.raises(ConfigError, match="no such protocol"):
        load_protocol("celeba-one-shot")


def test_seen_and_unseen_are_scored_apart(tmp_path):
    protocol = Protocol(**FIELDS)
    labels = [{"attributes": {"hat": i % 2 == 0, "scarf": i % 3 == 0, "tie": True}} for i in range(60)]
    samples = _oracle.make_samples(tmp_path, labels)

    class Knows(_oracle.Oracle):
        trained_attributes = ("hat",)

        def _answer(self, sample, question):
            assert question.startswith("Do you notice")
            return "yes" if sample.labels["attributes"]["hat"] else "no"  # knows hats only

    result = evaluate(Knows(samples), samples, protocol=protocol, progress=False).tasks["attributes"]
    assert result["protocol"]["seen"]["balanced_accuracy"] == 1.0
    assert result["protocol"]["unseen"]["balanced_accuracy"] == pytest.approx(0.5, abs=1e-5)
    assert result["n"] == 120
    assert "version 1" in result["notes"][0]

    class Cheats(Knows):
        trained_attributes = ("hat", "scarf")

    with pytest.raises(ConfigError, match="training asked about attributes that mine holds out"):
        evaluate(Cheats(samples), samples, protocol=protocol, progress=False)
    with pytest.raises(ConfigError, match="does not support the protocol celeba-zero-shot"):
        evaluate(Knows(samples), samples, protocol="celeba-zero-shot", progress=False)
