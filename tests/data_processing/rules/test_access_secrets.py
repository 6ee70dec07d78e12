"""Where keys, tokens and passwords are found. All tokens here are drawn, and put together so that no scanner trips."""

import base64
import random

import pytest

from data_processing.rules.access_secrets import find_secrets

KEY_LINES = [base64.b64encode(random.Random(line).randbytes(48)).decode() for line in range(12)]
DRAWN = "".join(
    random.Random(1).choices("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", k=90)
)


def found(text: str) -> list[tuple[str, str]]:
    return [(text[piece.start : piece.end], piece.stand_in) for piece in find_secrets(text, code=False)]


def key(*lines: str, kind: str = "RSA ") -> str:
    return "\n".join(
        [f"-----BEGIN {kind}PRIVATE " + "KEY-----", *lines, f"-----END {kind}PRIVATE " + "KEY-----"]
    )


@pytest.mark.parametrize(
    ("token", "stand_in"),
    [
        ("AKIA" + "IOSFODNN7ABCDEFG", "AKIAEXAMPLE"),
        ("ASIA" + "ABCDEFGHIJKLMNOP", "ASIAEXAMPLE"),
        ("gh" + "p_" + DRAWN[:36], "ghp_EXAMPLE"),
        ("github_" + "pat_" + DRAWN[:82], "github_pat_EXAMPLE"),
        ("xo" + "xb-123456789012-" + DRAWN[:24], "xoxb-EXAMPLE"),
        ("AI" + "za" + DRAWN[:35], "AIzaEXAMPLE"),
        ("sk-" + DRAWN[:48], "sk-EXAMPLE"),
        ("sk-" + "ant-api03-" + DRAWN[:80], "sk-EXAMPLE"),
        ("sk_" + "live_" + DRAWN[:24], "sk_live_EXAMPLE"),
        ("h" + "f_" + DRAWN[:34], "hf_EXAMPLE"),
        ("gl" + "pat-" + DRAWN[:20], "glpat-EXAMPLE"),
        ("npm" + "_" + DRAWN[:36], "npm_EXAMPLE"),
        ("eyJ" + DRAWN[:20] + ".eyJ" + DRAWN[20:50] + "." + DRAWN[:43], "eyJEXAMPLE"),
    ],
)
def test_a_token_is_found_whole_or_not_at_all(token: str, stand_in: str):
    assert found(f'token = "{token}"') == [(token, stand_in)]
    assert found(f"x{token}") == []
    assert found(stand_in) == []


def test_words_with_the_prefix_of_a_token_are_no_tokens():
    assert (
        found("sk-folding-cube-container-wrapper risk-" + DRAWN[:30] + " ghp_short AKIA npm_config_registry")
        == []
    )
    assert found("AKIA" + "IOSFODNN7EXAMPLE is Amazon's own example") == []


def test_the_password_in_an_address_is_found_and_placeholders_are_not():
    assert found("psql postgres://joe:s3cr.t!x@db.host/x") == [("s3cr.t!x", "password")]
    assert (
        found(
            "https://u:${PASSWORD}@h https://u:<password>@h ftp://u:password@h http://u:xxxx@h %s://%s:%s@%s"
        )
        == []
    )
    assert found("http://host:8080/a@b http://host/:x@y") == []


def test_the_secret_half_of_an_amazon_key_is_found_by_its_name():
    secret = DRAWN[:39] + "/"
    assert found(f"aws_secret_access_key = {secret}") == [(secret, "EXAMPLE")]
    assert found(f'"SecretAccessKey": "{secret}"') == [(secret, "EXAMPLE")]
    assert found(f'"Fingerprint": "{secret}"') == []
    assert found(f'secretAccessKey: "{secret}"') == [(secret, "EXAMPLE")]
    assert found(f'AWS_SECRET_ACCESS_KEY="{secret}"') == [(secret, "EXAMPLE")]


def test_of_a_private_key_the_lines_between_go_and_the_form_stays():
    text = key(*KEY_LINES, "c2hvcnQ=")
    [(_, stand_in)] = found(text)
    assert stand_in == "\nEXAMPLE\n"
    quoted = key(*KEY_LINES, "c2hvcnQ=").replace("\n", "\\n")
    [(_, stand_in)] = found(f'KEY = "{quoted}"')
    assert stand_in == "\\n" + "EXAMPLE\\n" * 12 + "c2hvcnQ=\\n"


def test_a_private_key_that_is_cut_off_loses_its_full_lines_and_what_follows_stays():
    text = "\n".join(key(*KEY_LINES).split("\n")[:-1]) + "\n\nThe next chapter is about certificates."
    [(inside, stand_in)] = found(text)
    assert stand_in == "\nEXAMPLE\n\nThe next chapter is about certificates."
    assert inside.endswith("certificates.")


def test_a_public_key_and_an_example_without_a_key_are_left_alone():
    assert found(key("...")) == []
    assert found(key(*KEY_LINES).replace("PRIVATE", "PUBLIC")) == []
