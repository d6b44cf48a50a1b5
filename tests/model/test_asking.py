"""Questions, options and heads about every face of a photo."""

import pytest
from PIL import Image

from facemllm.core.errors import ConfigError, ImageError


@pytest.fixture
def pair(portrait):
    one = Image.open(portrait).convert("RGB")
    both = Image.new("RGB", (1024, 512))
    both.paste(one.resize((512, 512)), (0, 0))
    both.paste(one.resize((400, 400)), (540, 60))
    return both


def test_options_and_heads_are_had_of_every_face(small_model, pair, portrait):
    small_model.add_head("mood", "classification", classes=["a", "b"])
    options = {"options": ["yes", "no"], "faces": "all"}
    of_pair, of_one = small_model.choose([pair, portrait], "Is this person smiling?", **options)
    assert (len(of_pair), len(of_one)) == (2, 1)
    assert all(sum(chances.values()) == pytest.approx(1) for chances in of_pair)
    assert of_pair[0] == pytest.approx(small_model.choose(pair, "Is this person smiling?", ["yes", "no"]))
    assert len(small_model.predict(pair, head="mood", faces="all")) == 2
    assert small_model.predict(pair, head="mood") == small_model.predict(pair, head="mood", faces="all")[0]
    assert small_model.predict([], head="mood") == []
    with pytest.raises(ConfigError, match="cannot choose faces"):
        small_model.predict(pair, head="mood", faces="first")


def test_what_cannot_be_looked_at_is_skipped_and_the_others_are_answered(
    small_model, portrait, tmp_path, caplog
):
    (tmp_path / "text.jpg").write_text("not a photo")
    photos = [portrait, tmp_path / "text.jpg", Image.new("RGB", (300, 200), "green"), portrait]
    options = {"on_no_face": "skip"}
    first, text, green, last = small_model.ask(photos, "a?", max_new_tokens=2, **options)
    assert (text, green) == (None, None)
    assert first.text == last.text == small_model.ask(portrait, "a?", max_new_tokens=2).text
    assert "photo 1 is skipped: cannot read" in caplog.text
    assert "photo 2 is skipped: no face found" in caplog.text
    every = small_model.ask(photos, ["a?", "b?"], faces="all", max_new_tokens=2, **options)
    assert [len(faces) for faces in every] == [1, 0, 0, 1]
    nothing = small_model.choose(photos[1:3], "a?", ["yes", "no"], **options)
    assert nothing == [None, None]
    assert small_model.ask(photos[1], "a?", **options) is None
    with pytest.raises(ImageError):
        small_model.ask(photos, "a?", max_new_tokens=2)
