import importlib.util
import json
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


def test_a_subsample_and_short_names_are_explained(page, tmp_path):
    samples = _oracle.make_samples(tmp_path, [{"age": 20 + i} for i in range(30)])
    part = evaluate(_oracle.Oracle(samples), samples, limit=12, progress=False)
    for text in (part.to_html(), part.to_markdown()):
        assert "12 of 30 faces, drawn by a hash of their ids" in text
        assert "cs5: share of ages that are at most five years off" in text
    for text in (page[0].to_html(), page[0].to_markdown()):
        assert "48 faces;" in text
        assert "drawn by" not in text


# --- in a browser

# A window cannot be narrower than 500 pixels, but a frame can. The copy that is looked at may run a script;
# the page itself forbids it.
_LOOK = """<script>addEventListener("load", () => {
  const sizes = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode());) {
    const parent = node.parentElement;
    if (!node.data.trim() || ["SCRIPT", "STYLE", "TITLE", "title"].includes(parent.tagName)) continue;
    const drawn = parent.ownerSVGElement ? parent.getScreenCTM() : {a: 1, b: 0};  // b: turned letters
    sizes.push(parseFloat(getComputedStyle(parent).fontSize) * Math.hypot(drawn.a, drawn.b));
  }
  const seen = {width: innerWidth, needs: document.documentElement.scrollWidth,
                smallest: Math.min(...sizes), texts: sizes.length};
  parent.postMessage(JSON.stringify(seen), "*");
})</script></body>"""
_FRAME = """<!doctype html><body style="margin:0"><iframe src="look.html" width="{width}" height="1500"
style="border:0"></iframe><script>addEventListener("message", e => {{ document.body.dataset.seen = e.data }})
</script></body>"""


def look(page: str, width: int, folder: Path) -> dict:
    """Return what a browser makes of a page: how wide it is, what it needs, its smallest letters, errors."""
    shown = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page, flags=re.DOTALL)
    (folder / "look.html").write_text(shown.replace("</body>", _LOOK))
    (folder / "frame.html").write_text(_FRAME.format(width=width))
    done = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
         f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=5000", "--dump-dom",
         (folder / "frame.html").as_uri()],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    found = re.search(r'data-seen="([^"]*)"', done.stdout)
    assert found, done.stderr[-1500:]
    return json.loads(found[1].replace("&quot;", '"')) | {"errors": "CONSOLE" in done.stderr}


def faults(seen: dict, width: int) -> list[str]:
    found = ["errors in the console"] if seen["errors"] else []
    found += [f"laid out for {seen['width']}"] if seen["width"] != width else []
    found += [f"needs {seen['needs']} pixels"] if seen["needs"] > width else []
    return found + ([f"letters of {seen['smallest']} pixels"] if seen["smallest"] < 11.999 else [])


needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium to look at the page with")


@needs_browser
@pytest.mark.parametrize("width", [1280, 390])
def test_page_is_readable_in_a_browser(page, tmp_path, width):
    seen = look(page[1].read_text(), width, tmp_path)
    assert faults(seen, width) == []
    assert seen["texts"] > 100


@needs_browser
def test_comparison_is_readable_on_a_telephone(page, tmp_path):
    from facemllm.evaluation import compare

    run = page[1].parent
    assert faults(look(compare([run, run]).to_html(), 390, tmp_path), 390) == []


@needs_browser
def test_a_page_that_is_not_readable_is_noticed(tmp_path):
    page = "<!doctype html><body><p style='width:700px;font-size:9px'>too wide</p></body>"
    assert faults(look(page, 390, tmp_path), 390) == ["needs 708 pixels", "letters of 9 pixels"]
    assert look("<body>a<script>undefined.x</script></body>", 390, tmp_path)["errors"]


@needs_browser
def test_page_renders_as_a_picture(page, tmp_path):
    shot = tmp_path / "shot.png"
    done = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
         "--hide-scrollbars", f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1280,1600",
         f"--screenshot={shot}", page[1].as_uri()],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr
    image = np.asarray(Image.open(shot).convert("L"))
    assert image.shape[1] == 1280
    assert 0.02 < (image < 250).mean() < 0.6  # something is drawn, on white
    assert (image[:, -6:] > 200).all()  # nothing runs over the right edge
