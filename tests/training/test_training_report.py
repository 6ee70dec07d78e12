import re
from html.parser import HTMLParser
from pathlib import Path

from tests.training.test_diagnosis import log
from training.run_log import MOST_POINTS, thinned
from training.session import row_loaders
from training.training_report import training_page


class Page(HTMLParser):
    """Collects what a browser would be told to fetch or run, and checks that tags close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.foreign: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs) -> None:
        if tag not in ("meta", "wbr"):
            self.open.append(tag)
        values = dict(attrs)
        if tag in ("script", "img", "link", "iframe") or "src" in values or "onload" in values:
            self.foreign.append(tag)

    def handle_startendtag(self, tag: str, attrs) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_training_leaves_a_page_that_stands_alone(kit) -> None:
    trainer = kit.pretraining(total_steps=30, logging_steps=1, eval_steps=10, save_steps=30)
    trainer.train(*row_loaders(kit.dataset["train"], kit.dataset["validation"], trainer.config))
    text = (Path(kit.root) / "checkpoints" / "training_report.html").read_text()
    page = Page(text)
    assert page.foreign == [] and page.open == []
    for words in (
        "Pretraining, finished.",
        "Loss, nats a token",
        "Bits per byte",
        "Learning rate",
        "Samples",
        "torch",
    ):
        assert words in text
    assert len(re.findall("<polyline", text)) == 9


def test_what_a_model_says_cannot_act() -> None:
    said = [{"step": 1, "prompt": "<script>alert(1)</script>", "continuation": "</td><img src=x onerror=y>"}]
    text = training_page(log(), said)
    assert Page(text).foreign == []
    assert "&lt;script&gt;" in text


def test_a_long_curve_keeps_its_spikes() -> None:
    curve = [(step, 100.0 if step == 7777 else 1.0) for step in range(20_000)]
    short = thinned(curve)
    assert len(short) <= MOST_POINTS + 2
    assert (7777, 100.0) in short
    assert short == sorted(short)
    assert thinned(curve[:10]) == curve[:10]


def test_findings_stand_at_the_top() -> None:
    text = training_page(log({"train/data_wait_share": [0.4] * 100}), [])
    assert "40% of the time passes between steps" in text.partition("<main>")[0]


def test_what_happened_besides_steps_is_told() -> None:
    event = {"time": "now", "step": 50, "kind": "rollback", "to_step": 40, "reason": "<b>spike</b>"}
    text = training_page(log(), [], [event])
    assert Page(text).open == []
    text = text.replace("<wbr>", "")
    assert "to step: 40; reason: &lt;b&gt;spike" in text
    assert "What happened besides steps" not in training_page(log(), [])
