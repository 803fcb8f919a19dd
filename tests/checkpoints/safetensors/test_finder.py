"""The C library's search, held against Python's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gammatorch.checkpoints.safetensors import search

SMALL_ALPHABET = st.binary(max_size=60).map(lambda raw: bytes(byte % 3 for byte in raw))


@given(SMALL_ALPHABET, SMALL_ALPHABET.filter(bool).map(lambda raw: raw[:4]), st.integers(0, 61), st.integers(0, 60))
def test_a_text_is_found_where_python_finds_it(content, text, start, stop):
    buffer = bytearray(content)
    stop = min(stop, len(buffer))
    assert search.make_finder(buffer)(text, start, stop) == buffer.find(text, start, stop)


def test_a_buffer_keeps_its_size_as_long_as_it_is_searched():
    buffer = bytearray(b"norm")
    find = search.make_finder(buffer)
    with pytest.raises(BufferError):
        buffer.append(0)
    del find
    buffer.append(0)


def test_without_the_c_librarys_function_python_searches(monkeypatch):
    monkeypatch.setattr(search, "_MEMMEM", None)
    assert search.make_finder(bytearray(b"a.norm"))(b"norm", 0, 6) == 2
