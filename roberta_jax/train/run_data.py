"""The prepared datasets of a run, one for each path that its phases name, checked against it."""

import dataclasses

from roberta_jax.config import PhaseConfig, PretrainConfig
from roberta_jax.data.mixture import RowSource, open_rows, weights_of
from roberta_jax.data.tokenizer import Tokenizer
from roberta_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class DataOfPath:
    """What lies at a path.

    Attributes:
      train: the training rows.
      validation: the validation rows; None if there are none.
      weights: of the datasets that are mixed.
    """

    train: RowSource
    validation: RowSource | None
    weights: list[float]


@dataclasses.dataclass(frozen=True)
class RunData:
    """All rows of a run.

    Attributes:
      of_path: by path.
      main: of the last phase, whose rows the model is made for.
    """

    of_path: dict[str, DataOfPath]
    main: RowSource

    def num_rows(self, path: str) -> int:
        """Training rows at a path."""
        return len(self.of_path[path].train)

    def tokenizer(self) -> Tokenizer:
        """That of all rows."""
        return self.main.tokenizer()

    def fingerprints(self) -> dict[str, str]:
        """Path → what depends on every row there, in the order of the phases."""
        return {path: data.train.fingerprint for path, data in self.of_path.items()}

    @property
    def fingerprint(self) -> str:
        """Depends on every row."""
        return ", ".join(self.fingerprints().values())


def open_data(config: PretrainConfig) -> RunData:
    """Opens the dataset of every phase.

    Raises:
      UserError: one is missing or damaged, or does not fit the config or the others.
    """
    places: dict[str, _Place] = {}
    for place in _places(config):
        if not place.path:
            raise UserError(
                f"config.{place.path_setting} is empty. Give the folder that `roberta-jax prepare` "
                f"wrote: --config.{place.path_setting}=DATASET."
            )
        other = places.setdefault(place.path, place)
        if other.sequence_length != place.sequence_length:
            raise UserError(
                f"Phases of {other.sequence_length} and of {place.sequence_length} tokens per row "
                f"have the same dataset, {place.path}. Prepare one for each length, and name it in "
                f"the phase, such as --config.phases[{other.phase}].path=DATASET."
            )
    of_path = {path: _open(config, place) for path, place in places.items()}
    main = of_path[config.main_path()].train
    for data in of_path.values():
        _check_alike(data.train, main)
    return RunData(of_path, main)


@dataclasses.dataclass(frozen=True)
class _Place:
    """The dataset of a phase, and the settings that name it."""

    phase: int
    path: str
    path_setting: str
    sequence_length: int
    length_setting: str


def _places(config: PretrainConfig) -> list[_Place]:
    places = []
    for number, phase in enumerate(config.phases or (PhaseConfig(),)):
        own = f"phases[{number}]."
        places.append(
            _Place(
                number,
                phase.path or config.data.path,
                f"{own}path" if phase.path else "data.path",
                phase.sequence_length or config.data.sequence_length,
                f"{own}sequence_length" if phase.sequence_length else "data.sequence_length",
            )
        )
    return places


def _open(config: PretrainConfig, place: _Place) -> DataOfPath:
    path, setting = place.path, place.length_setting
    rows = open_rows(path, "train")
    manifest = rows.manifest
    if manifest.sequence_length != place.sequence_length:
        raise UserError(
            f"The dataset {path} has rows of {manifest.sequence_length} tokens, and "
            f"config.{setting} is {place.sequence_length}. Set "
            f"--config.{setting}={manifest.sequence_length}, or prepare the text again with "
            f"--sequence_length={place.sequence_length}."
        )
    wanted = config.data.tokenizer_fingerprint
    if wanted and wanted != manifest.tokenizer.fingerprint:
        raise UserError(
            f"The dataset {path} was prepared with the tokenizer "
            f"{manifest.tokenizer.fingerprint}, and config.data.tokenizer_fingerprint asks for "
            f"{wanted}. Prepare the text with that tokenizer, or leave the setting empty to take "
            "the dataset's."
        )
    if config.encoder.vocab_size not in (0, manifest.tokenizer.vocab_size):
        raise UserError(
            f"The dataset {path} was prepared with a tokenizer of "
            f"{manifest.tokenizer.vocab_size} entries, and config.encoder.vocab_size is "
            f"{config.encoder.vocab_size}. Set --config.encoder.vocab_size=0 to take the "
            "dataset's, or prepare the text with the other tokenizer."
        )
    if not len(rows):
        raise UserError(f"The dataset {path} has no training rows; prepare more text.")
    if config.encoder.next_sentence_head and not manifest.label_slots:
        raise UserError(
            f"config.encoder.next_sentence_head is True, and the dataset {path} has no pairs of "
            f"segments: its format is {manifest.format}. Prepare the text with "
            "--format=segment_pair or sentence_pair, or set the head to False."
        )
    validation = open_rows(path, "validation")
    return DataOfPath(
        rows,
        validation if len(validation) else None,
        weights_of(rows, config.data.weights),
    )


def _check_alike(rows: RowSource, main: RowSource) -> None:
    """Refuses phases whose rows mean different things."""
    one, two = rows.manifest, main.manifest
    for name, mine, other in (
        ("tokenizer", one.tokenizer.fingerprint, two.tokenizer.fingerprint),
        ("attention", one.attention, two.attention),
        ("kind of labels", one.label_slots > 0, two.label_slots > 0),
    ):
        if mine != other:
            if name != "tokenizer":
                name, mine, other = "format", one.format, two.format
            raise UserError(
                f"The datasets {rows.folder} and {main.folder} cannot be phases of one run: their "
                f"{name} is {mine} and {other}. Prepare them with the same tokenizer and format."
            )


def resolve(config: PretrainConfig, rows: RowSource) -> PretrainConfig:
    """The config with everything in it that the dataset decides; this is what is stored."""
    identity = rows.manifest.tokenizer
    return dataclasses.replace(
        config,
        data=dataclasses.replace(
            config.data,
            tokenizer_fingerprint=identity.fingerprint,
            attention=config.data.attention or rows.manifest.attention,
        ),
        encoder=dataclasses.replace(config.encoder, vocab_size=identity.vocab_size),
    )


def check_padding(config: PretrainConfig, tokenizer: Tokenizer) -> None:
    """Refuses a model that takes another id for padding than the rows do."""
    if tokenizer.pad_id != config.encoder.pad_id:
        raise UserError(
            f"The dataset {config.main_path()} pads its rows with id {tokenizer.pad_id}, and "
            f"config.encoder.pad_id is {config.encoder.pad_id}. Set "
            f"--config.encoder.pad_id={tokenizer.pad_id}."
        )
