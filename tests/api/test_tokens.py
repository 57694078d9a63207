"""AUTH__TOKENS_FILE: what it may hold, who is let in by it, and what a reload changes."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from fastmesh.api.access.tokens import Tokens, line_of, new_token
from fastmesh.errors import ConfigError

PLAIN = "XJ5z0rSeNo7wPpDnTtOvAaVbMkYcQyHs"


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "tokens"
    path.write_text(text, "utf-8")
    return str(path)


def test_a_new_token_is_let_in_by_its_line(tmp_path: Path) -> None:
    token, other = new_token(), new_token()
    tokens = Tokens(
        written(tmp_path, f"# whose they are\n\n{line_of(token, 'reports')}\n  {line_of(other, None)} # b\n")
    )
    assert tokens.client_of(token) == "name:reports"
    assert tokens.client_of(other) == f"hash:{sha256(other.encode()).hexdigest()[:16]}"
    assert token not in line_of(token, "reports")
    assert len(tokens) == 2


def test_the_token_itself_may_stand_there(tmp_path: Path) -> None:
    tokens = Tokens(written(tmp_path, f"\ufeff{PLAIN} console\r\n"))
    assert tokens.client_of(PLAIN) == "name:console"


def test_nothing_else_is_let_in(tmp_path: Path) -> None:
    token = new_token()
    hashed = sha256(token.encode()).hexdigest()
    tokens = Tokens(written(tmp_path, f"sha256:{hashed.upper()}\n"))
    assert tokens.client_of(token) is not None
    for wrong in ("", token[:-1], token + "=", token.upper(), hashed, f"sha256:{hashed}", "é" * 40, "a" * 100_000):
        assert tokens.client_of(wrong) is None


def test_tokens_of_one_name_are_one_client(tmp_path: Path) -> None:
    old, new = new_token(), new_token()
    tokens = Tokens(written(tmp_path, f"{line_of(old, 'a')}\n{line_of(new, 'a')}\n"))
    assert tokens.client_of(old) == tokens.client_of(new) == "name:a"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no token"),
        ("# nobody\n\n", "has no token"),
        ("secret\n", "line 1: a token of under 32 characters can be guessed"),
        (f"# a\n{PLAIN[:-1]}\n", "line 2: a token of under 32 characters"),
        (f"{PLAIN}!\n", "line 1: want a token of at most 512 characters"),
        (f"{PLAIN} two names\n", "line 1: want a token or its hash, and at most one name"),
        (f"{PLAIN} a/b\n", "line 1: want a token or its hash, and at most one name"),
        ("sha256:abc\n", "line 1: want sha256: and 64 hexadecimal digits"),
        (f"{PLAIN} a\nsha256:{sha256(PLAIN.encode()).hexdigest()} b\n", "line 2: has this token before already"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_and_not_repeated(tmp_path: Path, text: str, words: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        Tokens(path)
    assert str(error.value).startswith(f"AUTH__TOKENS_FILE={path!r}")
    assert words in str(error.value)
    assert PLAIN[:-1] not in str(error.value)


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file or directory"):
        Tokens(str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        Tokens(str(tmp_path))
    (tmp_path / "tokens").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        Tokens(str(tmp_path / "tokens"))


def test_a_reload_takes_the_new_file_or_keeps_the_old(tmp_path: Path) -> None:
    first, second = new_token(), new_token()
    tokens = Tokens(written(tmp_path, line_of(first, "a")))
    written(tmp_path, "short\n")
    with pytest.raises(ConfigError, match="line 1"):
        tokens.reload()
    assert (tokens.client_of(first), tokens.knows("name:a")) == ("name:a", True)
    written(tmp_path, line_of(second, "b"))
    tokens.reload()
    assert (tokens.client_of(first), tokens.client_of(second)) == (None, "name:b")
    assert (tokens.knows("name:a"), tokens.knows("name:b")) == (False, True)


def test_a_name_that_is_none() -> None:
    with pytest.raises(ValueError, match="no name"):
        line_of(PLAIN, "two names")
