"""Mutations of known inputs, as from a hostile or careless writer.

The known inputs are in tests/corpus, a folder for each format, together with inputs that once caused a failure.
"""

from __future__ import annotations

from pathlib import Path

from hypothesis import strategies as st

CORPUS = Path(__file__).resolve().parents[1] / "corpus"
_EDGES = (b"\0", b"\n", b"\xff", b'"', b"'", b"[", b"]", b"{", b"}", b"=", b".", b"\\", b"#", b"\xef\xbb\xbf", b"1e999")
_NUMBERS = (b"0", b"-1", b"9223372036854775808", b"nan", b"true", b"[]", b"{}", b'""', b"1979-05-27", b'"\\u0000"')


def corpus(folder: str) -> list[bytes]:
    """All inputs of that folder."""
    found = [path.read_bytes() for path in sorted((CORPUS / folder).iterdir())]
    assert found, f"no corpus in {folder}"
    return found


@st.composite
def mutated(draw: st.DrawFn, seeds: list[bytes], *, most: int = 6) -> bytes:
    """One of the seeds with up to `most` mutations: truncated, doubled, overwritten, joined with another."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, most))):
        begin = draw(st.integers(0, len(data)))
        end = min(len(data), begin + draw(st.integers(0, 40)))
        match draw(st.sampled_from(["cut", "double", "byte", "edge", "number", "splice", "end"])):
            case "cut":
                data = data[:begin] + data[end:]
            case "double":
                data = data[:end] + data[begin:]
            case "byte":
                data = data[:begin] + draw(st.binary(min_size=1, max_size=4)) + data[begin + 1 :]
            case "edge":
                data = data[:begin] + draw(st.sampled_from(_EDGES)) * draw(st.integers(1, 300)) + data[begin:]
            case "number":
                data = data[:begin] + draw(st.sampled_from(_NUMBERS)) + data[end:]
            case "splice":
                other = draw(st.sampled_from(seeds))
                at = draw(st.integers(0, len(other)))
                data = data[:begin] + other[at : at + 200] + data[end:]
            case "end":
                data = data[:begin]
    return data
