"""From bytes to text: whose word counts, what labels mean, and that nothing raises."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmesh.crawl.extract.charset import MISSED_LABELS, PRESCAN_BYTES, REPLACEMENT_LABELS, codec_of, decode

RUSSIAN = "Съешь же ещё этих мягких французских булок, да выпей чаю. "
JAPANESE = "日本語のテキストです。今日はとてもいい天気ですね。"
CHINESE = "中文网页的内容，今天天气很好，我们去公园散步。"
TAIWANESE = "中文網頁的內容，今天天氣很好，我們去公園散步。"
KOREAN = "한국어 텍스트입니다. 오늘은 날씨가 아주 좋네요. "
CZECH = "Příliš žluťoučký kůň úpěl ďábelské ódy. "

LEGACY = [
    ("windows-1251", RUSSIAN),
    ("koi8-r", RUSSIAN),
    ("iso-8859-5", RUSSIAN),
    ("shift_jis", JAPANESE),
    ("euc-jp", JAPANESE),
    ("iso-2022-jp", JAPANESE),
    ("gb18030", CHINESE),
    ("gbk", CHINESE),
    ("big5", TAIWANESE),
    ("euc-kr", KOREAN),
    ("iso-8859-2", CZECH),
    ("windows-1250", CZECH),
    ("utf-8", JAPANESE),
]


@pytest.mark.parametrize(("label", "text"), LEGACY)
def test_a_legacy_encoding_is_read_by_its_label_wherever_that_stands(label: str, text: str) -> None:
    body = text.encode(label)
    head = f'<meta charset="{label}">'
    assert decode(body, f"text/html; charset={label}") == text
    assert decode(head.encode() + body, "text/html") == head + text


@pytest.mark.parametrize(("label", "text"), LEGACY)
def test_a_legacy_encoding_is_read_without_any_label(label: str, text: str) -> None:
    assert decode((text * 4).encode(label), None) == text * 4


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-8"])
def test_a_byte_order_mark_wins_over_the_header(codec: str) -> None:
    body = f"\ufeff{JAPANESE}".encode(codec)
    assert decode(body, "text/html; charset=koi8-r") == JAPANESE


@pytest.mark.parametrize(
    ("label", "codec"),
    [
        ("iso-8859-1", "cp1252"),
        ("ISO-8859-1", "cp1252"),
        ("us-ascii", "cp1252"),
        ("latin1", "cp1252"),
        ("iso-8859-9", "cp1254"),
        ("gb2312", "gb18030"),
        ("shift_jis", "cp932"),
        ("x-sjis", "cp932"),
        ("ks_c_5601-1987", "cp949"),
        ("euc-kr", "cp949"),
        ("tis-620", "cp874"),
        ("  UTF8\n", "utf-8"),
        ("x-cp1251", "cp1251"),
    ],
)
def test_a_label_means_what_it_means_to_browsers(label: str, codec: str) -> None:
    assert codec_of(label) is not None
    text = "é€“" if codec in ("cp1252", "cp1254") else "я日한"[{"cp949": 2, "cp932": 1, "gb18030": 1}.get(codec, 0)]
    text = "ก" if codec == "cp874" else text
    assert decode(text.encode(codec), f"text/html;charset={label}") == text


@pytest.mark.parametrize("label", MISSED_LABELS)
def test_the_labels_that_the_library_misses_are_still_missed(label: str) -> None:
    with pytest.raises(LookupError):
        codecs.lookup(f"whatwg-{label}")
    assert codec_of(label) is not None


@pytest.mark.parametrize(
    "label",
    [
        *("hex", "zlib", "bz2", "rot13", "rot_13", "base64", "uu", "quopri", "idna", "punycode", "unicode_escape"),
        *(
            "raw_unicode_escape",
            "utf-7",
            "utf-32",
            "mbcs",
            "undefined",
            "charmap",
            "oem",
            "none",
            "é",
            "a\0b",
            "\ud800",
        ),
        *("", "x" * 100_000, "utf-8utf-8", "../utf-8"),
        *sorted(REPLACEMENT_LABELS),
    ],
)
def test_what_is_no_label_of_text_sends_to_the_next_source(label: str) -> None:
    assert codec_of(label) is None
    body = f'<meta charset="koi8-r">{RUSSIAN}'.encode("koi8-r")
    assert RUSSIAN in decode(body, f'text/html; charset="{label}"')


@pytest.mark.parametrize(
    "head",
    [
        '<meta charset="koi8-r">',
        "<meta charset=koi8-r>",
        "<META CHARSET='KOI8-R'/>",
        '<meta http-equiv="Content-Type" content="text/html; charset=koi8-r">',
        '<meta content="text/html;charset=koi8-r" http-equiv=content-type>',
        "<meta http-equiv='Content-Type' content='text/html; charset=\"koi8-r\"'>",
        '<meta name="x"><meta charset="hex"><meta charset="koi8-r">',
        '<!-- <meta charset="utf-8"> --><meta charset="koi8-r">',
        '<script>"<meta charset=utf-8>"</script><meta charset="koi8-r">',
        '<meta name="d" content="charset=utf-8"><meta charset="koi8-r">',
        '<?xml version="1.0" encoding="koi8-r"?>',
        '<?xml version="1.0" encoding="hex"?><meta charset=koi8-r>',
        f"<!--{' ' * 3000}--><meta charset=koi8-r>",
    ],
)
def test_a_page_may_declare_its_charset_in_many_ways(head: str) -> None:
    assert decode((head + RUSSIAN).encode("koi8-r"), "text/html") == head + RUSSIAN


def test_text_that_speaks_of_a_declaration_declares_nothing() -> None:
    text = f'<meta charset="gbk"> {CZECH}'
    assert decode(text.encode(), "text/plain", is_html=False) == text
    assert decode(text.encode(), "text/html") != text


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_xml_in_utf_16_is_read_without_a_mark(codec: str) -> None:
    text = f'<?xml version="1.0" encoding="utf-16"?><a>{JAPANESE}</a>'
    assert decode(text.encode(codec), "application/xml", is_html=False) == text


def test_a_declaration_beyond_the_prescan_is_not_seen() -> None:
    head = f"<!--{' ' * PRESCAN_BYTES}--><meta charset=koi8-r>"
    assert decode(f"{head}{JAPANESE}".encode(), "text/html").endswith(JAPANESE)


@pytest.mark.parametrize("label", ["utf-16", "UTF-16LE", "utf-16be", "unicode", "ucs-2"])
def test_a_page_that_could_be_read_is_not_utf_16_whatever_it_says(label: str) -> None:
    head = f"<meta charset={label}>"
    assert decode((head + JAPANESE).encode(), "text/html") == head + JAPANESE
    assert decode("a日".encode("utf-16-le"), "text/html; charset=utf-16le") == "a日"


def test_x_user_defined_in_a_page_means_windows_1252() -> None:
    assert decode(b"<meta charset=x-user-defined>\xe9", "text/html").endswith("é")


def test_the_header_wins_over_the_page() -> None:
    body = f"<meta charset=utf-8>{RUSSIAN}".encode("cp1251")
    assert decode(body, "text/html; charset=windows-1251").endswith(RUSSIAN)


def test_utf_8_that_is_cut_within_a_character_is_still_utf_8() -> None:
    assert decode(JAPANESE.encode()[:-1], None) == JAPANESE[:-1] + "\ufffd"


def test_a_wrong_header_costs_characters_and_nothing_else() -> None:
    assert decode(b"a\xff\xfe\x80b", "text/html; charset=utf-8") == "a\ufffd\ufffd\ufffdb"
    assert decode(b"", "text/html; charset=utf-16") == ""


def test_what_nothing_is_known_of_is_windows_1252() -> None:
    assert decode(b"\x93caf\xe9\x94", "text/plain") == "“café”"


@given(st.binary(max_size=200), st.none() | st.text(max_size=60))
def test_nothing_raises_and_no_lone_surrogate_comes_out(body: bytes, content_type: str | None) -> None:
    decode(body, content_type).encode()


@given(st.binary(max_size=100), st.text(max_size=40))
def test_no_label_raises(body: bytes, label: str) -> None:
    decode(body, f"text/html; charset={label}")
    decode(f'<meta charset="{label}">'.encode(errors="replace") + body, None)
