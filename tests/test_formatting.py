"""Numbers as people read them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shakespeare_tui.formatting import (
    counted,
    format_bytes,
    format_count,
    format_duration,
    format_duration_exactly,
    format_loss,
    parse_duration,
    per_second,
    ungrouped,
)
from shakespeare_tui.runs.losses import perplexity


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (-3, "0s"),
        (0.4, "0s"),
        (42, "42s"),
        (59.4, "59s"),
        (59.6, "1m 00s"),
        (100, "1m 40s"),
        (3599, "59m 59s"),
        (3599.9, "1h 00m"),
        (11_100, "3h 05m"),
        (86_399, "23h 59m"),
        (86_400, "1d 00h"),
        (187_200, "2d 04h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (512, "512"),
        (999, "999"),
        (1000, "1.00K"),
        (65_100, "65.10K"),
        (99_990, "99.99K"),
        (99_997, "100.0K"),
        (123_456, "123.5K"),
        (999_949, "999.9K"),
        (999_960, "1.00M"),
        (10_646_784, "10.65M"),
        (124_439_808, "124.4M"),
        (999_999_999, "1.00B"),
        (1_200_000_000, "1.20B"),
    ],
)
def test_counts(count: float, text: str) -> None:
    assert format_count(count) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1_115_394, "1.1 MB"),
        (999_999, "1.0 MB"),
        (2_000_000_000, "2.0 GB"),
        (3.4e12, "3.4 TB"),
        (5e15, "5000.0 TB"),
    ],
)
def test_bytes(size: float, text: str) -> None:
    assert format_bytes(size) == text


_FACTORS = {"": 1, "K": 1e3, "M": 1e6, "B": 1e9, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}


@given(st.floats(0, 9.9e11))
def test_what_is_read_is_near_what_was_meant(value: float) -> None:
    text = format_count(value)
    number = text.rstrip("KMB")
    assert float(number) * _FACTORS[text[len(number) :]] == pytest.approx(value, rel=0.006, abs=0.5)
    assert float(number) < 1000
    size, unit = format_bytes(value).split()
    read = float(size) * (1 if unit == "B" else _FACTORS[unit])
    assert read == pytest.approx(value, rel=0.06, abs=0.5)
    assert float(size) < 1000


@pytest.mark.parametrize(
    ("loss", "text"),
    [(1.46972, "1.4697"), (0.0, "0.0000"), (None, "-"), (math.nan, "-"), (math.inf, "-")],
)
def test_losses(loss: float | None, text: str) -> None:
    assert format_loss(loss) == text


def test_one_of_a_kind_is_singular() -> None:
    assert [counted(n, "file") for n in (0, 1, 1200)] == ["0 files", "1 file", "1,200 files"]


def test_a_speed_needs_time() -> None:
    assert (per_second(300, 2), per_second(300, 0.0), per_second(0, 0.0)) == (150, 0, 0)


def test_perplexity_is_the_exponential_of_the_loss() -> None:
    assert perplexity(1.47) == pytest.approx(4.349, abs=1e-3)
    assert perplexity(math.log(65)) == pytest.approx(65)
    assert perplexity(0.0) == 1


@pytest.mark.parametrize("loss", [None, math.nan, math.inf, -math.inf, 1000.0])
def test_no_perplexity_of_what_has_none(loss: float | None) -> None:
    assert perplexity(loss) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("100s", 100),
        ("1m 40s", 100),
        ("1m40s", 100),
        ("1.5h", 5400),
        ("2D 4h", 187_200),
        ("90 min", 5400),
        ("5", None),
        ("m", None),
        ("1m 40", None),
        ("-1m", None),
        ("3 weeks", None),
    ],
)
def test_a_duration_is_read_as_people_write_it(text: str, seconds: float | None) -> None:
    assert parse_duration(text) == seconds


@given(st.integers(0, 10**9))
def test_a_written_duration_reads_back_equal(seconds: int) -> None:
    assert parse_duration(format_duration_exactly(seconds)) == seconds


@given(st.integers(-(10**12), 10**12))
def test_thousands_separators_are_taken_out_and_nothing_else(number: int) -> None:
    assert ungrouped(f"{number:,}") == str(number)
    assert ungrouped("1,2") == "1,2"
    assert ungrouped("12,34,567") == "12,34,567"
