"""However much is asked about a picture, faces are looked for and encoded once; changed pictures anew."""

from pathlib import Path

import pytest
from PIL import Image

from facemllm.data import read_dataset
from facemllm.evaluation import evaluate
from facemllm.evaluation.asking import Interviewer
from facemllm.evaluation.once import looking_once
from facemllm.evaluation.store import PredictionStore, made


class Counting:
    """A detector that counts the pictures it looks at."""

    def __init__(self):
        from facemllm.faces import create_detector

        self.detector, self.looked = create_detector("centerface"), 0

    def __call__(self, image, min_score=None):
        self.looked += 1
        return self.detector(image, min_score=min_score)


@pytest.fixture
def counted(built_in, monkeypatch):
    """The built-in model, counting the crops that reach its encoder and the pictures that are searched."""
    seen, detector = [], Counting()
    built_in.encoder.register_forward_hook(lambda module, given, out: seen.append(len(given[0])))
    monkeypatch.setattr("facemllm.faces.create_detector", lambda name: detector)
    return built_in, seen, detector


def test_each_picture_is_searched_and_encoded_once(counted, faces_root):
    model, seen, detector = counted
    samples = read_dataset("utkface", faces_root / "utkface", "all")[:6]
    options = {"with_heads": True, "likelihoods": True, "progress": False}
    report = evaluate(model, samples, **options)
    assert {"head", "likelihood"} <= report.tasks["gender"].keys()
    assert sum(seen) == 6
    assert detector.looked == 6
    assert "encode" not in vars(model)  # the model is as it was


def test_answers_are_those_of_looking_each_time(built_in, faces_root):
    samples = read_dataset("utkface", faces_root / "utkface", "all")[:6]
    pictures = {sample.id: sample.image for sample in samples}
    questions = ["How old is this person?", "What is the perceived gender of this person?"]
    options = {questions[1]: ("male", "female")}
    said = Interviewer(built_in, heads=["age"], options=options).ask(pictures, questions)
    for (_, one), path in zip(said, pictures.values(), strict=True):
        alone = [answer.text for answer in built_in.ask(path, questions, on_no_face="whole")]
        assert list(one["answers"].values()) == alone
        chances = built_in.choose(path, questions[1], options[questions[1]], on_no_face="whole")
        assert one["chosen"][questions[1]] == pytest.approx(chances, abs=1e-4)
        head = built_in.predict(path, head="age", on_no_face="whole")
        assert str(one["heads"]["age"])[:3] == str(head)[:3]


def test_looking_once_ends_with_the_batch(built_in, portrait):
    image = Image.open(portrait).convert("RGB").resize((112, 112))
    with looking_once(built_in):
        first = built_in.encode([image, image])
        assert (first[0] == first[1]).all()
        built_in.encoder.register_forward_hook(lambda *_: pytest.fail("encoded again"))
        assert (built_in.encode([image]) == first[:1]).all()
    with pytest.raises(pytest.fail.Exception, match="encoded again"):
        built_in.encode([image])


def test_a_picture_that_changed_is_asked_about_again(tmp_path):
    store = PredictionStore(tmp_path / "predictions.jsonl", "mine", "m")
    store.add("1", made(answers={"How old?": "34", "Who?": "?"}, picture="aa"))
    store.add("1", made(answers={"How old?": "50"}, picture="bb"))
    for one in (store, PredictionStore(tmp_path / "predictions.jsonl", "mine", "m")):
        assert one.get("1")["answers"] == {"How old?": "50"}
    asks = Interviewer(None)
    assert not asks.missing(store.get("1"), ["How old?"], "bb")
    assert asks.missing(store.get("1"), ["How old?"], "cc")
    assert not asks.missing(made(answers={"How old?": "34"}), ["How old?"], "cc")  # of before digests


def test_a_changed_file_changes_its_answer(tmp_path):
    from facemllm.data import FaceSample
    from facemllm.evaluation.baselines import Specialist

    def face(index: int, red: int) -> FaceSample:
        path = tmp_path / f"{index}.png"
        Image.new("RGB", (8, 8), (red, 0, 0)).save(path)
        return FaceSample(id=path.name, image=str(path), labels={"age": 30}, dataset="made", licence="own")

    looked = []

    def predict(picture):
        looked.append(picture.getpixel((0, 0))[0])
        return {"age": looked[-1]}

    samples = [face(index, 30) for index in range(3)]
    options = {"output_dir": tmp_path / "out", "progress": False}
    assert evaluate(Specialist(predict, "red"), samples, **options).tasks["age"]["mae"] == 0
    assert evaluate(Specialist(predict, "red"), samples, **options).tasks["age"]["mae"] == 0
    assert len(looked) == 3
    face(1, 60)
    assert evaluate(Specialist(predict, "red"), samples, **options).tasks["age"]["mae"] == 10
    assert looked == [30, 30, 30, 60]
    Path(samples[0].image).unlink()  # gone, so that it cannot be looked at: what was said stays
    assert evaluate(Specialist(predict, "red"), samples, **options).tasks["age"]["n"] == 3
