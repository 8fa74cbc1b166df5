import json
import string

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tdiff.core.models.tokenizers import MASK, TextTokenizer, learn, load
from tdiff.errors import TdiffError

torch.set_num_threads(1)

KINDS = ("char", "bpe")
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
ASCII = "".join(map(chr, range(1, 128)))
HARD = "e\u0301 👩‍👩‍👧 🏳️‍🌈 ﷽ \u202eabc\r\n\t\x00\x85\u2028ǅ İ ſ \U0010ffff  [MASK][UNK]<pad> a\n\n b"
PROSE = "The quick brown fox jumps over the lazy dog; the dog, lazy as dogs are, sleeps on.\n" * 20


def examples(count: int):
    return settings(derandomize=True, deadline=None, max_examples=count, database=None)


def made(kind: str, text: str, unknown: bool = False) -> TextTokenizer:
    size = len(set(text)) + 1 + unknown
    return learn(f"bpe:{size + 40}" if kind == "bpe" else kind, text, text, unknown)


@pytest.mark.parametrize("kind", KINDS)
@given(text=ANY_TEXT)
@example(text=HARD)
@example(text=HARD * 5)
@examples(80)
def test_any_text_comes_back_from_its_ids(kind, text):
    tokenizer = made(kind, text)
    ids = tokenizer.encode(text)
    assert ids.dtype == torch.int64 and ids.ndim == 1
    assert tokenizer.decode(ids) == tokenizer.decode(ids.tolist()) == text
    assert not set(ids.tolist()) & set(tokenizer.suppressed)


@given(text=st.text(st.sampled_from(ASCII), max_size=80))
@example(text=ASCII)
@examples(60)
def test_ascii_ids_are_code_points_and_the_mask_is_0(text):
    tokenizer = learn("ascii", "", "")
    assert tokenizer.encode(text).tolist() == [ord(c) for c in text]
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert (tokenizer.mask_id, len(tokenizer), tokenizer.suppressed) == (0, 128, (0,))


def test_ascii_has_no_id_for_nul_which_would_be_the_mask():
    with pytest.raises(TdiffError, match=r"U\+0000"):
        learn("ascii", "", "").encode("a\0b")


def test_ascii_refuses_unknown_characters():
    with pytest.raises(TdiffError, match=r"'é' \(U\+00E9\) at position 4"):
        learn("ascii", "", "").encode("café")


@given(text=ANY_TEXT)
@examples(60)
def test_char_has_one_id_for_each_character_in_order_and_the_mask_after_them(text):
    tokenizer = learn("char", text, "")
    characters = sorted(set(text))
    assert tokenizer.pieces[:-1] == characters
    assert tokenizer.mask_id == len(characters) == len(tokenizer) - 1
    assert tokenizer.encode(text).tolist() == [characters.index(c) for c in text]


@pytest.mark.parametrize("kind", [*KINDS, "ascii"])
@pytest.mark.parametrize("unknown", [False, True])
def test_ids_are_the_same_after_saving_and_loading(kind, unknown, tmp_path):
    text = PROSE if kind == "ascii" else PROSE + HARD
    tokenizer = made(kind, text, unknown)
    tokenizer.save(tmp_path)
    again = load(tmp_path / "tokenizer.json")
    assert again.pieces == tokenizer.pieces and len(set(again.pieces)) == len(again)
    assert (again.mask_id, again.unknown_id) == (tokenizer.mask_id, tokenizer.unknown_id)
    assert torch.equal(again.encode(text), tokenizer.encode(text))
    assert again.decode(again.encode(text)) == text


@pytest.mark.parametrize("kind", [*KINDS, "ascii"])
def test_saving_what_was_loaded_writes_the_same_bytes(kind, tmp_path):
    made(kind, PROSE).save(tmp_path / "a")
    load(tmp_path / "a" / "tokenizer.json").save(tmp_path / "b")
    assert (tmp_path / "a" / "tokenizer.json").read_bytes() == (tmp_path / "b" / "tokenizer.json").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_learning_twice_gives_the_same_tokenizer(kind):
    assert made(kind, PROSE).pieces == made(kind, PROSE).pieces


@pytest.mark.parametrize("kind", [*KINDS, "ascii"])
@pytest.mark.parametrize("unknown", [False, True])
def test_the_name_of_the_mask_typed_by_a_user_is_six_characters(kind, unknown):
    text = string.printable + "[MASK] [UNK]" * 30
    tokenizer = made(kind, text, unknown)
    ids = tokenizer.encode("a[MASK]b[UNK]" + MASK)
    assert not set(ids.tolist()) & set(tokenizer.suppressed)
    assert tokenizer.decode(ids) == "a[MASK]b[UNK][MASK]"


def test_a_mask_is_shown_as_a_block_and_the_unknown_token_as_the_replacement_character():
    tokenizer = learn("char", "ab", "", unknown=True)
    assert tokenizer.decode([0, tokenizer.mask_id, 1, tokenizer.unknown_id]) == "a█b\ufffd"


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_character_is_named_with_its_position_line_and_column(kind):
    tokenizer = made(kind, "abc\n hello")
    with pytest.raises(TdiffError) as error:
        tokenizer.encode("abc\n\n heλlo", "poem.txt")
    assert str(error.value).startswith("character 'λ' (U+03BB) at position 9 of poem.txt (line 3, column 4) is not in")
    assert f"vocabulary of {len(tokenizer)} tokens" in str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_the_error_for_an_unknown_character_suggests_the_other_case(kind):
    with pytest.raises(TdiffError, match=r"'q' is$"):
        made(kind, "quick").encode("Q")
    with pytest.raises(TdiffError, match=r"tokens$"):
        made(kind, "quick").encode("Z")


@pytest.mark.parametrize("stranger", ["\0", "\x1b", "ß", "\uffff", "\U0010ffff", "\ud800", "\n"])
def test_every_character_outside_the_vocabulary_is_refused_on_one_printable_line(stranger):
    for kind in KINDS:
        with pytest.raises(TdiffError, match=rf"U\+{ord(stranger):04X}") as error:
            made(kind, "abc").encode("ab" + stranger)
        assert str(error.value).isprintable()


@pytest.mark.parametrize("kind", KINDS)
def test_with_an_unknown_token_each_strange_character_becomes_it(kind):
    tokenizer = made(kind, PROSE, unknown=True)
    ids = tokenizer.encode("the λÿ\U0001f600 dog")
    assert ids.tolist().count(tokenizer.unknown_id) == 3
    assert tokenizer.decode(ids) == "the \ufffd\ufffd\ufffd dog"
    assert tokenizer.mask_id not in ids
    assert set(tokenizer.suppressed) == {tokenizer.mask_id, tokenizer.unknown_id}


def test_without_an_unknown_token_only_the_mask_is_suppressed():
    tokenizer = learn("char", "ab", "")
    assert tokenizer.unknown_id is None and tokenizer.suppressed == (tokenizer.mask_id,)


@pytest.mark.parametrize("kind", [*KINDS, "ascii"])
def test_no_text_has_no_ids(kind):
    ids = made(kind, "ab").encode("")
    assert ids.shape == (0,) and ids.dtype == torch.int64


def test_bpe_has_the_size_that_was_asked_for_and_shortens_text():
    tokenizer = learn("bpe:60", PROSE, PROSE)
    assert len(tokenizer) == 60
    assert len(tokenizer.encode(PROSE)) < len(PROSE) / 2
    assert any(len(piece) > 2 for piece in tokenizer.pieces)


def test_bpe_of_the_least_size_is_its_characters():
    tokenizer = learn("bpe:5", "abcd", "abcdabcdabcd")
    assert sorted(tokenizer.pieces) == ["a", "b", "c", "d", "█"]
    assert len(tokenizer.encode("abcd")) == 4


def test_bpe_merges_are_learnt_from_the_training_part_only():
    tokenizer = learn("bpe:40", "abab xyxyxy" * 50, "abababab" * 50)
    multiple = [piece for piece in tokenizer.pieces if len(piece) > 1]
    assert multiple and all(set(piece) <= set("ab") for piece in multiple)
    assert tokenizer.decode(tokenizer.encode("xyab")) == "xyab"


@pytest.mark.parametrize("size", ["", "4", "-9", "x", "1e3", "12.5", " 12"])
def test_a_size_of_bpe_that_does_not_do_is_refused_with_the_least_that_does(size):
    with pytest.raises(TdiffError, match="at least 5") as error:
        learn(f"bpe:{size}", "abcd", "abcd")
    assert repr(size) in str(error.value)


def test_bpe_needs_room_for_the_unknown_token_too():
    assert len(learn("bpe:6", "abcd", "abcd", unknown=True)) == 6
    with pytest.raises(TdiffError, match="at least 6"):
        learn("bpe:5", "abcd", "abcd", unknown=True)


@pytest.mark.parametrize("kind", ["words", "Char", "bpe4096"])
def test_an_unknown_kind_of_tokenizer_is_refused_with_the_known_ones(kind):
    with pytest.raises(TdiffError, match="known: char, ascii, bpe:SIZE"):
        learn(kind, "abc", "abc")


def test_a_tokenizer_is_learnt_by_loading_a_file_or_its_folder(tmp_path):
    made("bpe", PROSE).save(tmp_path)
    for kind in (tmp_path, tmp_path / "tokenizer.json"):
        assert learn(str(kind), "other text", "").pieces == made("bpe", PROSE).pieces


def vocabulary_file(path, vocabulary: dict[str, int]) -> None:
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"}
    path.write_text(json.dumps({"version": "1.0", "added_tokens": [], "model": model}))


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff\xfe", b"null", b'{"version": "1.0", "model": {"type": "Nonesuch"}}', b"\0" * 100],
)
def test_a_damaged_tokenizer_file_is_one_line_that_names_it(content, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(TdiffError, match=r"tokenizer\.json' is damaged") as error:
        load(path)
    assert "\n" not in str(error.value)


def test_a_truncated_tokenizer_file_is_refused(tmp_path):
    made("bpe", PROSE).save(tmp_path)
    path = tmp_path / "tokenizer.json"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(TdiffError, match="is damaged"):
        load(path)


@pytest.mark.parametrize(
    "vocabulary",
    [{"a": 0, "b": 1}, {"a": 0, "[MASK]": 2}, {"[MASK]": 0}, {"[MASK]": 0, "ab": 1}],
    ids=["no mask", "a gap", "only a mask", "no single character"],
)
def test_a_tokenizer_that_cannot_serve_is_refused(vocabulary, tmp_path):
    path = tmp_path / "tokenizer.json"
    vocabulary_file(path, vocabulary)
    with pytest.raises(TdiffError) as error:
        load(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("part", ["normalizer", "decoder"])
def test_a_tokenizer_whose_tokens_do_not_spell_the_text_is_refused(part, tmp_path):
    made("bpe", PROSE).save(tmp_path)
    path = tmp_path / "tokenizer.json"
    parts = {"normalizer": {"type": "Lowercase"}, "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True}}
    path.write_text(json.dumps(json.loads(path.read_text()) | {part: parts[part]}))
    with pytest.raises(TdiffError, match="of a type that tdiff does not read"):
        load(path)


def test_a_missing_tokenizer_file_is_named(tmp_path):
    with pytest.raises(TdiffError, match=r"nowhere\.json' does not exist"):
        load(tmp_path / "nowhere.json")
    with pytest.raises(TdiffError, match=r"tokenizer\.json' does not exist"):
        learn(str(tmp_path), "", "")


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_reads_the_saved_folder_and_gives_the_same_ids(kind, tmp_path):
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    text = PROSE + "e\u0301 👩‍👩‍👧\r\n\t don't stop,  'tis\n\n"
    tokenizer = made(kind, text, unknown=True)
    tokenizer.save(tmp_path)
    expected = tokenizer.encode(text).tolist()
    for loaded in (
        PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json")),
        PreTrainedTokenizerFast.from_pretrained(tmp_path),
        AutoTokenizer.from_pretrained(tmp_path),
    ):
        assert loaded(text, add_special_tokens=False)["input_ids"] == expected
        assert loaded.decode(expected) == text
        assert loaded.convert_tokens_to_ids("[MASK]") == tokenizer.mask_id
    assert loaded.mask_token_id == tokenizer.mask_id and loaded.unk_token_id == tokenizer.unknown_id
    assert loaded.encode("a[MASK]", add_special_tokens=False)[-1] == tokenizer.mask_id
