"""Any vocabulary that comes as a `tokenizer.json`: XLM-RoBERTa's unigrams, BERT's word pieces."""

import copy
import hashlib
import json
import pathlib
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tokenizers

from roberta_jax.data.byte_bpe import BYTE_OF_CHARACTER
from roberta_jax.data.tokenizer import Tokenizer, blank_follows, unicode_only
from roberta_jax.data.transformers_layout import COLLAPSE_BLANKS
from roberta_jax.data.words import MOST_BYTES
from roberta_jax.errors import UserError

FILE_NAME = "tokenizer.json"
_SETTINGS_NAMES = ("tokenizer_config.json", "special_tokens_map.json")
_NO_CHARACTER = "\U0010ffff"
BLANK = "\N{LOWER ONE EIGHTH BLOCK}"  # How sentencepiece spells the blank before a word.
# The parts of tokenizer.json that decide the ids.
_DECISIVE = ("added_tokens", "normalizer", "pre_tokenizer", "model")
# Our name of a role, transformers' names, and what the token is called where no file says it.
_ROLES = (
    ("bos_id", ("cls_token", "bos_token"), ("<s>", "[CLS]")),
    ("pad_id", ("pad_token",), ("<pad>", "[PAD]")),
    ("eos_id", ("sep_token", "eos_token"), ("</s>", "[SEP]")),
    ("unk_id", ("unk_token",), ("<unk>", "[UNK]")),
    ("mask_id", ("mask_token",), ("<mask>", "[MASK]")),
)

_DICT_ENTRY_BYTES = 100


class _Words:
    """Encodes from memory where words, which stand between blanks, are encoded independently."""

    def __init__(self, encode_batch: Callable[[Sequence[str]], list[list[int]]]):
        """`encode_batch` gives the ids of words that are met for the first time."""
        self._encode_batch = encode_batch
        self._ids_of_word: dict[str, bytes] = {}
        self._bytes = 0

    def encode_groups(
        self, sentence_groups: Sequence[Sequence[str]], eos_id: int
    ) -> Iterator[bytes]:
        """The ids, uint32, of each group's sentences, each followed by `eos_id`."""
        groups = [[sentence.split(" ") for sentence in group] for group in sentence_groups]
        self._learn({word for group in groups for words in group for word in words})
        end = np.uint32(eos_id).tobytes()
        ids_of = self._ids_of_word.__getitem__
        for group in groups:
            yield b"".join(b"".join(map(ids_of, words)) + end for words in group)

    def _learn(self, words: set[str]) -> None:
        if self._bytes > MOST_BYTES:
            self._ids_of_word.clear()  # Frequent words are back at once.
            self._bytes = 0
        missing = [word for word in words if word not in self._ids_of_word]
        for word, ids in zip(missing, self._encode_batch(missing), strict=True):
            data = np.array(ids, np.uint32).tobytes()
            self._ids_of_word[word] = data
            self._bytes += sys.getsizeof(word) + sys.getsizeof(data) + _DICT_ENTRY_BYTES


class JsonTokenizer(Tokenizer):
    """The tokenizer of a `tokenizer.json`, run by the library that wrote it."""

    def __init__(self, text: str, settings: dict[str, str], place: str):
        """Builds from the content of the files.

        Args:
          text: that of tokenizer.json.
          settings: name → text of the other files of the folder, which are kept as they are.
          place: what error messages call it.

        Raises:
          UserError: it is damaged, or has no token for one of the roles.
        """
        self._text, self._settings, self._place = text, settings, place
        try:
            content = json.loads(text)
            self._spelled = tokenizers.Tokenizer.from_str(text)
            self._plain = tokenizers.Tokenizer.from_str(json.dumps(_without_names(content)))
            others = [dict(json.loads(file)) for file in settings.values()]
        # The library raises bare Exception for everything that it cannot read.
        except Exception as error:
            raise UserError(f"The tokenizer files in {place} are damaged: {error}.") from error
        for tokenizer in (self._plain, self._spelled):
            tokenizer.no_padding()
            tokenizer.no_truncation()
        self.kind = str(content["model"]["type"]).lower()
        self.vocab_size = self._spelled.get_vocab_size(with_added_tokens=True)
        tokens = [self._spelled.id_to_token(i) for i in range(self.vocab_size)]
        self._tokens = [token for token in tokens if token is not None]
        if len(self._tokens) < self.vocab_size:
            raise UserError(
                f"The ids of {place}/{FILE_NAME} must be 0 to {self.vocab_size - 1}, each once; "
                f"{tokens.index(None)} is missing."
            )
        for role, names, usual in _ROLES:
            setattr(self, role, self._role(role, names, usual, others))
        self.mask_token = self._tokens[self.mask_id]
        special = {token["id"] for token in content["added_tokens"] if token["special"]}
        special |= {getattr(self, role) for role, _, _ in _ROLES}
        special |= {i for i, token in enumerate(self._tokens) if _is_unused(token)}
        self.special_ids = tuple(sorted(special))
        self._byte_level = (content.get("decoder") or {}).get("type") == "ByteLevel"
        self._byte_fallback = bool(content["model"].get("byte_fallback"))
        self._continuation = content["model"].get("continuing_subword_prefix") or ""
        # RoBERTa's pairs have two separators; WordPiece is BERT's.
        self.double_separator = self.kind != "wordpiece"
        self._words = _Words(self.encode_batch) if _has_separate_words(content) else None
        decisive = [self.kind, {name: content.get(name) for name in _DECISIVE}]
        canonical = json.dumps(decisive, sort_keys=True)
        self.fingerprint = hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the files."""
        return JsonTokenizer, (self._text, self._settings, self._place)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without special ids, computed on all cores."""
        encodings = self._plain.encode_batch_fast(unicode_only(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids, and for each the characters [begin, end) of `text` that it stands for."""
        (text,) = unicode_only([text])
        encoding = self._plain.encode(text, add_special_tokens=False)
        if self._byte_level:  # Its own post-processor has left out the blanks.
            return encoding.ids, encoding.offsets
        return encoding.ids, [_trimmed(text, *span) for span in encoding.offsets]

    def encode_with_masks(self, text: str) -> list[int]:
        """Ids of a text in which `mask_token` stands for the mask id.

        As transformers has it: a text with the names of other special tokens gives their ids too.
        """
        (text,) = unicode_only([text])
        return self._spelled.encode(text, add_special_tokens=False).ids

    def encode_sentences(
        self, sentence_groups: Sequence[Sequence[str]], *, blank_between: bool = False
    ) -> list[np.ndarray]:
        """Ids of groups of sentences, each followed by `</s>`: one uint32 [n] per group."""
        if blank_between and not self._words:  # With `_words`, every text has a blank in front.
            sentence_groups = [_as_running_text(group) for group in sentence_groups]
        if self._words and not any(BLANK in text for group in sentence_groups for text in group):
            return [
                np.frombuffer(data, np.uint32)
                for data in self._words.encode_groups(sentence_groups, self.eos_id)
            ]
        ids = iter(self.encode_batch([text for group in sentence_groups for text in group]))
        return [
            np.array([i for _ in group for i in [*next(ids), self.eos_id]], np.uint32)
            for group in sentence_groups
        ]

    def decode(self, ids: Iterable[int], *, skip_special_tokens: bool = True) -> str:
        """The text of `ids`, special ids left out or spelled."""
        checked = [self.checked(i) for i in ids]
        return self._spelled.decode(checked, skip_special_tokens=skip_special_tokens)

    def token_text(self, token_id: int) -> str:
        """One token as text for display, with the blank before it if it begins a word."""
        token = self._tokens[self.checked(token_id)]
        return (
            token if token_id in self.special_ids else self._piece(token).decode(errors="replace")
        )

    def pieces(self) -> list[bytes]:
        """What every entry stands for, by id; a blank in front where it begins a word."""
        special = set(self.special_ids)
        return [
            token.encode() if i in special else self._piece(token)
            for i, token in enumerate(self._tokens)
        ]

    def save(self, folder: str | pathlib.Path) -> None:
        """Writes the files as they were read."""
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in {FILE_NAME: self._text, **self._settings}.items():
            (folder / name).write_text(text, encoding="utf-8")

    def _piece(self, token: str) -> bytes:
        if self._byte_level and set(token) <= BYTE_OF_CHARACTER.keys():
            return bytes(BYTE_OF_CHARACTER[character] for character in token)
        if self._byte_fallback and (byte := re.fullmatch("<0x([0-9A-F]{2})>", token)):
            return bytes.fromhex(byte[1])
        if self._continuation:
            begins = not token.startswith(self._continuation)
            return (f" {token}" if begins else token.removeprefix(self._continuation)).encode()
        return token.replace(BLANK, " ").encode()

    def _role(
        self,
        role: str,
        names: Sequence[str],
        usual: Sequence[str],
        settings: Sequence[dict[str, Any]],
    ) -> int:
        said = [file[name] for file in settings for name in names if file.get(name)]
        named = [token.get("content") if isinstance(token, dict) else token for token in said]
        texts = [name for name in named if isinstance(name, str)]
        for text in [*texts, *usual]:
            token_id = self._spelled.token_to_id(text)
            if token_id is not None:
                return token_id
        raise UserError(
            f"The tokenizer in {self._place} has no {role.removesuffix('_id')} token: none of "
            f"{', '.join(dict.fromkeys([*texts, *usual]))} is among its {self.vocab_size:,} "
            "entries. A masked language model needs one."
        )


def read_json_tokenizer(folder: pathlib.Path) -> JsonTokenizer:
    """Reads `tokenizer.json`, and the files beside it that name the special tokens."""
    try:
        texts = {
            name: (folder / name).read_text(encoding="utf-8")
            for name in (FILE_NAME, *_SETTINGS_NAMES)
            if name == FILE_NAME or (folder / name).exists()
        }
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The tokenizer files in {folder} cannot be read: {error}.") from error
    return JsonTokenizer(texts.pop(FILE_NAME), texts, str(folder))


def _without_names(content: dict[str, Any]) -> dict[str, Any]:
    """The same tokenizer with other names for its special tokens, which no text holds.

    So "<mask>" in a text stays text: an added token would be recognized, and some vocabularies
    have it among their ordinary pieces besides.
    """
    content = copy.deepcopy(content)
    model = content["model"]
    special = {token["content"] for token in content["added_tokens"] if token["special"]}

    def hidden(name: str) -> str:
        return _NO_CHARACTER + name if name in special else name

    for token in content["added_tokens"]:
        token["content"] = hidden(token["content"])
    if isinstance(model["vocab"], dict):
        model["vocab"] = {hidden(name): i for name, i in model["vocab"].items()}
        if model.get("unk_token"):
            model["unk_token"] = hidden(model["unk_token"])
    else:
        model["vocab"] = [[hidden(name), score] for name, score in model["vocab"]]
    return content


def _as_running_text(sentences: Sequence[str]) -> list[str]:
    before = ["", *sentences[:-1]]
    return [
        f" {sentence}" if previous and blank_follows(previous) else sentence
        for previous, sentence in zip(before, sentences, strict=False)
    ]


def _has_separate_words(content: dict[str, Any]) -> bool:
    """Whether this is a tokenizer that `sentencepiece_model` made by a rule of sentencepiece.

    These rules do nothing across a blank, and no piece reaches over one. The exception is a text
    with the sign `BLANK` of its own, which is kept inside a text and goes at its end.
    """
    steps = (content.get("normalizer") or {}).get("normalizers") or []
    names = "".join(f"{step['type']} " for step in steps)
    cutting = content.get("pre_tokenizer") or {}
    return (
        re.fullmatch("(NFC (Lowercase )?Precompiled )?(Replace ){3}Prepend Replace ", names)
        is not None
        and steps[-5:-2]
        == [
            {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}
            for pattern, content in COLLAPSE_BLANKS
        ]
        and cutting.get("type") == "Metaspace"
        and cutting.get("prepend_scheme") == "never"
        and cutting.get("split") is True
    )


def _is_unused(token: str) -> bool:
    # BERT's vocabularies keep places free; XLM's end in entries that only fill the table.
    return token.startswith(("[unused", "madeupword"))


def _trimmed(text: str, begin: int, end: int) -> tuple[int, int]:
    while begin < end and text[begin].isspace():
        begin += 1
    return begin, end
