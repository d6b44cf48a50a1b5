import importlib.util
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facemllm.evaluation import evaluate
from facemllm.evaluation.sheet import worst

_spec = importlib.util.spec_from_file_location("oracle", Path(__file__).with_name("oracle.py"))
_oracle = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_oracle)

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))),
    None,
)
EVIL = "<script>alert(1)</script><img src=http://example.org/x>"
VOID = {"meta", "link", "img", "br", "rect", "path", "circle", "polyline"}


class Reader(HTMLParser):
    """Notes what a page holds, and that every element is closed."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.addresses = [], set(), []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "xlink:href", "srcset")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def problems(page: str) -> list[str]:
    """Return what makes a page depend on something beside it, or malformed."""
    reader = Reader()
    reader.feed(page)
    found = [f"not closed: {tag}" for tag in reader.open]
    found += [a for a in reader.addresses if not a.startswith(("data:", "#"))]
    found += [f"has {tag}" for tag in reader.tags & {"script", "iframe", "object"}]
    return found + re.findall(r"url\([^)]*\)|@import", page)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    kinds = ["happy", "sad", "angry"]
    labels = [
        {"expression": kinds[i % 3], "age": 20 + i % 50, "pose": {"pan": i % 60 - 30, "tilt": 5}}
        for i in range(48)
    ]
    groups = [
        {"gender": "female" if i % 2 else "male", "ethnicity": EVIL if i % 3 else "asian"} for i in range(48)
    ]
    samples = _oracle.make_samples(folder, labels, groups=groups)
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    noise[0, 0] = (0, 0, 7)
    Image.fromarray(noise).save(folder / "0.png")

    def spoil(sample, question, text):
        index = int(sample.id.split(".")[0])
        if index % 10 == 0:
            return f"The person looks disgusted {EVIL}" if "expression" in question else "I can't tell."
        return text

    report = evaluate(_oracle.Oracle(samples, spoil), samples, progress=False, model_name=EVIL)
    report.save(folder / "report", plots=False)
    return report, folder / "report" / "report.html"


def test_page_needs_nothing_beside_it(page):
    text = page[1].read_text()
    assert problems(text) == []
    assert "<svg" in text
    assert "data:image/jpeg;base64," in text
    assert "default-src 'none'" in text
    assert "more than chance" in text or "within chance" in text


def test_a_page_that_needs_something_is_noticed():
    assert problems("<p><script>1</script></p>") == ["has script"]
    assert problems('<div><img src="https://example.org/a">') == [
        "not closed: div",
        "https://example.org/a",
    ]


def test_faces_are_blurred_unless_asked(page):
    report, _ = page
    blurred, shown, none = (report.to_html(faces=faces) for faces in ("blurred", "shown", "none"))
    assert "faces blurred" in blurred
    assert "faces blurred" not in shown
    assert "data:image" not in none
    assert _detail(shown) > 5 * _detail(blurred)


def _detail(text: str) -> float:
    """Return how much neighbouring pixels of the first picture differ: picture 0 is noise."""
    import base64
    import io

    data = re.search(r"data:image/jpeg;base64,([^\"]+)", text)[1]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("L"), dtype=float)
    return float(np.abs(np.diff(pixels, axis=1)).mean())


def test_the_sheet_shows_the_worst_first(page):
    report, _ = page
    errors = [error for _, error in worst(report.records, "expression")]
    assert errors == sorted(errors, reverse=True)
    assert worst(report.records, "age") == []  # every age that was answered was right


@pytest.mark.skipif(BROWSER is None, reason="no chromium to look at the page with")
@pytest.mark.parametrize("width", [1280, 390])
def test_page_renders_in_a_browser(page, tmp_path, width):
    shot = tmp_path / "shot.png"
    done = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
         "--hide-scrollbars",
         f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},1600", f"--screenshot={shot}",
         page[1].as_uri()],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr
    image = np.asarray(Image.open(shot).convert("L"))
    assert image.shape[1] == width
    assert 0.02 < (image < 250).mean() < 0.6  # something is drawn, on white
    assert (image[:, -6:] > 200).all()  # nothing runs over the right edge
