"""What all tokenizers share."""

import pytest

from roberta_jax.errors import UserError


def test_rows_have_the_separators_of_roberta(tokenizer):
    assert tokenizer.row([7, 8]) == [0, 7, 8, 2]
    assert tokenizer.row([7, 8], [9]) == [0, 7, 8, 2, 2, 9, 2]
    assert tokenizer.row([], []) == [0, 2, 2, 2]


def test_offsets_leave_out_the_blank_of_a_word(tokenizer):
    text = "The old  river, 日本"
    ids, offsets = tokenizer.encode_with_offsets(text)
    assert ids == tokenizer.encode(text)
    for token_id, (begin, end) in zip(ids, offsets, strict=True):
        piece = tokenizer.token_text(token_id)
        if "�" not in piece:
            assert text[begin:end] == piece.lstrip()
    # The bytes of one character have its place.
    assert offsets[-1] == (len(text) - 1, len(text))


def test_pieces_are_what_decoding_gives(tokenizer):
    pieces = tokenizer.pieces()
    assert len(pieces) == tokenizer.vocab_size
    assert pieces[tokenizer.mask_id] == b"<mask>" and pieces[tokenizer.eos_id] == b"</s>"
    ids = tokenizer.encode("The old river 日本")
    assert b"".join(pieces[i] for i in ids).decode() == "The old river 日本"


@pytest.mark.parametrize("token_id", [-1, 400])
def test_an_id_outside_the_vocabulary_is_refused(tokenizer, token_id):
    with pytest.raises(UserError, match="from 0 to 399"):
        tokenizer.checked(token_id)
