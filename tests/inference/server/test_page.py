"""The chat page: what its document promises, and what a person does with it in a real browser."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inference.chat import ChatModel
from inference.server.http import Access
from inference.server.page import load_page
from tests.inference.server.browser import CHROMIUM, Tab, new_tab
from tests.inference.server.server_kit import RunningServer, SlowBatch, running
from tests.inference.tiny_models import save_tiny_model
from tokenization.tokenizer import Tokenizer

in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")

GREEDY: Any = {"temperature": 0.0, "max_tokens": 12}
IDLE = "document.querySelector('#log').getAttribute('aria-busy') === 'false'"
ANSWERS = "[...document.querySelectorAll('.turn.assistant .text')].map((e) => e.textContent)"
QUESTIONS = "[...document.querySelectorAll('.turn.user .text')].map((e) => e.textContent)"


def last_act(name: str) -> str:
    return f".turn:last-child .act[aria-label='{name}']"


def test_the_page_may_load_nothing_and_run_its_own_script_alone() -> None:
    page = load_page()
    text = page.html.decode()
    rules = dict(rule.strip().split(" ", 1) for rule in page.policy.split(";"))
    assert rules["default-src"] == "'none'" and rules["connect-src"] == "'self'"
    assert "unsafe" not in page.policy
    for kind, tag in (("script-src", "script"), ("style-src", "style")):
        found = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert len(found) == 1
        digest = base64.b64encode(hashlib.sha256(found[0].encode()).digest()).decode()
        assert rules[kind] == f"'sha256-{digest}'"
    addresses = set(re.findall(r"https?://[^'\"\s]+", text)) - {"http://www.w3.org/2000/svg"}
    assert addresses == set(), "the page names another place"
    assert not re.search(r"\son\w+=", text.partition("<script>")[0]), (
        "a handler that the policy would not run"
    )
    assert "innerHTML" not in text


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with new_tab(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def feedback_of_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("feedback") / "feedback.jsonl"


@pytest.fixture(scope="module")
def server(served_model: ChatModel, feedback_of_page: Path) -> Iterator[RunningServer]:
    with running(served_model, batch=SlowBatch, defaults=GREEDY, feedback=feedback_of_page) as started:
        yield started


@pytest.fixture
def page(tab: Tab, server: RunningServer) -> Tab:
    """The page in a browser that has never seen it."""
    address = f"http://localhost:{server.port}/"
    tab.open(address)
    tab.evaluate("localStorage.clear(), sessionStorage.clear()")
    tab.requests.clear()
    tab.complaints.clear()
    tab.open(address)
    return tab


def open_parameters(page: Tab) -> None:
    page.click("#open-parameters")
    page.until("document.querySelector('#parameters').open")


def ask(page: Tab, text: str) -> None:
    page.click("#question")
    page.type(text)
    send(page)


def send(page: Tab) -> None:
    """Press Enter and wait for the answer."""
    answers = page.evaluate(f"{ANSWERS}.length")
    page.press("Enter")
    page.until(f"{ANSWERS}.length > {answers} && {IDLE}")


@in_a_browser
def test_a_question_is_answered_kept_and_asked_nowhere_else(
    page: Tab, server: RunningServer, served_model: ChatModel
) -> None:
    first = served_model.chat([{"role": "user", "content": "iron?"}], **GREEDY)
    history = [("user", "iron?"), ("assistant", first), ("user", "<b>coal</b>\n&amp;")]
    second = served_model.chat([{"role": role, "content": text} for role, text in history], **GREEDY)
    ask(page, "iron?")
    page.type("<b>coal</b>")  # the focus is where one goes on writing
    page.press("Enter", shift=True)
    page.type("&amp;")
    send(page)
    assert page.evaluate(QUESTIONS) == ["iron?", "<b>coal</b>\n&amp;"]
    assert page.evaluate(ANSWERS) == [first, second]
    assert "Cut off" in page.evaluate("document.querySelector('.turn:last-child .fact').textContent")
    page.open(f"http://localhost:{server.port}/")
    assert page.evaluate(ANSWERS) == [first, second], "a new visit does not find the conversation"
    assert {address.split("/")[2] for address in page.requests if address.startswith("http")} == {
        f"localhost:{server.port}"
    }
    assert page.complaints == []


@in_a_browser
def test_escape_stops_an_answer_and_it_can_be_made_anew(page: Tab, server: RunningServer) -> None:
    tokens_before = server.num_tokens()
    open_parameters(page)
    page.evaluate("document.querySelector('[name=max_tokens]').focus()")
    page.type("400")
    page.press("Enter")
    page.until("!document.querySelector('#parameters').open && settings.numbers.max_tokens === 400")
    page.click("#question")
    page.type("iron?")
    page.press("Enter")
    page.until(f"({ANSWERS})[0]?.length > 10")
    page.press("Escape")
    page.until(f"!!document.querySelector('.fact') && {IDLE}")
    server.until_idle()
    assert server.num_tokens() - tokens_before < 400
    stopped = page.evaluate(ANSWERS)[0]
    assert len(stopped) > 10 and page.evaluate("document.querySelector('.fact').textContent") == "Stopped."
    page.click(last_act("Regenerate"))
    page.until(f"({ANSWERS})[0]?.length > {len(stopped)}")
    assert page.evaluate(ANSWERS)[0].startswith(stopped), "greedy answers begin alike"
    page.click("#send")  # the button stops too
    page.until(IDLE)
    server.until_idle()
    assert len(page.evaluate(ANSWERS)) == 1 and server.num_tokens() - tokens_before < 800


@in_a_browser
def test_editing_a_message_asks_again_from_there(page: Tab, served_model: ChatModel) -> None:
    ask(page, "iron?")
    ask(page, "coal?")
    page.press("ArrowUp")
    page.evaluate("document.activeElement.select()")
    page.type("ore?")
    page.press("Enter")
    page.until(f"{QUESTIONS}[1] === 'ore?' && {IDLE}")
    assert page.evaluate(QUESTIONS) == ["iron?", "ore?"]
    answers = page.evaluate(ANSWERS)
    messages = [("user", "iron?"), ("assistant", answers[0]), ("user", "ore?")]
    assert answers[1] == served_model.chat(
        [{"role": role, "content": text} for role, text in messages], **GREEDY
    )
    page.evaluate("document.querySelector('.turn.user .act[aria-label=Edit]').click()")
    page.press("Escape")
    assert page.evaluate(QUESTIONS) == ["iron?", "ore?"], "a cancelled edit changed something"


@in_a_browser
def test_ratings_and_corrections_reach_the_file(page: Tab, feedback_of_page: Path) -> None:
    feedback_of_page.unlink(missing_ok=True)
    ask(page, "iron?")
    page.click(last_act("Good answer"))
    page.until(
        f"document.querySelector(\"{last_act('Good answer')}\").getAttribute('aria-pressed') === 'true'"
    )
    page.click(last_act("Bad answer"))
    page.type("A metal.")
    page.press("Enter")
    page.until(
        f"document.querySelector(\"{last_act('Bad answer')}\").getAttribute('aria-pressed') === 'true'"
    )
    records = [json.loads(line) for line in feedback_of_page.read_text(encoding="utf-8").splitlines()]
    assert [(record["rating"], record["correction"]) for record in records] == [(1, None), (-1, "A metal.")]
    answer = page.evaluate(ANSWERS)[0]
    assert all(
        record["messages"] == [{"role": "user", "content": "iron?"}, {"role": "assistant", "content": answer}]
        for record in records
    )
    assert "Corrected: A metal." in page.evaluate("document.querySelector('.fact').textContent")


@in_a_browser
def test_several_conversations_are_kept_and_can_be_deleted(page: Tab) -> None:
    ask(page, "iron?")
    page.click("#new")
    assert page.evaluate(QUESTIONS) == []
    ask(page, "coal?")
    titles = "[...document.querySelectorAll('.kept .open')].map((e) => e.textContent)"
    assert page.evaluate(titles) == ["coal?", "iron?"], "the last one comes first"
    page.click(".kept:last-child .open")
    assert page.evaluate(QUESTIONS) == ["iron?"]
    page.evaluate("window.confirm = () => true")
    page.click(".kept:last-child .remove")
    assert page.evaluate(titles) == ["coal?"] and page.evaluate(QUESTIONS) == []


@in_a_browser
def test_parameters_are_sent_and_a_wrong_one_is_explained(page: Tab, served_model: ChatModel) -> None:
    assert page.evaluate("document.querySelector('[name=top_k]').placeholder") == "50"
    open_parameters(page)
    page.evaluate("document.querySelector('[name=system]').value = 'Be short.'")
    page.evaluate("document.querySelector('[name=max_tokens]').value = 5")
    page.click("#parameters .primary")
    page.until("!document.querySelector('#parameters').open && settings.numbers.max_tokens === 5")
    ask(page, "iron?")
    messages = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "iron?"}]
    assert page.evaluate(ANSWERS) == [served_model.chat(messages, temperature=0, max_tokens=5)]
    page.evaluate("settings.numbers.temperature = -1")
    page.click(last_act("Regenerate"))
    page.until("!!document.querySelector('.wrong')")
    assert "temperature: expected 0 or more" in page.evaluate("document.querySelector('.wrong').textContent")


@in_a_browser
@pytest.mark.parametrize(("width", "dark"), [(375, False), (375, True), (1280, False)])
def test_it_fits_and_can_be_read_and_everything_to_press_has_a_name(
    page: Tab, width: int, dark: bool
) -> None:
    ask(page, "iron " * 40 + "x" * 200)
    page.resize(width, 700, dark=dark)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(
        "[...document.querySelectorAll('.turn, .box, header, #send')].every((e) => {"
        " const b = e.getBoundingClientRect(); return b.left >= 0 && b.right <= innerWidth; })"
    )
    nameless = page.evaluate(
        "[...document.querySelectorAll('button, textarea, input')].filter((e) =>"
        " !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length)).map((e) => e.outerHTML)"
    )
    assert nameless == []
    # WCAG 2 asks for a contrast of 4.5 between text and what is behind it.
    contrast = page.evaluate(
        """(() => {
          const canvas = Object.assign(document.createElement("canvas"), {width: 1, height: 1}).getContext("2d");
          // Light of the colours painted one over the other.
          const light = (colours) => {
            for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
            const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((v) => v / 255)
              .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          const behind = (e) => e ? [...behind(e.parentElement), getComputedStyle(e).backgroundColor] : [];
          const texts = document.querySelectorAll(".text, .fact, h1, h1 small, .quiet, #new, .open, .hint");
          return Math.min(...[...texts].map((e) => {
            const pair = [light([...behind(e), getComputedStyle(e).color]), light(behind(e))].sort((a, b) => b - a);
            return (pair[0] + 0.05) / (pair[1] + 0.05);
          }));
        })()"""
    )
    assert contrast >= 4.5


@in_a_browser
def test_on_a_phone_the_conversations_are_behind_a_button(page: Tab) -> None:
    page.resize(375, 700)
    shown = "getComputedStyle(document.querySelector('#sidebar')).visibility === 'visible'"
    page.until(f"!({shown})")
    page.click("#menu")
    page.until(shown)
    page.press("Escape")
    page.until(f"!({shown})")


@in_a_browser
def test_the_server_asks_for_its_key_and_the_page_for_it(tab: Tab, served_model: ChatModel) -> None:
    with running(served_model, defaults=GREEDY, access=Access("k-123")) as server:
        tab.resize(800, 600)
        tab.send("Page.navigate", url=f"http://localhost:{server.port}/")
        tab.until("document.querySelector('#key')?.open === true")
        tab.type("wrong")
        tab.press("Enter")
        tab.until("document.querySelector('#key').open && !document.querySelector('#key input').value")
        tab.type("k-123")
        tab.press("Enter")
        tab.until("!!document.querySelector('#model small')")
        ask(tab, "iron?")
        assert len(tab.evaluate(ANSWERS)[0]) > 0


@in_a_browser
def test_a_conversation_longer_than_the_context_goes_on_without_its_first_turns(
    tab: Tab, small_tokenizer: Tokenizer, tmp_path: Path
) -> None:
    model = ChatModel.load(
        save_tiny_model(tmp_path / "m", small_tokenizer), device="cpu"
    )  # a context of 64 tokens
    with running(model, defaults=GREEDY) as server:
        tab.open(f"http://localhost:{server.port}/")
        for number in range(6):
            ask(tab, f"iron {number}?")
        assert tab.evaluate("document.querySelector('.wrong')?.textContent") is None
        assert len(tab.evaluate(ANSWERS)) == 6
        assert "no longer saw the first" in tab.evaluate(
            "document.querySelector('.turn:last-child .fact').textContent"
        )


@in_a_browser
def test_a_server_that_goes_away_is_told_of_and_nothing_is_lost(tab: Tab, served_model: ChatModel) -> None:
    with running(served_model, batch=SlowBatch, defaults=GREEDY) as server:
        tab.open(f"http://localhost:{server.port}/")
        ask(tab, "iron?")
    tab.type("coal?")
    tab.press("Enter")
    tab.until("document.querySelector('.wrong')?.textContent === 'The connection was lost.'")
    assert tab.evaluate(QUESTIONS) == ["iron?", "coal?"]
