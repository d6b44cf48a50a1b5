"""The benchmarks of others: each known defect of their rules shown, and the corrected score beside it."""

import json

import pytest

from facemllm.core.errors import DatasetError
from facemllm.evaluation.benchmarks import (
    facehumanbench_prompt,
    facexbench_prompt,
    official_letter,
    official_option,
    score_facebench,
    score_facehumanbench,
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


@pytest.mark.parametrize(
    ("text", "options", "official", "meant"),
    [
        ("b", MOODS, None, "B"),  # a small letter is nothing
        ("Sad", MOODS, None, "B"),  # nor is a capital of an option's text
        ("13", ["3", "13", "30"], "A", "B"),  # a number within a number
        ("It is not A, it is B.", MOODS, "A", "B"),  # the first letter, though it is denied
        ("happy? no. sad", MOODS, "A", "B"),
        ("I think that B is right", ["a", "b", "c", "d", "e", "f", "g", "h", "i"], "I", "B"),  # a pronoun
    ],
)
def test_more_defects_of_facexbench(text, options, official, meant):
    test_defects_of_facexbench_are_reproduced_and_corrected(text, options, official, meant)


def test_facexbench_counts_an_unread_answer_as_right_where_the_key_is_missing():
    file = _file("I cannot say", key=None)
    result = score_facexbench([file])
    assert result["official"]["accuracy"] == 100.0
    assert result["corrected"]["impossible"][0]["fault"] == "the key is not the letter of an option"


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


def test_facebench_reads_the_judge_by_occurrence():
    options = ["Lip", "Upper Lip", "Chin"]
    line = _line("MCQ", "the upper lip", ["Upper Lip"], options)
    judged = score_facebench([line], judge=lambda said, options, kind: "Upper Lip")
    assert judged["official"]["MCQ"]["accuracy_score"] == pytest.approx(
        2 / 3, abs=1e-5
    )  # "Lip" is in it, too
    assert judged["corrected"]["MCQ"]["accuracy_all"] == 0.0  # both are said
    assert score_facebench([line])["official"]["MCQ"]["needs_judge"] == 1


def test_facebench_compares_only_the_first_of_a_list():
    lines = [_line("OEQ", ["brown", "long"], ["brown", "short"])]
    assert score_facebench(lines)["official"]["OEQ"]["bleu_score_1"] == 1.0


def test_facebench_has_the_scores_of_its_packages():
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    lines = [_line("OEQ", "Dark brown hair", "Brown hair"), _line("OEQ", ["x y", "z"], ["x y w"])]
    one, both = (score_facebench(lines[:n])["official"]["OEQ"] for n in (1, 2))
    # Two of three words are right, and all of the key's two: F is 4/5; of pairs of words one of two and one.
    assert (one["rouge1"], one["rougeL"], one["rouge2"]) == (0.8, 0.8, pytest.approx(2 / 3, abs=1e-5))
    assert one["fmeasure"] == one["bleu_score_1"] == 0.0  # "d" is not "b"
    smooth = SmoothingFunction().method1
    listed = sentence_bleu([["x", "y", "w"]], ["x", "y"], smoothing_function=smooth)
    assert both["bleu_score"] == pytest.approx(listed / 2, abs=1e-5)
    assert both["precision"] == pytest.approx((2 / 3) / 2, abs=1e-5)  # of the key's three words two are said
    assert both["recall"] == pytest.approx(1 / 2, abs=1e-5)
    assert (both["rouge1"], both["rouge_count"]) == (0.8, 1)  # the rule has no ROUGE of lists


def test_facebench_without_the_packages_has_bleu_1_alone(monkeypatch):
    monkeypatch.setattr("facemllm.evaluation.benchmarks.facebench.has_packages", lambda: False)
    official = score_facebench([_line("OEQ", "Brown", "Black")])["official"]["OEQ"]
    assert official == {"count": 1, "miss": 0, "error": 0, "needs_judge": 0, "bleu_score_1": 1.0}


@pytest.mark.parametrize("said", ["Brown", "Black hair, short", "an apple", "B"])
@pytest.mark.parametrize("key", ["Black", "brown", ["Black", "Brown"]])
def test_our_bleu_1_is_that_of_the_package(said, key):
    from facemllm.evaluation.benchmarks.facebench import _normal, first_letter_bleu
    from facemllm.evaluation.benchmarks.facebench_text import text_scores

    scores = text_scores(said, key, _normal(said[0]), _normal(key[0]))
    assert scores["bleu_score_1"] == pytest.approx(first_letter_bleu(said, key))


def test_facebench_by_view_and_what_is_missed():
    lines = [
        _line("TFQ", "Yes", "Yes", ["Yes", "No"]) | {"metadata": {"view": "Appearance"}},
        _line("TFQ", "No", "Yes", ["Yes", "No"]) | {"metadata": {"view": "Identity"}},
        _line("MCQ", "", ["Chin"], ["Chin", "Lip"]),
        _line("TFQ", None, "Yes", ["Yes", "No"]),
        _line("OEQ", {"a": 1}, "b"),
        _line("SCQ", ["terror"], "terror", ["terror"]),
    ]
    official = score_facebench(lines)["official"]
    assert official["by_view"]["appearance"]["TFQ"]["accuracy"] == 1.0
    assert official["by_view"]["identity"]["TFQ"]["accuracy"] == 0.0
    assert official["by_view"]["identity"]["TFQ"]["f1_score"] == 0.0
    assert official["TFQ"]["miss"] == 1
    assert official["MCQ"]["needs_judge"] == 1  # an empty text is no miss there
    assert official["OEQ"]["error"] == 1
    assert official["SCQ"]["needs_judge"] == 1  # a list holds no "error" unless an element is just that


def test_facebench_normalises_signs_as_its_rule_does():
    from facemllm.evaluation.benchmarks.facebench import first_letter_bleu

    assert first_letter_bleu(["dark-brown"], ["dark brown"]) == 1.0
    assert first_letter_bleu(["dark-brown, red - ish"], ["darkbrown red ish"]) == 1.0  # "-" stands by a space
    assert first_letter_bleu(["1.5."], ["1.5"]) == 1.0
    assert first_letter_bleu(["two"], ["2"]) == 1.0
    assert first_letter_bleu(["the"], ["the"]) == 0.0


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


# --- Face-Human-Bench

AGE = "face_age_basic_5"


def _result(
    output, *, turn=0, answer=1, task="face_age_basic_5", version="cropped", options=(3, 8, 13, 18), **more
):
    sample = {"QA": {"question": "How old?", "options": list(options), "answer": answer}}
    text, key = facehumanbench_prompt(sample, turn)
    return {
        "task_type": task, "data_version": version, "sample_info": sample,
        "eval": [{"round": turn, "text": text, "answer": key, "output": output, **more}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("output", "official", "meant"),
    [
        ("B", "B", "B"),
        ("B. 8", "B", "B"),
        ("(B)", "B", "B"),
        ("选项B", "B", "B"),
        ("答案是B。", "B", "B"),
        ("b", "b", "B"),  # one character is the answer, whatever it is
        ("It is not A, but B", "A", "B"),  # a denied letter with a comma
        ("Option B, unlike A.", None, "B"),  # two letters: the judge
        ("The answer is B", None, "B"),  # no sign after the letter: the judge
        ("8", "8", "B"),
        ("The child is about 8 years old.", None, "B"),
        ("A child of about 8, seen at NASA.", "A", "B"),  # the end of a word
    ],
)
def test_defects_of_facehumanbench_are_reproduced_and_corrected(output, official, meant):
    assert official_letter(output) == official
    result = score_facehumanbench([_result(output)])
    scores = result["official"]["by_subset"]["face_age_basic_5-cropped"]
    assert (scores["right"], scores["needs_judge"]) == (official == meant, official is None)
    assert result["corrected"]["by_subset"]["face_age_basic_5-cropped"]["right"] == 1
    assert bool(result["differences"]) == (official != meant)


def test_facehumanbench_takes_the_first_letter_of_what_its_judge_says():
    results = [_result("I would rather not say", answer=2), _result("About eight", answer=1)]
    said = score_facehumanbench(results, judge=lambda text, output, language: "Cannot tell")
    assert (
        said["official"]["by_subset"]["face_age_basic_5-cropped"]["right"] == 1
    )  # "C" is the key of the first
    assert said["corrected"]["refused"] == 1
    none = score_facehumanbench(results, judge=lambda text, output, language: "X")["official"]
    assert none["accuracy"] == 0.0
    assert "answered_accuracy" not in none  # its own script divides by zero
    kept = score_facehumanbench([_result("eh", final_answer="B")])["official"]
    assert kept["accuracy"] == 1.0


def test_facehumanbench_turns_options_and_means_over_levels(tmp_path):
    results = [
        _result("A. 8", turn=1),
        _result("B. 8", turn=1),
        _result("C", task="human_action_basic", version="boxed", options=("run", "sit", "eat"), answer=2),
        _result("The person is running.", task="face_expression_basic", options=("joy", "fear"), answer=0),
    ]
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"results": results, "language": "en"}))
    found = score_facehumanbench(path)
    assert found["official"]["by_level"]["face/age"]["accuracy"] == 0.5
    assert found["official"]["by_level"]["face/expression"]["accuracy_at_most"] == 1.0
    assert found["official"]["by_level"]["face"]["accuracy"] == 0.25
    assert found["official"]["accuracy"] == (0.25 + 1.0) / 2
    assert "face_recognition_mask-cropped" in found["official"]["missing"]
    contradicted = found["differences"][0]
    assert (contradicted["official"], contradicted["corrected"]) == ("B", None)  # letter and text contradict
    path.write_text("{")
    with pytest.raises(DatasetError, match="not a Face-Human-Bench file"):
        score_facehumanbench(path)
    with pytest.raises(DatasetError, match="no results to score"):
        score_facehumanbench({"results": []})
    with pytest.raises(DatasetError, match="result 0 is not one of Face-Human-Bench"):
        score_facehumanbench([{"eval": []}])


def test_facehumanbench_reads_chinese_files():
    sample = {"QA": {"question": "多大?", "options": ["高兴", "悲伤"], "answer": 1}}
    text, key = facehumanbench_prompt(sample, 0, "zh")
    assert text == "问题: 多大?\nA. 高兴\nB. 悲伤\n请从以上选项中选择正确的答案。"
    assert key == "B"
    result = _result("这个人看起来很悲伤。", options=("高兴", "悲伤"))
    assert score_facehumanbench({"results": [result], "language": "zh"})["corrected"]["answered"] == 1
