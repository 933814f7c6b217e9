import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.search.yaml_loading import (
    MAX_FILE_BYTES,
    dump_yaml,
    parse_value,
    parse_yaml,
    read_yaml,
)
from trainers.errors import ConfigError


def test_scalars_mean_what_they_look_like_also_inside_lists():
    text = "a: 1e-4\nb: NO\nc: on\nd: [1e-4, NO, on, yes, 1E5, 010, 1_000, ~, true, .5, 2024-01-01]"
    mapping = parse_yaml(text).mapping
    assert mapping["a"] == 1e-4
    assert (mapping["b"], mapping["c"]) == ("NO", "on")
    assert mapping["d"] == [
        1e-4,
        "NO",
        "on",
        "yes",
        1e5,
        10,
        1000,
        None,
        True,
        0.5,
        "2024-01-01",
    ]


def test_each_path_has_its_line():
    document = parse_yaml("a: 1\n\nspace:\n  b.c: [1]\nrounds:\n  - {epochs: 3}\n")
    assert document.lines["space.b.c"] == 4
    assert document.lines["rounds.0.epochs"] == 6
    located = document.locate("`a` and `space.b.c` disagree")
    assert located == "spec, lines 1 and 4: `a` and `space.b.c` disagree"


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=20)
    | st.sampled_from(["NO", "on", "1e-4", "null", "~", "010", "1:2", "- a", "a: b", "#x", " x "])
)
keys = st.text(st.characters(codec="ascii", categories=["Ll", "Lu"]), min_size=1, max_size=8)


@settings(deadline=None, max_examples=100)
@given(
    st.dictionaries(
        keys,
        st.recursive(
            scalars,
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
            max_leaves=10,
        ),
        min_size=1,
        max_size=5,
    )
)
def test_what_is_written_reads_back_equal(mapping):
    assert parse_yaml(dump_yaml(mapping)).mapping == mapping


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("# only a comment\n", "is empty"),
        ("- 1\n- 2\n", "top level of spec must be a mapping.*a list"),
        ("just words", "top level of spec must be a mapping.*the text 'just words'"),
        ("a: 1\na: 2\n", "lines 1 and 2: `a` is given twice"),
        ("a.b: 1\na:\n  b: 2\n", "lines 1 and 3: `a.b` is given twice"),
        ("a: [1", "line 1: this is not YAML"),
        ("a: b: c", "line 1: this is not YAML"),
        ("a:\n\t- 1", "line 2: this is not YAML"),
        ("a: 1\n---\nb: 2\n", "this is not YAML"),
        ("a: *nowhere", "this is not YAML"),
        ("a: \x00", "this is not YAML"),
        ("a: !!python/object/apply:os.system [x]", "tag .* is not allowed"),
        ("a: !secret 1", "tag .* is not allowed"),
        ("base: &b {x: 1}\na:\n  <<: *b\n", "line 3: merge keys"),
        ("? [1, 2]\n: 3\n", "a key must be text"),
        ("a: &a [*a]", "more than 30 levels"),
        ("a: " + "[" * 1000, "nests too deeply"),
        ("seed: " + "9" * 5000, "line 1: a number has at most 400 characters, .* 5000"),
        ("lr: 0b" + "1" * 50_000, "a number has at most 400 characters"),
        ("a: " + "[" * 50 + "]" * 50, "more than 30 levels"),
    ],
)
def test_what_is_no_spec_is_refused_with_its_line(text, words):
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text)
    assert re.search(words, str(caught.value)), str(caught.value)


def test_a_bomb_of_aliases_is_refused_before_it_grows():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    with pytest.raises(ConfigError, match=r"more than 50,000 values"):
        parse_yaml("\n".join(lines))


def test_a_file_of_100_mb_is_refused_unread(tmp_path):
    path = tmp_path / "huge.yaml"
    with path.open("wb") as file:
        file.truncate(100_000_000)  # sparse: no disk is used
    with pytest.raises(ConfigError, match=r"at most 256 kB, but .*huge\.yaml has 100 MB"):
        read_yaml(path)


def test_a_file_just_within_the_limit_is_read(tmp_path):
    path = tmp_path / "long.yaml"
    path.write_text("a: 1\n" + "#" * (MAX_FILE_BYTES - 6) + "\n")
    assert read_yaml(path).mapping == {"a": 1}


def test_unreadable_files_say_why(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        read_yaml(tmp_path / "missing.yaml")
    with pytest.raises(ConfigError, match="Is a directory"):
        read_yaml(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("a: é".encode("latin-1"))
    with pytest.raises(ConfigError, match="must be UTF-8"):
        read_yaml(tmp_path / "latin.yaml")


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path):
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_yaml(tmp_path / "bom.yaml").mapping == {"a": 1}


def test_values_of_settings_are_yaml():
    assert parse_value("1e-3") == 1e-3
    assert parse_value("NO") == "NO"
    assert parse_value("") == ""
    assert parse_value("{uniform: [0, 1]}") == {"uniform": [0, 1]}
    assert parse_value(".inf") == math.inf
