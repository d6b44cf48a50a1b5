"""The small parts: sources, filters, answers, captions, prompts."""

import io
import json
import tarfile

import pytest
from PIL import Image

from facemllm.annotation import (
    DenyList,
    FacePreparer,
    Item,
    LicenceFilter,
    NsfwFilter,
    Prepared,
    Rejection,
    create_source,
    load_prompt,
)
from facemllm.annotation.agreement import agreement_report
from facemllm.annotation.answer import Fault, Given, answer_model, read_answer, schema_of
from facemllm.annotation.budget import Budget, Estimate
from facemllm.annotation.entries import Totals, Usage
from facemllm.annotation.wording import check_caption, check_traits, neutral
from facemllm.core.errors import ConfigError, DatasetError

PROMPT = load_prompt("face")


# --- sources


def jpeg(colour="red", size=64, **options) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), colour).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def write_shard(path, samples: dict[str, dict], *, cut_in: str | None = None) -> None:
    """Write a shard as img2dataset does: jpg, json, txt."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for key, metadata in samples.items():
            parts = {"jpg": jpeg(), "json": json.dumps(metadata).encode(), "txt": b"an old caption"}
            for ending, content in parts.items():
                entry = tarfile.TarInfo(f"{key}.{ending}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    data = buffer.getvalue()
    # Cut in the middle of a file's content, which begins 512 bytes after its name.
    path.write_bytes(data if cut_in is None else data[: data.index(cut_in.encode()) + 600])


def test_shards_give_pictures_with_the_metadata_that_filters_need(tmp_path):
    write_shard(tmp_path / "00000.tar", {"000000000": {
        "url": "https://a.example/1.jpg", "NSFW": "UNSURE", "LICENSE": "?", "SAMPLE_ID": 12, "caption": "Ann",
        "sha256": "ab" * 32}})  # fmt: skip
    write_shard(tmp_path / "00001.tar", {"000010000": {"punsafe": 0.01, "LICENSE": "CC BY 4.0"}})
    source = create_source(tmp_path / "{00000..00001}.tar", licence="unknown")
    first, second = source
    assert (first.id, second.id) == ("00000/000000000", "00001/000010000")
    assert first.metadata == {
        "url": "https://a.example/1.jpg", "nsfw": 0.5, "licence": "unknown", "sample_id": "12", "sha256":
        "ab" * 32,
    }  # fmt: skip
    assert (second.metadata["nsfw"], second.metadata["licence"]) == (0.01, "CC BY 4.0")
    assert first.read() == jpeg()
    assert source.count() == 2
    assert [item.id for part in source.parts() for item in part] == [first.id, second.id]
    assert [item.id for item in create_source(tmp_path)] == [first.id, second.id]  # a folder of shards


def test_a_shard_that_ends_early_keeps_what_is_whole_and_says_so(tmp_path):
    write_shard(tmp_path / "a.tar", {"1": {}, "2": {}}, cut_in="2.jpg")
    items = list(create_source(tmp_path / "*.tar"))
    assert [item.id for item in items if item.broken is None] == ["a/1"]
    assert "ends early" in items[-1].broken
    assert FacePreparer(crop="none")(items[-1]).reason == "unreadable"


def test_a_folder_and_a_pattern_give_the_same_files(tmp_path):
    for name in ("b/2.jpg", "a/1.jpg", "a/3.PNG"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(jpeg())
    (tmp_path / "a" / "notes.txt").write_text("no picture")
    (tmp_path / "a" / "1.json").write_text('{"URL": "https://a.example/1.jpg"}')
    folder, pattern = create_source(tmp_path), create_source(f"{tmp_path}/**/*.*")
    assert [item.id for item in folder] == ["a/1.jpg", "a/3.PNG", "b/2.jpg"]
    assert sorted(item.id for item in pattern) == [item.id for item in folder]
    assert next(iter(folder)).metadata["url"] == "https://a.example/1.jpg"
    assert folder.count() == pattern.count() == 3


@pytest.mark.parametrize("pattern", ["nothing", "nothing/*.jpg", "nothing/*.tar"])
def test_a_source_without_pictures_is_refused(tmp_path, pattern):
    with pytest.raises(DatasetError, match="no pictures to annotate"):
        create_source(tmp_path / pattern)


# --- filters and crops


@pytest.mark.parametrize("entry", ["https://A.example/p/1.jpg#x", "AB" * 32, "77", "s/1"])
def test_withdrawn_pictures_are_known_by_address_hash_and_ids(tmp_path, entry):
    (tmp_path / "deny.txt").write_text(f"# withdrawn\n\n{entry}\n")
    deny = DenyList.read(tmp_path / "deny.txt")
    known = {"url": "http://a.example/p/1.jpg", "sha256": "ab" * 32, "sample_id": "77"}
    assert deny.before(Item("s/1", metadata=known)).reason == "denied"
    assert deny.before(Item("s/2", metadata={"url": "http://a.example/p/11.jpg", "sample_id": "7"})) is None


def test_a_withdrawn_file_is_known_by_its_own_hash():
    import hashlib

    data = jpeg("blue")
    prepare = FacePreparer([DenyList([hashlib.sha256(data).hexdigest()])], crop="none")
    assert prepare(Item("1", data=data)).reason == "denied"
    assert isinstance(prepare(Item("1", data=jpeg("green"))), Prepared)


def test_a_missing_deny_list_is_an_error(tmp_path):
    with pytest.raises(DatasetError, match="cannot read a deny-list"):
        DenyList.read(tmp_path / "none.txt")


def test_scores_and_licences():
    assert NsfwFilter(0.3).before(Item("1", metadata={"nsfw": 0.31})).reason == "nsfw"
    assert NsfwFilter(0.3).before(Item("1", metadata={"nsfw": 0.3})) is None
    assert NsfwFilter(0.3).before(Item("1")) is None
    assert NsfwFilter(0.3, required=True).before(Item("1")).reason == "nsfw_unknown"
    allowed = LicenceFilter(["cc by*", "public domain"])
    assert allowed.before(Item("1", metadata={"licence": "CC BY 4.0"})) is None
    assert allowed.before(Item("1", metadata={"licence": "?"})).reason == "licence"


def test_reasons_of_pictures_that_are_of_no_use(portrait):
    pytest.importorskip("onnxruntime", reason="needs facemllm[detect]")
    prepare = FacePreparer(min_face=40)
    assert prepare(Item("1", data=b"no picture")).reason == "unreadable"
    assert prepare(Item("1", data=jpeg("green", 200))).reason == "no_face"
    assert prepare(Item("1", broken="not downloaded")) == Rejection("unreadable", "not downloaded")
    small = io.BytesIO()
    Image.open(portrait).resize((100, 100)).save(small, "PNG")
    assert prepare(Item("1", data=small.getvalue())).reason == "face_too_small"


def test_a_crop_carries_no_metadata_and_is_not_enlarged(portrait):
    """A comment or EXIF field may say what the labels say."""
    pytest.importorskip("onnxruntime", reason="needs facemllm[detect]")
    photo = Image.open(portrait).convert("RGB")
    exif = Image.Exif()
    exif[0x010E] = "SECRET label"
    marked = io.BytesIO()
    photo.save(marked, "JPEG", comment=b"SECRET label", exif=exif)
    assert marked.getvalue().count(b"SECRET") == 2
    for crop in ("face", "none"):
        prepared = FacePreparer(crop=crop, crop_size=448)(Item("1", data=marked.getvalue()))
        assert b"SECRET" not in prepared.jpeg
        cut = Image.open(io.BytesIO(prepared.jpeg))
        assert cut.format == "JPEG"
        assert max(cut.size) <= 448
    x1, y1, x2, y2 = FacePreparer()(Item("1", data=marked.getvalue())).face.box
    small = FacePreparer(crop_scale=1.0, crop_size=448)(Item("1", data=marked.getvalue()))
    assert max(Image.open(io.BytesIO(small.jpeg)).size) == round(max(x2 - x1, y2 - y1))


# --- answers


MODEL = answer_model(["smiling", "5_o_clock_shadow"], {"gender": ("male", "female")})
GOOD = {
    "caption": "A face.",
    "attributes": {"smiling": "yes", "5_o_clock_shadow": "not visible"},
    "gender": "male",
}


def test_a_good_answer_is_read_also_from_a_fence():
    wanted = Given("A face.", GOOD["attributes"], {"gender": "male"})
    assert read_answer(json.dumps(GOOD), MODEL) == wanted
    assert read_answer(f"```json\n{json.dumps(GOOD, indent=1)}\n```", MODEL) == wanted


@pytest.mark.parametrize(
    ("text", "finish", "reason"),
    [
        (None, "stop", "not_json"),
        ("The person smiles.", "stop", "not_json"),
        (json.dumps(GOOD)[:40], "length", "cut"),
        (json.dumps(GOOD)[:40], "stop", "cut"),
        ("[]", "stop", "wrong_schema"),
        (json.dumps(GOOD | {"gender": "other"}), "stop", "wrong_schema"),
        (json.dumps(GOOD | {"more": 1}), "stop", "wrong_schema"),
        (json.dumps(GOOD | {"attributes": {"smiling": "yes"}}), "stop", "wrong_schema"),
        (json.dumps(GOOD | {"attributes": GOOD["attributes"] | {"smiling": "Yes"}}), "stop", "wrong_schema"),
        ("I’m sorry, but I can't help with that.", "stop", "refused"),
        ("[" * 100_000, "stop", "not_json"),
    ],
)
def test_a_bad_answer_has_a_reason(text, finish, reason):
    read = read_answer(text, MODEL, finish=finish, refusals=PROMPT.file.refusals)
    assert isinstance(read, Fault)
    assert read.reason == reason
    assert read.detail


def test_the_schema_is_plain_and_closed():
    schema = schema_of(MODEL)
    assert "$" not in json.dumps(schema)
    assert (
        schema["additionalProperties"] is schema["properties"]["attributes"]["additionalProperties"] is False
    )
    assert schema["required"] == ["caption", "attributes", "gender"]
    assert schema["properties"]["attributes"]["properties"]["smiling"]["enum"] == ["yes", "no", "not visible"]


# --- captions


@pytest.mark.parametrize(
    "caption",
    [
        "The person has short brown hair and smiles.", "Short brown hair, eyeglasses, slight smile.",
        "A smiling face.", "This photo shows a person with long, wavy hair who is looking at the camera.",
        "One. Two of them. Three are there. Four. Five is the last.",
        "An elderly person, around 80 years old.", "Curly ginger locks.", "Person in cap, grinning.",
    ],
)  # fmt: skip
def test_english_captions_pass(caption):
    assert check_caption(caption, PROMPT.file) is None


@pytest.mark.parametrize(
    ("caption", "reason"),
    [
        ("Eine Person mit braunen Haaren lächelt in die Kamera und trägt eine Brille.", "wrong_language"),
        ("Une femme aux cheveux bruns sourit devant un mur clair.", "wrong_language"),
        ("Una persona con cabello castaño sonríe a la cámara.", "wrong_language"),
        ("A pessoa olha para a câmera com óculos.", "wrong_language"),
        ("Una persona con capelli corti sorride in camera.", "wrong_language"),
        ("Een persoon met kort haar glimlacht naar de camera.", "wrong_language"),
        ("Ein Kind lacht.", "wrong_language"),
        ("Un niño sonríe.", "wrong_language"),
        ("一位戴眼镜的人在微笑", "wrong_language"),
        ("Человек с короткими волосами.", "wrong_language"),
        ("", "caption"),
        ("...", "wrong_language"),
        ("It is one. It is two. It is three. It is four. It is five. It is six.", "caption"),
    ],
)
def test_other_captions_do_not(caption, reason):
    assert check_caption(caption, PROMPT.file).reason == reason


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("An Asian woman smiles. She wears a hat.", "A person smiles. The person wears a hat."),
        ("A young Black man with a beard, and an old lady.", "A young person with a beard, and a person."),
        ("A person with black hair and a white shirt.", "A person with black hair and a white shirt."),
        ("An hour ago. His eyes are brown.", "An hour ago. Their eyes are brown."),
        ("The human looks at the female.", "The human looks at the person."),
        ("A policeman and two policewomen.", "A police officer and two police officers."),
        ("A schoolgirl smiles.", "A schoolchild smiles."),
        ("An actress beside a grandmother.", "An actor beside a grandparent."),
        ("A fisherman and an Asian businessman.", "A fisher and a businessperson."),
        ("A male face; a teenage girl in a cowboy hat.", "A face; a teenager in a wide-brimmed hat."),
    ],
)
def test_perceived_traits_leave_captions(before, after):
    assert neutral(before, PROMPT.file) == (after, before != after)


@pytest.mark.parametrize(
    ("caption", "reason"),
    [
        ("The bride smiles.", "unasked_trait"),
        ("A nun in a dark habit.", "unasked_trait"),
        ("A snowwoman.", "unasked_trait"),
        ("The person is male.", "unasked_trait"),
        ("The jaw is masculine.", "unasked_trait"),
        ("A Korean actor smiles.", "unasked_trait"),
        ("The person looks Mexican.", "unasked_trait"),
        ("The person is Asian.", "unasked_trait"),
        ("The hair is in an African hairstyle.", "unasked_trait"),
        ("A Latina with long hair.", "unasked_trait"),
        ("A dark-skinned person.", "unasked_trait"),
        ("A person with smooth, fair skin.", "unasked_trait"),
        ("The person has light brown skin.", "unasked_trait"),
        ("The skin tone is dark.", "unasked_trait"),
        ("The person is Black.", "unasked_trait"),
        ("A with long hair.", "broken_caption"),
        ("The person holds a.", "broken_caption"),
        # what must pass
        ("The human smiles; specimens and abdomen aside.", None),
        ("A person with black hair, a white shirt and clear skin.", None),
        ("The hair is black. White teeth and nail polish, in a French braid.", None),
        ("Dark hair, clear skin and brown eyes.", None),
        ("An old man and his wife, a policewoman.", None),  # after they are replaced
        ("The light is even, and the person looks at the camera with a smile.", None),
    ],
)
def test_what_cannot_be_made_neutral_is_not_used(caption, reason):
    fault = check_traits(caption, PROMPT.file)
    assert (fault and fault.reason) == reason


def test_a_word_of_a_trait_that_was_asked_for_is_no_fault():
    assert check_traits("The Korean bride smiles.", PROMPT.file, ["gender", "ethnicity"]) is None
    assert check_traits("The Korean bride smiles.", PROMPT.file, ["gender"]).reason == "unasked_trait"


def test_traits_that_were_asked_for_stay():
    text = "An Asian woman smiles."
    assert neutral(text, PROMPT.file, ["gender", "ethnicity"]) == (text, False)
    assert neutral(text, PROMPT.file, ["gender"])[0] == "A woman smiles."


# --- prompts


def test_gender_and_ethnicity_are_asked_only_by_name():
    plain, asked = PROMPT, load_prompt("face", ["gender", "ethnicity"])
    assert set(plain.schema["properties"]) == {"caption", "attributes"}
    assert "Do not guess a name, a gender, an ethnicity" in plain.user
    assert {"gender", "ethnicity"} <= set(asked.schema["properties"])
    assert "a gender" not in asked.user
    assert {"attractive", "male", "young", "gender", "ethnicity"}.isdisjoint(plain.attributes)
    assert len(plain.attributes) == 40
    assert plain.hash != asked.hash


def test_the_prompt_is_pinned():
    """A prompt is part of every label made with it. Whoever changes it raises its version and this hash."""
    assert PROMPT.version == "face/2"
    assert PROMPT.hash == "8f96549bac465ee07d045186673bf52c90e5256b8912a13af6a2d906d6413ca4"


def test_the_hash_covers_everything(tmp_path):
    values = PROMPT.file.model_dump()
    hashes = {PROMPT.hash}
    for key in ("version", "system", "user", "repair", "refusals", "attributes"):
        changed = dict(values)
        changed[key] = values[key] + 1 if key == "version" else (
            dict(list(values[key].items())[:-1]) if key == "attributes" else values[key][:-1]
        )  # fmt: skip
        path = tmp_path / "face.yaml"
        path.write_text(json.dumps(changed))
        hashes.add(load_prompt(path).hash)
    assert len(hashes) == 7


def test_a_wrong_name_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="unknown label to ask for"):
        load_prompt("face", ["beauty"])
    with pytest.raises(ConfigError, match="unknown attribute"):
        load_prompt("face", attributes=["attractive"])
    with pytest.raises(ConfigError, match="unknown prompt 'faces'"):
        load_prompt("faces")


# --- agreement and budget


def test_kappa_by_hand():
    """Cohen's own formula: (observed - chance) / (1 - chance)."""
    counts = [(1, "hat", "yes", "yes", 40), (1, "hat", "no", "no", 30), (1, "hat", "yes", "no", 20),
              (1, "hat", "no", "not visible", 10), (1, "bald", "no", "no", 5)]  # fmt: skip
    report = agreement_report(counts)["1"]
    observed, chance = 0.7, 0.6 * 0.4 + 0.4 * 0.5
    assert report["attributes"]["hat"]["kappa"] == pytest.approx((observed - chance) / (1 - chance), abs=1e-4)
    assert report["attributes"]["hat"]["same"] == 0.7
    assert report["attributes"]["bald"] == {"n": 5, "same": 1.0, "kappa": None}
    assert report["mean_kappa"] == report["attributes"]["hat"]["kappa"]


def test_a_budget_counts_what_is_under_way():
    spent = Totals(asked=12, sent=12, answered={"answer": 10}, usage=Usage(800, 200, 1.0))
    expected = Estimate(80, 20, 0.1)
    assert Budget(usd=1.3).admits(spent, 2, expected)  # 1.0 spent, 0.2 under way, 0.1 more
    assert not Budget(usd=1.29).admits(spent, 2, expected)
    assert Budget(tokens=1300).admits(spent, 2, expected)
    assert not Budget(tokens=1299).admits(spent, 2, expected)
    assert not Budget(images=12).admits(spent, 2, expected)
    assert Budget(images=12).admits(spent, 2, expected, new=False)
    # Nothing is known yet: the estimate counts.
    assert not Budget(usd=0.25).admits(Totals(asked=2, sent=2), 2, expected)
    # Requests that were never answered may have been charged.
    lost = Totals(asked=12, sent=15, answered={"answer": 10}, usage=Usage(800, 200, 1.0))
    assert not Budget(usd=1.3).admits(lost, 2, expected)


# --- a model of transformers in this process


def test_a_transformers_model_is_asked_with_the_picture_and_the_schema(tmp_path):
    """A small LLaVA with random weights: what it writes is no JSON, but it reads the prompt and writes."""
    import asyncio

    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    from facemllm.annotation import Question, create_annotator

    words = {word: index for index, word in enumerate(["<pad>", "<unk>", "</s>", "<image>", "a", "b", "c"])}
    raw = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", unk_token="<unk>", eos_token="</s>",
        additional_special_tokens=["<image>"],
    )  # fmt: skip
    template = (
        "{% for m in messages %}{% for c in m.content %}"
        "{{ '<image>' if c.type == 'image' else c.text }} {% endfor %}{% endfor %}"
    )
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"height": 32, "width": 32}, do_center_crop=False), tokenizer, patch_size=16,
        vision_feature_select_strategy="default", num_additional_image_tokens=1, chat_template=template,
    )  # fmt: skip
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=CLIPVisionConfig(image_size=32, patch_size=16, **small),
            text_config=LlamaConfig(vocab_size=len(words), num_key_value_heads=2, **small),
            image_token_id=3,
            vision_feature_layer=-1,
        )
    )
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    annotator = create_annotator("local", model=str(tmp_path / "model"), parameters={"max_new_tokens": 5})
    question = Question(PROMPT, jpeg(size=40), "1")
    reply = asyncio.run(annotator(question, key="k"))
    assert 1 <= reply.tokens_out <= 5
    assert annotator.parameters == {"max_new_tokens": 5, "do_sample": False}
    again = asyncio.run(annotator(Question(PROMPT, jpeg(size=40), "1", [("a b", "c c c")]), key="k"))
    assert again.tokens_in == reply.tokens_in + 5, "the re-ask holds both turns"
    assert reply.tokens_in > 4 + len(PROMPT.user.split()), "the picture's tokens, the prompt, the schema"
