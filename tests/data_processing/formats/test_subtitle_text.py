"""What is spoken in subtitles."""

import pytest

from data_processing.formats.subtitle_text import subtitle_text
from tests.growth import assert_grows_linearly

WEBVTT = """WEBVTT - a film
Kind: captions

STYLE
::cue { color: red }

NOTE made
by hand

intro
00:00:01.000 --> 00:00:04.000 position:10% line:0
<v Ann>Hello <i>there</i> &amp; welcome</v>
to the <c.loud>forge</c>

00:04.000 --> 00:05.000
<v.loud Bob Lee>Hello world

00:00:05.000 --> 00:00:06.000
hot iron

00:00:06.000 --> 00:00:07.000
hot iron
glows<00:00:06.500><c> red</c>

00:00:07.000 --> 00:00:08.000
glows red
"""

SUBRIP = """1
00:00:01,000 --> 00:00:02,000 X1:10 Y1:20
{\\an8}<font color='red'>Hi
there</font> 2 < 3

2
00:00:03,000 --> 00:00:04,000
- One?
- Two!
3
00:00:05,000 --> 00:00:06,000
Bob: iron
Ann: and coal
1885

4
00:00:06,000 --> 00:00:07,000

5
00:00:08,000 --> 00:00:09,000
{y:i}The end
"""


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_speech_is_kept_without_times_markup_and_repetition(line_end: str):
    spoken = subtitle_text(WEBVTT.replace("\n", line_end))
    assert spoken == "Ann: Hello there & welcome to the forge\nBob Lee: Hello world\nhot iron\nglows red"
    spoken = subtitle_text(SUBRIP.replace("\n", line_end))
    assert spoken == "Hi there 2 < 3\n- One?\n- Two!\nBob: iron\nAnn: and coal 1885\nThe end"


def test_a_text_without_times_is_none():
    assert subtitle_text("WEBVTT\n\nHello\n") is None
    assert subtitle_text("00:00:01,000 --> 00:00:02,000") == ""


@pytest.mark.parametrize(
    "piece", ["<v ", "<v Ann", "<", "<a", "{\\", "1", "a:", "00:00:01,000 --> 00:00:02,000\n", "{y:"]
)
def test_beginnings_without_an_end_take_time_in_proportion_to_their_number(piece: str):
    head = "00:00:01,000 --> 00:00:02,000\n"
    assert_grows_linearly(subtitle_text, lambda number: head + piece * number, 5000)
