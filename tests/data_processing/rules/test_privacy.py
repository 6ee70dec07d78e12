"""What becomes of personal data."""

import ast
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.data_config import PrivacyConfig
from data_processing.document import Outcome
from data_processing.rules.privacy import KINDS, privacy_step
from tests.growth import assert_grows_linearly
from tests.small_texts import make_text

REPLACE = PrivacyConfig.from_dict(dict.fromkeys(KINDS, "replace"))
DROP = PrivacyConfig.from_dict(dict.fromkeys(KINDS, "drop"))

TOKEN = "gh" + "p_" + "a1B2c3D4" * 5
EVERYTHING = (
    "jane@firm.com called +49 30 1234567 and 212-867-5309 from 93.184.216.34 or 2606:4700::1111, "
    f"paid with 4111 1111 1111 1111 and wrote {TOKEN} and ftp://joe:hunter2@firm.com on the wall."
)
PIECES = [
    *(
        "jane",
        "@",
        "firm.com",
        "firm",
        ".",
        ":",
        "//",
        "/",
        "-",
        "+",
        " ",
        "\n",
        "(",
        ")",
        '"',
        "é",
        "版本",
        "\ud800",
    ),
    *(
        "8.8.8.8",
        "1.2.3.4",
        "2606:4700::1111",
        "212",
        "867",
        "5309",
        "+49",
        "1",
        "555",
        "4111",
        "1111",
        "378282246310005",
    ),
    *(
        TOKEN,
        "sk-",
        "eyJ",
        "AKIA",
        "version",
        "tel",
        "joe:hunter2",
        "git@host.org:",
        "://",
        "email@example.com",
    ),
    *(
        "-----BEGIN PRIVATE " + "KEY-----",
        "-----END PRIVATE " + "KEY-----",
        "MIIE" * 12,
        "EXAMPLE",
        "password",
    ),
]
texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=25).map("".join)


def test_the_settings_are_the_kinds():
    assert set(PrivacyConfig.model_fields) == set(KINDS)


def test_each_kind_is_replaced_by_what_belongs_to_nobody_and_counted():
    outcome = privacy_step(REPLACE)(EVERYTHING, {})
    assert outcome.reason is None
    assert outcome.counts == {"secret": 2, "email": 1, "card_number": 1, "ip_address": 2, "phone_number": 2}
    assert outcome.text == (
        "email@example.com called +1-555-555-5555 and 555-555-5555 from 192.0.2.1 or 2001:db8::1, "
        "paid with 9999 9999 9999 9999 and wrote ghp_EXAMPLE and ftp://joe:password@firm.com on the wall."
    )


@pytest.mark.parametrize(
    ("setting", "detail"),
    [
        ("emails", "1 email"),
        ("ip_addresses", "2 ip_address"),
        ("phone_numbers", "2 phone_number"),
        ("card_numbers", "1 card_number"),
        ("secrets", "2 secret"),
    ],
)
def test_a_document_with_something_to_drop_is_left_out_and_the_detail_does_not_repeat_it(
    setting: str, detail: str
):
    step = privacy_step(PrivacyConfig.from_dict({**dict.fromkeys(KINDS, "replace"), setting: "drop"}))
    outcome = step(EVERYTHING, {})
    assert (outcome.reason, outcome.detail) == ("personal_data", detail)
    rest = privacy_step(REPLACE)(EVERYTHING, {}).text
    assert step(rest, {}) == Outcome(rest)


@pytest.mark.parametrize("setting", KINDS)
def test_a_kind_that_is_kept_is_kept_where_all_others_are_replaced(setting: str):
    kept = privacy_step(PrivacyConfig.from_dict({**dict.fromkeys(KINDS, "replace"), setting: "keep"}))
    outcome = kept(EVERYTHING, {})
    assert KINDS[setting][0] not in outcome.counts
    alone = privacy_step(PrivacyConfig.from_dict({setting: "replace"}))
    assert alone(outcome.text, {}).counts == {
        KINDS[setting][0]: alone(EVERYTHING, {}).counts[KINDS[setting][0]]
    }


def test_by_default_nothing_changes():
    assert privacy_step(PrivacyConfig())(EVERYTHING, {}) == Outcome(EVERYTHING)


def test_code_with_everything_in_it_still_parses():
    code = f'''
import ipaddress
OWNER = "jane@firm.com"  # or call 212-867-5309
HOSTS = {{"a": "93.184.216.34", "b": ipaddress.ip_address("2606:4700::1111")}}
CARD = 4111111111111111
TOKEN, URL = "{TOKEN}", "https://joe:hunter2@firm.com/"
PHONE = "+49 30 1234567"
KEY = (
    "-----BEGIN PRIVATE {"KEY"}-----\\n"
    "{"MIIE" * 16}\\n"
    "-----END PRIVATE {"KEY"}-----\\n"
)
'''
    outcome = privacy_step(REPLACE)(code, {"code": True})
    assert outcome.counts == {"secret": 3, "email": 1, "card_number": 1, "ip_address": 2, "phone_number": 2}
    before, after = ast.parse(code), ast.parse(outcome.text)
    assert [type(node) for node in ast.walk(before)] == [type(node) for node in ast.walk(after)]


@given(text=texts, code=st.booleans())
def test_replacing_again_finds_nothing_more(text: str, code: bool):
    step = privacy_step(REPLACE)
    once = step(text, {"code": code}).text
    assert step(once, {"code": code}) == Outcome(once)
    assert privacy_step(DROP)(once, {"code": code}).reason is None


@given(texts)
def test_a_text_is_dropped_exactly_when_something_in_it_would_be_replaced(text: str):
    replaced = privacy_step(REPLACE)(text, {})
    dropped = privacy_step(DROP)(text, {})
    assert (dropped.reason is None) == (not replaced.counts)
    assert dropped.text == text
    assert bool(replaced.counts) == (replaced.text != text)


def test_prose_without_personal_data_is_left_as_it_is():
    text = make_text(random.Random(0), 200)
    assert privacy_step(REPLACE)(text, {}).text is text


@pytest.mark.parametrize(
    "unit",
    [
        *(
            "a",
            "@",
            "a@",
            "a@a.",
            "jane@firm.com ",
            "1",
            "4111",
            "1.",
            "8.8.8.8 ",
            "8.8.8.8.",
            "+1",
            "+12345678 ",
            "(212) ",
        ),
        *(
            "212-867-5309 ",
            "4111 1111 1111 1111 ",
            "4111 1111 ",
            ":",
            "2001:",
            "2606:4700::1111 ",
            "://",
            "://a:b@c ",
        ),
        *(
            "eyJ",
            "eyJaaaaaaaaaa.",
            "sk-",
            "_",
            TOKEN + " ",
            "AKIA",
            "-----BEGIN PRIVATE " + "KEY-----",
            "MIIE",
            " ",
            "//a:",
        ),
        *("tel ", "ccess_key=", "é@é.", "\n", "version "),
    ],
)
def test_hostile_text_takes_linear_time(unit: str):
    step = privacy_step(REPLACE)
    assert_grows_linearly(lambda text: step(text, {}), lambda size: unit * (size // len(unit)), 5000)
