"""Where personal data is found, and where it is not."""

import ipaddress
import random
from collections.abc import Callable, Iterator

import pytest

from data_processing.rules.personal_data import (
    Found,
    find_card_numbers,
    find_emails,
    find_ip_addresses,
    find_phone_numbers,
)

Find = Callable[..., Iterator[Found]]


def found(find: Find, text: str, *, code: bool = False) -> list[str]:
    return [text[piece.start : piece.end] for piece in find(text, code=code)]


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("Write to jane.doe+news@mail.firm.co.uk.", ["jane.doe+news@mail.firm.co.uk"]),
        ("<mailto:a_b@c-d.org>, 'x@y.de'; (z@w.info)", ["a_b@c-d.org", "x@y.de", "z@w.info"]),
        ("联系foo@firma.com。 müller@bücher.de", ["foo@firma.com", "müller@bücher.de"]),
        ("email@example.com, a@b.example, me@host.local, x@sub.example.org", []),
        ("git@github.com:owner/name.git", []),
        ("https://user:word@host.com and ssh://git@host.com and ftp://anna@host.org", []),
        ("logo@2x.png and style@page.css", []),
        ("@handle, a@b, a@b.c, foo@ bar.com, 'at' @ noon.", []),
        ("x" * 65 + "@firm.com", []),
    ],
)
def test_email_addresses_are_found_but_for_those_of_nobody(text: str, addresses: list[str]):
    assert found(find_emails, text) == addresses


def test_a_product_of_matrices_is_no_email_address():
    assert found(find_emails, "y = w@x.sum(axis=0) + a@b.transpose", code=True) == []
    assert found(find_emails, "# by jane@firm.com, joe@firma.de", code=True) == [
        "jane@firm.com",
        "joe@firma.de",
    ]


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("ping 8.8.8.8, then 93.184.216.34:80.", ["8.8.8.8", "93.184.216.34"]),
        ('"ip":"93.184.216.34" ip:93.184.216.35', ["93.184.216.34", "93.184.216.35"]),
        ("93.184.216.1-93.184.216.9 and 93.184.216.0/24", ["93.184.216.1", "93.184.216.9", "93.184.216.0"]),
        ("10.1.2.3 127.0.0.1 192.168.0.1 172.20.1.1 169.254.1.1 224.0.0.1 0.0.0.0 100.64.1.1", []),
        ("192.0.2.1 198.51.100.7 203.0.113.9", []),
        ("version 1.2.3.4, v1.2.3.4, ver. 1.2.3.4, Firmware: 1.2.3.4", []),
        ("name==1.2.3.4 name>=1.2.3.4 name-1.2.3.4.tar.gz Chrome/12.3.4.5 1.2.3.4-beta", []),
        ('__version__ = "1.2.3.4"; <Version>1.2.3.4</Version>; AssemblyVersion("1.2.3.4")', []),
        ("§ 1.2.3.4 and section 4.3.2.1", []),
        ("\n4.2.1.3 Scope of this part\n## 4.2.1.4. Terms", []),
        ("1.2.3.4.5 1.2.3 256.1.1.1 01.2.3.4 11.22.33.444 a1.2.3.4", []),
        ("at 2001:4860:4860::8888: yes", ["2001:4860:4860::8888"]),
        ("[2606:4700:4700:0:0:0:0:1111]", ["2606:4700:4700:0:0:0:0:1111"]),
        ("::1 fe80::1 fd00::2 2001:db8::1 3fff::1 2001::/32", []),
        ("std::vector 12:30:45 2023:05:12 10:20 2001:zz::1 2001:4860:::1", []),
    ],
)
def test_public_network_addresses_are_found_and_numbering_is_not(text: str, addresses: list[str]):
    assert found(find_ip_addresses, text) == addresses


def test_public_addresses_are_those_that_the_standard_library_calls_global():
    generator = random.Random(0)
    addresses = [ipaddress.IPv4Address(generator.getrandbits(32)) for _ in range(2000)]
    addresses += [
        ipaddress.ip_network(network)[generator.randrange(256)]
        for network in ("10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "198.18.0.0/15")
        for _ in range(20)
    ]
    for address in addresses:
        assert bool(found(find_ip_addresses, f"from {address}")) == (
            address.is_global and not address.is_multicast
        )


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("Call (212) 867-5309 or 212-867-5309.", ["(212) 867-5309", "212-867-5309"]),
        ("212.867.5309, 1-800-234-5678", ["212.867.5309", "800-234-5678"]),
        ("+1 (212) 867-5309 1-800-234-5678", ["+1 (212) 867-5309", "800-234-5678"]),
        ("+44 20 7946 0958 and +4915112345678", ["+44 20 7946 0958", "+4915112345678"]),
        ("+49 (0)30 123456, +33 1 42 68 53 00 2024", ["+49 (0)30 123456", "+33 1 42 68 53 00 2024"]),
        ("+1 212 867 5309 2020", ["+1 212 867 5309"]),
        ("tel.: 212 867 5309, not 212 867 5309", ["212 867 5309"]),
        ("ISBN 978-0-306-40615-7, 0-306-40615-2", []),
        ("2020-10-12, 12.10.2020, 1914-1918, 200 300 4000, 123-45-6789", []),
        ("12345678901 555-0123 212-867-53091 x212-867-5309 212-867-5309-1", []),
        ("555-123-4567, 212-555-0123, 911-234-5678, 212-911-1234, +1 555 234 5678", []),
        ("1e+1234567890 x+4912345678901 +35236450.6 +20 000 000 +0200", []),
    ],
)
def test_phone_numbers_are_found_and_other_numbers_are_not(text: str, numbers: list[str]):
    assert found(find_phone_numbers, text) == numbers


def test_in_code_a_sign_before_digits_is_arithmetic_unless_it_is_quoted():
    assert found(find_phone_numbers, "x = y +4915112345678", code=True) == []
    assert found(find_phone_numbers, "x = '+4915112345678'", code=True) == ["+4915112345678"]


@pytest.mark.parametrize(
    ("number", "network"),
    [
        ("4111 1111 1111 1111", "Visa"),
        ("4222222222222", "Visa, 13 digits"),
        ("5555-5555-5555-4444", "Mastercard"),
        ("2223003122003222", "Mastercard, series 2"),
        ("3782 822463 10005", "American Express"),
        ("30569309025904", "Diners Club"),
        ("6011 1111 1111 1117", "Discover"),
        ("3530111333300000", "JCB"),
    ],
)
def test_the_networks_test_numbers_are_found_and_any_wrong_digit_hides_them(number: str, network: str):
    assert found(find_card_numbers, f"paid with {number}.") == [number]
    assert found(find_card_numbers, f"2024 {number} 2024") == [number]
    last = str((int(number[-1]) + 1) % 10)
    assert found(find_card_numbers, f"paid with {number[:-1]}{last}.") == []


def test_other_long_numbers_are_no_cards():
    in_longer = "0.4111111111111111 x4111111111111111 41111111111111111111 1/4111111111111111"
    assert found(find_card_numbers, f"{in_longer} 9111111111111111 {2**52} {2**62}") == []


def test_a_card_number_keeps_its_form_and_stays_a_number():
    assert [piece.stand_in for piece in find_card_numbers("n = 4111111111111111", code=True)] == ["9" * 16]
    assert [piece.stand_in for piece in find_card_numbers("4111-1111-1111-1111", code=False)] == [
        "9999-9999-9999-9999"
    ]
