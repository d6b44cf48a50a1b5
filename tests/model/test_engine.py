"""Many questions in one reading give what each gives alone; the trunk is read once and kept."""

import pytest
import torch

from facemllm.model import AutoFaceMLLM, engine
from facemllm.model.branches import Branches
from facemllm.model.packing import split
from facemllm.model.passes import KeysAndValues, NextTokens
from facemllm.model.trunk_cache import TrunkCache, weights_key
from facemllm.model.vision import views

QUESTIONS = [
    "How old is this person?",
    "What is the expression of this person, would you say?",
    "Is the person smiling?",
    "Hm?",
]


def texts(answers):
    return [answer.text for answer in answers]


def plainly(model, *arguments, method="ask", **options):
    """Ask the same question by question, through transformers' own generate."""
    model.plain_reasons = ["asked one by one, to compare"]
    try:
        return getattr(model, method)(*arguments, **options)
    finally:
        model.plain_reasons = []


@pytest.fixture(params=["small_model", "built_in", "llava"])
def model(request, llava_folder):
    if request.param == "llava":  # key and value heads are fewer than query heads there
        return AutoFaceMLLM.from_pretrained(llava_folder)
    return request.getfixturevalue(request.param)


def test_together_is_alone(model, portrait):
    assert model.plain_reasons == []
    long = 2 * NextTokens.ROOM + 2  # the buffer of answers grows on the way
    together = model.ask(portrait, QUESTIONS, max_new_tokens=long)
    alone = plainly(model, portrait, QUESTIONS, max_new_tokens=long)
    assert texts(together) == texts(alone)
    assert [a.confidence for a in together] == pytest.approx([a.confidence for a in alone], rel=1e-4)


def test_from_the_cache_is_the_same_and_reads_no_picture(model, portrait, monkeypatch):
    first = texts(model.ask(portrait, QUESTIONS, max_new_tokens=8))
    assert len(model.trunk_cache) == 1
    monkeypatch.setattr(type(model), "encode", lambda *_: pytest.fail("the picture was encoded again"))
    assert texts(model.ask(portrait, QUESTIONS, max_new_tokens=8)) == first
    assert model.ask(portrait, QUESTIONS[2], max_new_tokens=8).text == first[2]


def test_some_pictures_from_the_cache(model, portrait):
    from PIL import Image, ImageOps

    mirrored = ImageOps.mirror(Image.open(portrait).convert("RGB"))
    expected = [texts(plainly(model, p, QUESTIONS, max_new_tokens=6)) for p in (mirrored, portrait)]
    model.ask(portrait, "Hm?", max_new_tokens=1)
    found = model.ask([mirrored, portrait, mirrored], QUESTIONS, max_new_tokens=6)
    assert [texts(answers) for answers in found] == [*expected, expected[0]]


def test_a_changed_weight_empties_the_cache(small_model, portrait):
    before = small_model.ask(portrait, QUESTIONS, max_new_tokens=6)
    with torch.no_grad():
        small_model.connector.mlp.linear_2.weight.mul_(3)
    after = small_model.ask(portrait, QUESTIONS, max_new_tokens=6)
    assert texts(after) == texts(plainly(small_model, portrait, QUESTIONS, max_new_tokens=6))
    assert [a.confidence for a in before] != pytest.approx([a.confidence for a in after], rel=1e-3)


def test_batches_may_be_of_any_size(small_model, portrait):
    expected = [texts(answers) for answers in small_model.ask([portrait] * 3, QUESTIONS, max_new_tokens=4)]
    for size in (1, 3, 5):
        small_model.trunk_cache.clear()
        found = small_model.ask([portrait] * 3, QUESTIONS, max_new_tokens=4, batch_size=size)
        assert [texts(answers) for answers in found] == expected


def test_options_of_several_questions_as_a_tree(model, portrait):
    options = [["yes", "no"], ["a 12 year old", "a 13 year old", "a child", "34"], ["no", "no one", "yes"]]
    tree = model.choose(portrait, QUESTIONS[:3], options)
    for own, question, given in zip(tree, QUESTIONS, options, strict=False):
        alone = plainly(model, portrait, question, given, method="choose")
        assert list(own) == given
        assert own == pytest.approx(alone, rel=1e-3, abs=1e-7)


def test_shared_beginnings_are_read_once(small_model):
    processor = small_model.processor
    encoded = [processor.encode_qa("Who?", option) for option in ("a 12 year old", "a 13 year old")]
    cut = split(encoded)
    tree = Branches(cut.branches)
    shared = next(i for i, (a, b) in enumerate(zip(*cut.branches, strict=True)) if a != b)
    assert tree.total == sum(map(len, cut.branches)) - shared
    assert [[tree.tokens[i] for i in path] for path in tree.paths] == [
        list(branch) for branch in cut.branches
    ]


def test_a_planted_fault_is_seen(llava_folder, portrait, monkeypatch):
    """Positions that go on from the neighbour instead of the trunk change the answers."""
    small_model = AutoFaceMLLM.from_pretrained(llava_folder)
    expected = plainly(small_model, portrait, QUESTIONS, max_new_tokens=6)
    monkeypatch.setattr(Branches, "positions", lambda self, trunk: torch.arange(trunk, trunk + self.total))
    found = small_model.ask(portrait, QUESTIONS, max_new_tokens=6)
    assert [a.confidence for a in found] != pytest.approx([a.confidence for a in expected], rel=1e-3)


def test_odd_questions(model, portrait):
    """Nothing but a mark, the same twice, one the beginning of another, and a very long one."""
    odd = ["?", "Hm", "Hm?", "?", "Hm? Is the person smiling?", "a" * 200]
    together, alone = (
        model.ask(portrait, odd, max_new_tokens=5),
        plainly(model, portrait, odd, max_new_tokens=5),
    )
    assert texts(together) == texts(alone)
    assert [a.question for a in together] == odd
    assert model.ask(portrait, [], max_new_tokens=5) == []
    assert model.choose(portrait, [], ["yes", "no"]) == []
    assert model.ask([], odd) == []
    one = model.choose(portrait, odd, ["yes", "no"])
    assert one[0] == pytest.approx(one[3], rel=1e-5)
    assert one[2] == pytest.approx(plainly(model, portrait, "Hm?", ["yes", "no"], method="choose"), rel=1e-3)


def test_five_hundred_questions(small_model, portrait):
    many = [f"Is the person number {i}?" for i in range(500)]
    answers = small_model.ask(portrait, many, max_new_tokens=1)
    assert [a.question for a in answers] == many
    for i in (0, 127, 128, 499):  # batches of 128
        assert answers[i].text == small_model.ask(portrait, many[i], max_new_tokens=1).text
    chosen = small_model.choose(portrait, many, ["yes", "no"])
    assert chosen[300] == pytest.approx(small_model.choose(portrait, many[300], ["yes", "no"]), rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_as_good_as_one_by_one(llava_folder, portrait, dtype):
    """Logits are at most twice as far from float32 as those of padded rows, and one ulp."""
    wide = AutoFaceMLLM.from_pretrained(llava_folder, dtype=torch.float32)
    low = AutoFaceMLLM.from_pretrained(llava_folder, dtype=dtype)
    seen = views(portrait, wide.processor, crop="none")
    prompts = [wide.processor.encode_prompt(question) for question in QUESTIONS]

    def one_by_one(model):
        batch = model.processor.pad(prompts, with_labels=False, left=True)
        with torch.no_grad():
            features = model.encode([seen[0].crop]).expand(len(prompts), -1, -1)
            return model(**batch, encoder_features=features, logits_to_keep=1).logits[:, -1].float()

    exact = one_by_one(wide)
    together = engine.first_logits(low, seen, split(prompts))[0].float()
    bound = 2 * (one_by_one(low) - exact).abs().max() + torch.finfo(dtype).eps * exact.abs().max()
    assert (together - exact).abs().max() <= bound
    assert len(low.ask(portrait, QUESTIONS, max_new_tokens=4)) == len(QUESTIONS)


def test_generation_stops_question_by_question(built_in, portrait):
    answers = built_in.ask(portrait, ["Describe this face.", "How old is this person?"], max_new_tokens=60)
    assert len(answers[0].text.split()) > 5
    assert answers[1].text.isdigit()


def test_a_model_that_cannot_be_packed_is_asked_plainly(portrait):
    from transformers import GPTNeoConfig, GPTNeoForCausalLM

    from facemllm.language import LanguageModel, tiny_language_model
    from facemllm.model import FaceMLLM

    tokenizer = tiny_language_model(QUESTIONS, hidden_size=32, layers=1, heads=2, vocab_size=600).tokenizer
    config = GPTNeoConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_layers=2,
        attention_types=[[["global"], 2]],
        num_heads=2,
        bos_token_id=1,
        eos_token_id=2,
    )
    llm = LanguageModel(GPTNeoForCausalLM(config), tokenizer)
    model = FaceMLLM.from_parts(encoder="dlib-face", language_model=llm)
    assert "does not take its attention" in model.plain_reasons[0]
    assert len(model.ask(portrait, QUESTIONS, max_new_tokens=3)) == 4
    assert sum(model.choose(portrait, "Hm?", ["yes", "no"]).values()) == pytest.approx(1)


def test_the_cache_keeps_to_its_size():
    def trunk():
        return KeysAndValues([(torch.zeros(1, 1, 4, 8), torch.zeros(1, 1, 4, 8))])  # 256 bytes

    cache = TrunkCache(max_bytes=600)
    for name in "abc":
        cache.put(name, trunk())
    assert [cache.get(name) is not None for name in "abc"] == [False, True, True]
    assert cache.nbytes == 512
    cache.get("b")
    cache.put("d", trunk())
    assert [cache.get(name) is not None for name in "bcd"] == [True, False, True]
    small = TrunkCache(max_bytes=100)
    small.put("a", trunk())
    assert len(small) == 0


def test_the_key_follows_the_weights(small_model):
    before = weights_key(small_model)
    assert weights_key(small_model) == before
    small_model.load_state_dict(small_model.state_dict())
    assert weights_key(small_model) != before


def test_prompts_are_cut_behind_the_picture(small_model, portrait):
    processor = small_model.processor
    cut = split([processor.encode_prompt(question) for question in QUESTIONS])
    assert cut.trunk[-1] == processor.image_token_id
    assert processor.image_token_id not in cut.branches[0]
    assert split([processor.encode_prompt("a?", images=0)]) is None
    assert len(views(portrait, processor)) >= 1
