"""The benchmarks of others: each known defect of their rules shown, and the corrected score beside it."""

import json

import pytest

from facemllm.core.errors import DatasetError
from facemllm.evaluation.benchmarks import (
    facexbench_prompt,
    official_option,
    score_facebench,
    score_facexbench,
)
from facemllm.evaluation.benchmarks.facexbench import impossible_key

MOODS = ["happy", "sad", "angry", "neutral"]


def _file(*answers, options=MOODS, key="B", **fields):
    questions = {
        str(i): {
            "question_text": "Mood?",
            "options": options,
            "correct_answer_option": key,
            "prediction": text,
        }
        for i, text in enumerate(answers, 1)
    }
    return {
        "category": "attributes_expression", "sub-category": "expression", "num_images": "single",
        "questions": questions,
    } | fields  # fmt: skip


@pytest.mark.parametrize(
    ("text", "options", "official", "meant"),
    [
        ("A woman who looks sad", MOODS, "A", "B"),  # an article is an option
        ("Not happy, sad", MOODS, "A", "B"),  # the first option listed, though it is denied
        ("unhappy", MOODS, "A", "B"),  # an option within a word
        ("female", ["male", "female"], "A", "B"),
        ("B", MOODS, "B", "B"),
        ("(C) angry", MOODS, "C", "C"),
        ("Option D", MOODS, "D", "D"),
        ("The answer is B.", MOODS, "B", "B"),
        ("sad", MOODS, "B", "B"),
    ],
)
def test_defects_of_facexbench_are_reproduced_and_corrected(text, options, official, meant):
    assert official_option(text, options) == official
    result = score_facexbench([_file(text, options=options, key=meant)])
    assert result["official"]["accuracy"] == (100.0 if official == meant else 0.0)
    assert result["corrected"]["accuracy"] == 100.0
    assert bool(result["differences"]) == (official != meant)


def test_facexbench_counts_a_refusal_as_wrong_and_we_count_it_apart():
    result = score_facexbench([_file("I'm sorry, I can't help with images of people.", "B")])
    assert official_option("Sorry, no.", MOODS) is None
    assert result["official"] == {
        "n": 2, "accuracy": 50.0, "by_category": {"attributes_expression": {"n": 2, "accuracy": 50.0}},
        "by_sub-category": {"expression": {"n": 2, "accuracy": 50.0}},
        "by_num_images": {"single": {"n": 2, "accuracy": 50.0}},
    }  # fmt: skip
    assert (result["corrected"]["refused"], result["corrected"]["answered"]) == (1, 1)


def test_impossible_keys_are_left_out_and_listed():
    asked = {
        "question_text": "Who is older?", "correct_answer_option": "B", "prediction": "(C)",
        "options": ["Both are in the same age group", "None of the above", "Image 2", "Image 1"],
    }  # fmt: skip
    file = _file("B") | {"questions": {"94": asked, "95": _file("B")["questions"]["1"]}}
    result = score_facexbench([file])
    assert result["official"]["n"] == 2
    assert result["corrected"]["n"] == 1
    assert result["corrected"]["impossible"][0]["question"] == "94"
    assert impossible_key(asked | {"correct_answer_option": "C"}) is None
    assert impossible_key(asked | {"correct_answer_option": "E"}) == "the key is not the letter of an option"
    assert impossible_key({"options": ["x", "X"], "correct_answer_option": "A"}) == "two options are the same"
    assert "different options" in impossible_key(
        {"options": MOODS, "correct_answer_option": "A", "answer": "sad"}
    )


def test_facexbench_files_are_read_from_a_folder(tmp_path):
    (tmp_path / "one.json").write_text(json.dumps(_file("B", "C")))
    assert score_facexbench(tmp_path)["official"]["accuracy"] == 50.0
    (tmp_path / "two.json").write_text("{")
    with pytest.raises(DatasetError, match="not a FaceXBench file"):
        score_facexbench(tmp_path)
    with pytest.raises(DatasetError, match="no questions to score"):
        score_facexbench([])
    asked = {"question_text": "Which tool?", "options": ["one", "two"]}
    shown = facexbench_prompt({"category": "tools_use", "context": "Tools: x"}, asked)
    assert shown == "Tools: x\nWhich tool?\n(A) one\n(B) two\n"


def _line(kind, said, key, options=()):
    return {
        "question_id": "q", "image_id": "i.jpg", "question_type": kind, "options": list(options),
        "gt_answer": key, "answer_info": {"response": said},
    }  # fmt: skip


def test_facebench_compares_first_letters_and_we_do_not():
    result = score_facebench([_line("OEQ", "Brown", "Black"), _line("OEQ", "Auburn", "Auburn")])
    assert result["official"]["OEQ"]["bleu_score_1"] == 0.5  # brown is black, and auburn is not auburn
    assert result["corrected"]["OEQ"]["accuracy_all"] == 0.5
    assert [one["official"] for one in result["differences"]] == [True, False]


def test_facebench_drops_answers_that_hold_error():
    lines = [
        _line("SCQ", "terror", "terror", ["terror", "joy"]),
        _line("SCQ", "joy", "terror", ["terror", "joy"]),
    ]
    result = score_facebench(lines)
    assert result["official"]["SCQ"]["count"] == result["official"]["SCQ"]["error"] == 1
    assert result["official"]["SCQ"]["accuracy"] == 0
    assert result["corrected"]["SCQ"] == {"n": 2, "answered": 2, "accuracy_all": 0.5}


def test_facebench_needs_a_judge_where_we_read_the_answer():
    lines = [
        _line("TFQ", "Yes", "Yes", ["Yes", "No"]),
        _line("TFQ", "No, the person has no beard.", "No", ["Yes", "No"]),
    ]
    result = score_facebench(lines)
    assert result["official"]["TFQ"]["needs_judge"] == 1
    assert (result["official"]["TFQ"]["accuracy"], result["official"]["TFQ"]["accuracy_at_most"]) == (
        0.5,
        1.0,
    )
    assert result["corrected"]["TFQ"]["accuracy_all"] == 1.0
    judged = score_facebench(lines, judge=lambda said, options, kind: "No")
    assert judged["official"]["TFQ"]["accuracy"] == 1.0


def test_facebench_multiple_answers(tmp_path):
    options = ["Chin", "Cheek", "Lip"]
    lines = [
        _line("MCQ", ["Chin", "Lip"], ["Chin", "Lip"], options),
        _line("MCQ", "Chin", ["Chin", "Lip"], options),
        _line("MCQ", [], ["Chin"], options),
    ]  # fmt: skip
    path = tmp_path / "responses.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    result = score_facebench(path)
    assert (result["official"]["MCQ"]["count"], result["official"]["MCQ"]["miss"]) == (2, 1)
    assert result["official"]["MCQ"]["accuracy_score"] == pytest.approx((1 + 2 / 3) / 2, abs=1e-5)
    assert result["corrected"]["MCQ"]["accuracy_all"] == pytest.approx(1 / 3, abs=1e-5)
    with pytest.raises(DatasetError, match="not a FaceBench file"):
        score_facebench(tmp_path / "missing.jsonl")
