"""What came of training a pretrained language model: answers, language, and attributes never trained on.

    python -m benchmarks.smol --model runs/smol/model --data data --limit 150

Three parts, each kept in ``results/smol.json`` as soon as it is done, so that an interrupted run goes on:

- ``answers``: the tasks trained on, asked in the usual words and in words never trained on, beside tiny;
- ``language``: how surprised the language model is by plain English, and what it says without a picture,
  before and after;
- ``zero_shot``: yes/no attributes that the recipe's ``leave_out`` kept from training, from the likelihoods
  of yes and no.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.english import PROMPTS, SENTENCES
from facemllm import AutoFaceMLLM
from facemllm.data import FaceSample, read_dataset
from facemllm.data.attributes import SUBJECTIVE
from facemllm.data.phrasings import Rule, question_set
from facemllm.data.vocabularies import EXPRESSIONS
from facemllm.evaluation import EvalTask, Record, supported_tasks
from facemllm.evaluation.protocols import load_protocol
from facemllm.evaluation.records import summarise
from facemllm.evaluation.tasks import Question
from facemllm.language import load_language_model
from facemllm.processing.template import encode_prompt, stop_ids
from facemllm.training import ThreeStageRecipe

OUT = Path(__file__).parent / "results" / "smol.json"
FACES = {
    "fer2013": ("validation", ("expression",)),
    "utkface": ("test", ("age", "gender")),
    "fairface": ("val", ("age", "gender", "ethnicity")),
    "pointing04": ("test", ("pose",)),
}
FOLDERS = {"pointing04": "HeadPoseImageDatabase"}
UNSEEN = {
    "smiling": ("fer2013", "expression", "Is the person smiling?"),
    "in a good mood": ("fer2013", "expression", "Is the person in a good mood?"),
    "upset": ("fer2013", "expression", "Does the person look upset?"),
    "elderly": ("utkface", "age", "Is this person elderly?"),
    "in profile": ("pointing04", "pose", "Is this a profile view?"),
}
"""Attribute -> dataset, task, and the first wording of the rule by which labels decide it."""
SEEN = {
    "a child": ("utkface", "age", "Is the person a child?"),
    "looking up": ("pointing04", "pose", "Is the person looking up?"),
}
"""For comparison: asked in training."""
KEPT = ("n", "answered", "mae", "mae_pan", "mae_tilt", "accuracy", "balanced_accuracy", "intervals")
RESAMPLES = 1000


def samples_of(
    name: str, data: Path, limit: int | None, keep: Callable[[FaceSample], bool]
) -> list[FaceSample]:
    """Return samples kept from training, drawn by a hash of their ids."""
    root = data / FOLDERS.get(name, name)
    split = FACES[name][0] if name in FACES else "all"
    found = [sample for sample in read_dataset(name, root, split) if keep(sample)]
    found.sort(key=lambda sample: hashlib.sha1(sample.id.encode()).digest())
    return found[:limit]


def answers(models: dict[str, Any], data: Path, limit: int, batch: int) -> dict[str, Any]:
    """Ask every task in its usual words and in words held out of training."""
    results: dict[str, Any] = {}
    for dataset, (_, names) in FACES.items():
        samples = samples_of(dataset, data, limit, lambda _: True)
        for task in supported_tasks(samples, names):
            held_out = [one.text for one in question_set(task.name).open if one.held_out]
            wordings = {"usual": [task.questions[0].text], "held out": held_out}
            every = [text for texts in wordings.values() for text in texts]
            for name, model in models.items():
                said = dict(_asked(model, samples, every, batch))
                for words, texts in wordings.items():
                    records = [r for r in _records(task, samples, every, said) if r.question.text in texts]
                    found = summarise(dataclasses.replace(task, notes=()), records)
                    key = f"{dataset} {task.name}"
                    results.setdefault(key, {}).setdefault(name, {})[words] = {
                        one: found[one] for one in KEPT if one in found
                    }
    return results


def _asked(
    model: Any, samples: Sequence[FaceSample], questions: Sequence[str], batch: int
) -> Iterator[tuple[str, list[str]]]:
    for start in range(0, len(samples), batch):
        part = samples[start : start + batch]
        found = model.ask([sample.image for sample in part], list(questions), on_no_face="whole")
        for sample, texts in zip(part, found, strict=True):
            yield sample.id, [answer.text for answer in texts]


def _records(
    task: EvalTask, samples: Sequence[FaceSample], questions: Sequence[str], said: dict[str, list[str]]
) -> Iterator[Record]:
    for sample in samples:
        for text, answer in zip(questions, said[sample.id], strict=True):
            question, parsed = Question(text), task.read(answer)
            truth = task.truth(sample, question)
            if truth is not None:
                yield Record(
                    sample=sample.id,
                    task=task.name,
                    question=question,
                    text=answer,
                    outcome=parsed.outcome,
                    prediction=task.prediction(parsed.label) if parsed.outcome == "answer" else None,
                    truth=truth,
                    cluster=sample.identity or sample.id,
                    groups=sample.groups,
                    image=sample.image,
                )


# --- language


def language(model: Any, base: str) -> dict[str, Any]:
    """Measure plain English before and after."""
    before = load_language_model(base)
    tokenizer = model.checked_processor().tokenizer
    return {
        "before": _english(before.model.eval(), before.tokenizer),
        "after": _english(model.language_model.eval(), tokenizer),
    }


def _english(model: Any, tokenizer: Any) -> dict[str, Any]:
    import torch

    total, count, said = 0.0, 0, {}
    with torch.inference_mode():
        for sentence in SENTENCES:
            ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer(sentence)["input_ids"]]])
            logits = model(input_ids=ids).logits[0, :-1].float()
            total += float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
            count += ids.shape[1] - 1
        for prompt in PROMPTS:
            ids = torch.tensor([encode_prompt(tokenizer, prompt, image_tokens=1, images=0).input_ids])
            out = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=24,
                do_sample=False,
                eos_token_id=stop_ids(tokenizer),
                pad_token_id=tokenizer.pad_token_id,
            )
            said[prompt] = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True).strip()
    right = [any(word in said[prompt].lower() for word in words) for prompt, words in PROMPTS.items()]
    return {
        "perplexity": round(math.exp(total / count), 3),
        "tokens": count,
        "prompts_right": f"{sum(right)} of {len(right)}",
        "said": said,
    }


# --- attributes never trained on


def zero_shot(models: dict[str, Any], data: Path, limit: int, batch: int) -> dict[str, Any]:
    """Ask yes/no questions about attributes; what is scored is the likelihood of yes."""
    results: dict[str, Any] = {}
    for part, wanted in (("unseen", UNSEEN), ("seen", SEEN)):
        for name, (dataset, task, first) in wanted.items():
            rule = _rule(task, first)
            samples = [
                sample
                for wish in (True, False)
                for sample in samples_of(dataset, data, limit // 2, _that(task, rule, wish))
            ]
            truth = np.array([_holds(task, rule, sample) for sample in samples], dtype=bool)
            texts = [one.text for one in rule.texts]
            row: dict[str, Any] = {
                "part": part,
                "dataset": dataset,
                "n": len(samples),
                "yes": int(truth.sum()),
            }
            for model_name, model in models.items():
                row[model_name] = scored(truth, _probabilities(model, samples, texts, batch))
                if task == "expression":  # what it sees, in words that it was trained on
                    row[model_name]["through_expression"] = scored(
                        truth, _through(model, samples, rule, batch)
                    )
            results[name] = row
    results |= _celeba(models, data, batch)
    return results


def _celeba(models: dict[str, Any], data: Path, batch: int) -> dict[str, Any]:
    """All of CelebA's attributes on the sample at hand: none of them was asked in training."""
    if not (data / "celeba").is_dir():
        return {}
    protocol = load_protocol("celeba-zero-shot")
    samples = samples_of("celeba", data, None, lambda sample: "attributes" in sample.labels)
    labelled = set(samples[0].labels["attributes"])  # perceived gender is a label of its own
    names = [
        name for name in (*protocol.seen, *protocol.unseen) if name in labelled and name not in SUBJECTIVE
    ]
    truth = np.array([[sample.labels["attributes"][name] for name in names] for sample in samples])
    varied = [index for index in range(len(names)) if 3 <= truth[:, index].sum() <= len(samples) - 3]
    questions = [protocol.ask(names[index]) for index in varied]
    row: dict[str, Any] = {
        "part": "unseen",
        "dataset": "celeba",
        "n": len(samples),
        "attributes": len(varied),
    }
    for model_name, model in models.items():
        shares = _each(model, samples, questions, batch)
        value, bounds = bootstrap(
            lambda rows, shares=shares: float(
                np.nanmean([auc(truth[rows, c], shares[rows, i]) for i, c in enumerate(varied)])
            ),
            len(samples),
        )
        row[model_name] = {
            "auc": value,
            "auc_interval": bounds,
            "each": {names[c]: round(auc(truth[:, c], shares[:, i]), 3) for i, c in enumerate(varied)},
        }
    return {"CelebA's attributes, mean": row}


def _rule(task: str, first: str) -> Rule:
    return next(rule for rule in question_set(task).rules if rule.texts[0].text == first)


def _holds(task: str, rule: Rule, sample: FaceSample) -> bool | None:
    label = sample.labels.get(task)
    if label is None:
        return None
    if task == "expression":
        return rule.answer(str(label), {})
    facts = {"years": (label, label)} if task == "age" else {axis: (a, a) for axis, a in label.items()}
    return rule.answer(None, facts)


def _that(task: str, rule: Rule, wish: bool) -> Callable[[FaceSample], bool]:
    return lambda sample: _holds(task, rule, sample) is wish


def _each(model: Any, samples: Sequence[FaceSample], questions: Sequence[str], batch: int) -> Any:
    """Return the probability of yes [samples, questions]."""
    rows = []
    for start in range(0, len(samples), batch):
        images = [sample.image for sample in samples[start : start + batch]]
        found = model.choose(images, list(questions), [["yes", "no"]] * len(questions), on_no_face="whole")
        rows += [[one["yes"] for one in per] for per in found]
    return np.array(rows)


def _probabilities(model: Any, samples: Sequence[FaceSample], questions: Sequence[str], batch: int) -> Any:
    """Return the mean probability of yes over wordings [samples]."""
    return _each(model, samples, questions, batch).mean(1)


def _through(model: Any, samples: Sequence[FaceSample], rule: Rule, batch: int) -> Any:
    """Return the probability of the expressions for which a rule holds [samples]."""
    question, rows = question_set("expression").canonical, []
    for start in range(0, len(samples), batch):
        images = [sample.image for sample in samples[start : start + batch]]
        found = model.choose(images, question, list(EXPRESSIONS), on_no_face="whole")
        rows += [sum(one[name] for name in rule.holds) for one in found]  # type: ignore[index]
    return np.array(rows)


def scored(truth: Any, share: Any) -> dict[str, Any]:
    """Return how well a number tells yes from no, with intervals, and how often yes is likelier.

    Example:
        >>> scored(np.array([True, False] * 20), np.array([0.9, 0.2] * 20))["auc"]
        1.0
    """
    area, area_bounds = bootstrap(lambda rows: auc(truth[rows], share[rows]), len(truth))
    right, right_bounds = bootstrap(lambda rows: balanced(truth[rows], share[rows] > 0.5), len(truth))
    return {
        "auc": area,
        "auc_interval": area_bounds,
        "balanced_accuracy": right,
        "balanced_accuracy_interval": right_bounds,
        "says_yes": round(float((share > 0.5).mean()), 3),
    }


def auc(truth: Any, share: Any) -> float:
    """Return the chance that a yes scores above a no; NaN where one of them is missing.

    Example:
        >>> auc(np.array([True, True, False, False]), np.array([0.9, 0.4, 0.4, 0.1]))
        0.875
    """
    yes, no = share[truth], share[~truth]
    if not len(yes) or not len(no):
        return math.nan
    return float(((yes[:, None] > no).mean() + (yes[:, None] >= no).mean()) / 2)


def balanced(truth: Any, said: Any) -> float:
    """Return the mean of the shares of yes and no that were found."""
    if truth.all() or not truth.any():
        return math.nan
    return float((said[truth].mean() + (~said[~truth]).mean()) / 2)


def bootstrap(statistic: Callable[[Any], float], count: int) -> tuple[float, list[float]]:
    """Return a statistic of all rows, and its 95 % interval over rows drawn with replacement."""
    rng = np.random.default_rng(0)
    drawn = [statistic(rng.integers(0, count, count)) for _ in range(RESAMPLES)]
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return round(statistic(np.arange(count)), 4), [round(float(low), 4), round(float(high), 4)]


def main() -> None:
    """Measure what is not measured yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="folder of the trained model")
    parser.add_argument("--data", type=Path, required=True, help="folder of the datasets' folders")
    parser.add_argument("--base", help="the language model before training; default: that of the recipe smol")
    parser.add_argument("--limit", type=int, default=150, help="faces a dataset or attribute")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--again", action="store_true", help="measure anew what is in the file")
    options = parser.parse_args()
    kept = {} if options.again or not options.out.is_file() else json.loads(options.out.read_text())
    smol = AutoFaceMLLM.from_pretrained(options.model, dtype="float32")
    models = {"smol": smol, "facemllm-tiny": AutoFaceMLLM.from_pretrained("facemllm-tiny")}
    asked = (options.data, options.limit, options.batch_size)
    base = options.base or str(ThreeStageRecipe.load("smol").language_model)
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "language": lambda: language(smol, base),
        "zero_shot": lambda: zero_shot(models, *asked),
        "answers": lambda: answers(models, *asked),
    }
    for name, measure in parts.items():
        if name not in kept:
            kept[name] = {"limit": options.limit, **measure()}
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(kept, indent=1) + "\n")
            print(f"{name}: {json.dumps(kept[name], indent=1)}", flush=True)


if __name__ == "__main__":
    main()
