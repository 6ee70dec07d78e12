"""Every setting of the data engine, with its unit and range, and the checks between settings. Loads no data library.

Longer than other files because it is one list: whoever looks for a setting of the data looks here.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from core.config import RUNTIME, Config, from_home

QualityRule = Literal["gopher_quality", "gopher_repetition", "c4", "fineweb", "code"]
Treatment = Literal["keep", "replace", "drop"]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
NGRAM_WORDS = range(1, 21)
"""The n-grams that rules of repetition may be set for, by their number of words; the paper has 2 to 10."""
NgramWords = Annotated[int, Field(ge=NGRAM_WORDS.start, lt=NGRAM_WORDS.stop)]


class ReadingConfig(Config):
    """What is read of a raw file, and where reading stops."""

    max_record_share_malformed: float = Field(
        0.05,
        ge=0.0,
        le=1.0,
        description="Share of malformed records (0 to 1) above which a file of records is refused as damaged.",
    )
    max_json_bytes: int = Field(
        256 << 20,
        ge=1,
        le=1 << 40,
        description="Largest value of a .json file that is read as a whole, in bytes; it takes two to five times as "
        "much memory. Of an array each element is a value of its own; jsonl has lines.",
    )
    max_unpacked_bytes: int = Field(
        64 << 30,
        ge=1 << 20,
        le=1 << 50,
        description="Most bytes that one archive or compressed file may unpack to.",
    )
    max_unpacking_ratio: float = Field(
        200.0,
        ge=2.0,
        le=1e6,
        description="Largest size unpacked, as a factor of the size packed; a share above it is taken for a bomb.",
    )
    max_archive_members: int = Field(
        1_000_000, ge=1, le=1_000_000_000, description="Most members of one archive, as a number of files."
    )
    max_archive_depth: int = Field(
        2, ge=0, le=8, description="Archives within archives that are opened, as a number of layers."
    )
    max_file_seconds: float = Field(
        60.0,
        gt=0.0,
        le=86_400.0,
        description="Longest time for a document of a format that is laid out (pdf, office, html), in seconds of "
        "processor time.",
    )
    strict: bool = Field(
        False, description="Whether a file that cannot be read or changes meanwhile ends the run instead."
    )


class QualityConfig(Config):
    """Which published rules of quality are asked, and their thresholds. A threshold that is null is not asked."""

    rules: tuple[QualityRule, ...] = Field(
        (),
        description="Rule sets, in the order in which they are asked. fineweb and c4 are made for web pages and drop "
        "hard-wrapped text such as books; code is asked of source code alone, the others of prose alone.",
    )
    # Gopher (Rae et al. 2021, appendix A1.1): quality
    gopher_min_words: int | None = Field(50, ge=0, le=10**9, description="Fewest words (a number of words).")
    gopher_max_words: int | None = Field(100_000, ge=1, le=10**9, description="Most words (number of words).")
    gopher_min_mean_word_length: float | None = Field(
        3.0, ge=0.0, le=1000.0, description="Shortest mean word, in characters."
    )
    gopher_max_mean_word_length: float | None = Field(
        10.0, ge=0.0, le=1000.0, description="Longest mean word, in characters."
    )
    gopher_max_symbol_ratio: float | None = Field(
        0.1, ge=0.0, le=100.0, description="Most '#' and, separately, ellipses, as a share of the words."
    )
    gopher_max_bullet_lines: float | None = Field(
        0.9, ge=0.0, le=1.0, description="Largest share of lines that begin with a bullet."
    )
    gopher_max_ellipsis_lines: float | None = Field(
        0.3, ge=0.0, le=1.0, description="Largest share of lines that end with an ellipsis."
    )
    gopher_min_alphabetic_words: float | None = Field(
        0.8, ge=0.0, le=1.0, description="Smallest share of words with a letter in them."
    )
    gopher_min_stop_words: int | None = Field(
        2,
        ge=0,
        le=1000,
        description="Fewest of the eight English stop words (a number of words); not asked where data.languages told "
        "another language than English.",
    )
    # Gopher: repetition
    gopher_max_duplicate_lines: float | None = Field(
        0.3, ge=0.0, le=1.0, description="Largest share of lines that stand earlier in the text."
    )
    gopher_max_duplicate_paragraphs: float | None = Field(
        0.3, ge=0.0, le=1.0, description="Largest share of paragraphs that stand earlier in the text."
    )
    gopher_max_duplicate_line_characters: float | None = Field(
        0.2, ge=0.0, le=1.0, description="Largest share of characters in repeated lines."
    )
    gopher_max_duplicate_paragraph_characters: float | None = Field(
        0.2, ge=0.0, le=1.0, description="Largest share of characters in repeated paragraphs."
    )
    gopher_max_top_ngrams: dict[NgramWords, Share] = Field(
        {2: 0.20, 3: 0.18, 4: 0.16},
        description="n (words) -> largest share of characters in the most frequent n-gram.",
    )
    gopher_max_duplicate_ngrams: dict[NgramWords, Share] = Field(
        {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10},
        description="n (words) -> largest share of characters in repeated n-grams.",
    )
    # C4 (Raffel et al. 2020, section 2.2)
    c4_min_words_a_line: int | None = Field(
        3, ge=0, le=1000, description="Shorter lines are removed, as a number of words."
    )
    c4_min_sentences: int | None = Field(
        5,
        ge=0,
        le=10**6,
        description="Fewest sentences that are left (a number of sentences, or rows of text).",
    )
    c4_max_word_length: int | None = Field(
        1000, ge=1, le=10**6, description="Lines with a longer word are removed, in characters."
    )
    c4_terminal_punctuation: bool = Field(
        True, description="Whether lines that do not end with . ? ! or a straight quotation mark are removed."
    )
    # FineWeb (Penedo et al. 2024, section 3.6)
    fineweb_min_punctuated_lines: float | None = Field(
        0.12, ge=0.0, le=1.0, description="Smallest share of lines that end with punctuation."
    )
    fineweb_max_short_lines: float | None = Field(
        0.67, ge=0.0, le=1.0, description="Largest share of lines of at most fineweb_short_line characters."
    )
    fineweb_short_line: int = Field(30, ge=1, le=10_000, description="Length of a short line, in characters.")
    fineweb_max_duplicate_line_characters: float | None = Field(
        0.01, ge=0.0, le=1.0, description="Largest share of characters in repeated lines."
    )
    fineweb_max_lines_a_word: float | None = Field(
        0.3, ge=0.0, le=100.0, description="Most line ends, as a share of the words."
    )
    # Code, after the filters of The Stack and StarCoder (Kocetkov et al. 2022; Li et al. 2023, section 3)
    code_max_line_length: int | None = Field(
        1000, ge=1, le=10**9, description="Longest line of source code, in characters (longer: minified)."
    )
    code_max_mean_line_length: float | None = Field(
        100.0, ge=1.0, le=1e9, description="Longest mean line of source code, in characters."
    )
    code_min_alphanumeric: float | None = Field(
        0.25, ge=0.0, le=1.0, description="Smallest share of letters and digits in source code."
    )
    code_drop_generated: bool = Field(True, description="Whether code that says it was generated is dropped.")
    code_max_data_share: float | None = Field(
        0.5,
        ge=0.0,
        le=1.0,
        description="Largest share of characters in long literals (numbers, base64, hexadecimal) in code.",
    )

    @model_validator(mode="after")
    def _check_ranges(self) -> Self:
        for what in ("words", "mean_word_length"):
            least, most = getattr(self, f"gopher_min_{what}"), getattr(self, f"gopher_max_{what}")
            if least is not None and most is not None and least > most:
                raise ValueError(
                    f"gopher_min_{what} {least} is above gopher_max_{what} {most}: no text could be kept; "
                    "lower the one or raise the other"
                )
        return self


class LanguageConfig(Config):
    """Which languages are kept. Detection looks at about a kilobyte, from several places of a text."""

    detect: bool = Field(True, description="Whether the language of prose is told, for the report.")
    keep: tuple[str, ...] = Field(
        (),
        description="ISO 639-1 codes such as en, de, in any case; prose in other languages is dropped, and prose of "
        "unknown language unless und is one of them. Empty = all are kept.",
    )
    min_confidence: float = Field(
        0.5,
        ge=0.0,
        le=1.0,
        description="Smallest probability of the language found; below it the language counts as unknown.",
    )

    @field_validator("keep")
    @classmethod
    def _in_lower_case(cls, codes: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(code.lower() for code in codes)


class PrivacyConfig(Config):
    """What becomes of personal data: keep it, replace it by a stand-in, or drop the document.

    What documentation uses (example.com, 555-01xx, 203.0.113.0/24 and the like) is nobody's and stays.
    """

    emails: Treatment = Field(
        "keep", description="E-mail addresses, but for those at example.com and the like."
    )
    ip_addresses: Treatment = Field("keep", description="Public IPv4 and IPv6 addresses.")
    phone_numbers: Treatment = Field("keep", description="International and North American phone numbers.")
    card_numbers: Treatment = Field("keep", description="Payment card numbers with a right check digit.")
    secrets: Treatment = Field("keep", description="Private keys, access tokens and passwords in addresses.")


class BoilerplateConfig(Config):
    """Text around texts that says nothing about them."""

    wrappers: bool = Field(
        True, description="Whether wrappers of known libraries (Project Gutenberg) are removed."
    )
    recurring_lines: bool = Field(
        True,
        description="Whether blocks of lines that recur across documents (licence headers, navigation) are removed.",
    )
    recurring_min_documents: int = Field(
        10,
        ge=3,
        le=10**9,
        description="From how many documents on a line, with the same lines behind it, counts as recurring.",
    )


class DuplicatesConfig(Config):
    """Texts that are alike. Exact duplicates are `data.remove_duplicates`."""

    near: Literal["off", "group", "remove"] = Field(
        "remove",
        description="Near duplicates: remove = one of each cluster stays; group = all stay, and go to one split.",
    )
    min_similarity: float = Field(
        0.8,
        ge=0.7,
        le=1.0,
        description="Share of common 5-word shingles (Jaccard) from which two texts are near duplicates (0 to 1). "
        "Pairs below 0.75 are found in part only: 85 % of those at 0.7.",
    )
    paragraphs: bool = Field(
        False, description="Whether paragraphs that stand in an earlier document are removed."
    )
    paragraph_min_characters: int = Field(
        100, ge=20, le=10**6, description="Shorter paragraphs are never duplicates, in characters."
    )


class BlocklistConfig(Config):
    """What a user never wants to see in the corpus."""

    documents: Path | None = Field(
        None,
        description="File of documents to drop, one a line: a source, a document id, or the SHA-256 of a text.",
    )
    patterns: Path | None = Field(
        None,
        description="File of words and patterns, one a line; a document with one is dropped. A line /.../ is a regular "
        "expression (RE2), any other line a word or phrase that is looked for as whole words, whatever the case.",
    )


class DecontaminationConfig(Config):
    """Evaluation data that must not be in the corpus."""

    files: tuple[Path, ...] = Field(
        (),
        description="Evaluation files (jsonl, json, txt); documents that share n-grams with them are dropped.",
    )
    ngram_words: int = Field(
        13, ge=4, le=100, description="Length of an n-gram, in words (a number of words; GPT-3 took 13)."
    )
    max_shared_ngrams: int = Field(
        0,
        ge=0,
        le=10**6,
        description="Most n-grams that a document may share with them (a number of n-grams).",
    )


class AugmentationConfig(Config):
    """Opt-in variations for small corpora. Each share is that of the training documents that get one more copy."""

    lowercase_share: float = Field(
        0.0, ge=0.0, le=1.0, description="Share of documents repeated in lower case."
    )
    whitespace_share: float = Field(
        0.0,
        ge=0.0,
        le=1.0,
        description="Share of documents repeated with their lines joined into paragraphs.",
    )
    context_share: float = Field(
        0.0,
        ge=0.0,
        le=1.0,
        description="Share of documents repeated with their last part in front, so that beginnings are predicted from "
        "what follows them.",
    )


class SqlConfig(Config):
    """Text from a database, only when asked for."""

    url: str | None = Field(
        None,
        description="SQLAlchemy URL, such as sqlite:///notes.db; null = none. ${NAME} is taken from the environment, "
        "which keeps a password out of files of settings. Needs the extra sql.",
    )
    query: str | None = Field(
        None, description="The SELECT that gives the rows; give it an ORDER BY so that runs agree."
    )
    text_column: str = Field("text", description="Column that holds the text.")

    @model_validator(mode="after")
    def _check_both(self) -> Self:
        if (self.url is None) != (self.query is None):
            raise ValueError("url and query go together; set both or neither")
        return self


class HubConfig(Config):
    """A public dataset of the Hugging Face hub, streamed, only when asked for. The one thing that uses the network."""

    dataset: str | None = Field(
        None,
        description="A recipe (dolma, c4, fineweb-edu, wikipedia), the id of a dataset (owner/name), the directory of "
        "a local one, or a builder (json, csv, parquet, arrow, text) of data_files; null = none.",
    )
    subset: str | None = Field(None, description="Configuration of the dataset, such as 20231101.en.")
    split: str = Field("train", description="Split of the dataset.")
    revision: str | None = Field(
        None,
        description="Commit, branch or tag of a dataset on the hub; null = what is newest at the first request.",
    )
    data_files: tuple[str, ...] = Field(
        (), description="Files of the dataset to read, as paths or globs within it; empty = all of the split."
    )
    text_field: str = Field(
        "text", description="Field that holds the text; a path such as meta.body goes into nested objects."
    )
    target_tokens: int | None = Field(
        100_000_000,
        ge=1000,
        le=10**15,
        description="Reading stops after about this many tokens (estimated at 4 bytes a token); null = all.",
    )
    max_retries: int = Field(
        5,
        ge=0,
        le=1000,
        description="How often a failed request is repeated (a number, waiting seconds between).",
        json_schema_extra=RUNTIME,
    )


class DataConfig(Config):
    """Where text comes from, what is kept of it, how it is split and packed."""

    corpus: Literal["auto", "directory", "python_standard_library", "sql", "hub"] = Field(
        "auto",
        description="directory = the files in raw_dir; python_standard_library = source and docstrings of the running "
        "interpreter; sql, hub = as data.sql and data.hub say; auto = raw_dir when it holds files, otherwise the "
        "standard library (and says so).",
    )
    raw_dir: Path = Field(
        Path("data/datasets/raw"),
        description="Directory of raw files; s3://bucket/raw and the like where fsspec has the file system.",
    )
    more_data: tuple[Path, ...] = Field(
        (),
        description="Further directories and files that are read after what corpus says, with the same settings.",
    )
    learned: Path | None = Field(
        None,
        description="File of the documents that an earlier training has learned, as scripts/update.py writes it: their "
        "rows are kept apart, to be replayed (training.replay_share); null = none.",
    )
    recursive: bool = Field(True, description="Whether sub-directories of raw_dir are read too.")
    include: tuple[str, ...] = Field(
        (), description="Globs of files to read, relative to raw_dir, such as books/**/*.txt. Empty = all."
    )
    exclude: tuple[str, ...] = Field((), description="Globs of files and directories to pass over.")
    respect_gitignore: bool = Field(False, description="Whether what .gitignore files name is passed over.")
    file_list: Path | None = Field(
        None,
        description="File that names the files to read, one path a line and relative to it, instead of raw_dir; "
        "null = none.",
    )
    text_field: str = Field(
        "text",
        description="Field of records (json, jsonl, csv, parquet) that holds the text; a path such as meta.body goes "
        "into nested objects.",
    )
    min_text_length: int = Field(
        50, ge=0, le=1_000_000_000, description="Shorter documents are dropped, in characters."
    )
    max_text_length: int | None = Field(
        None,
        ge=1,
        le=1_000_000_000,
        description="Longer documents are dropped, in characters; null = no limit.",
    )
    max_urls_per_document: int | None = Field(
        None,
        ge=0,
        le=1_000_000,
        description="Documents with more web addresses than this number are dropped; null = no limit.",
    )
    remove_duplicates: bool = Field(
        True,
        description="Whether duplicates are dropped: exact ones (after cleaning), and near ones as duplicates.near "
        "says. false keeps them all; near duplicates still go to one split.",
    )
    reading: ReadingConfig = Field(default_factory=ReadingConfig)
    boilerplate: BoilerplateConfig = Field(default_factory=BoilerplateConfig)
    languages: LanguageConfig = Field(default_factory=LanguageConfig)
    quality: QualityConfig = Field(default_factory=QualityConfig)
    privacy: PrivacyConfig = Field(default_factory=PrivacyConfig)
    blocklist: BlocklistConfig = Field(default_factory=BlocklistConfig)
    decontamination: DecontaminationConfig = Field(default_factory=DecontaminationConfig)
    duplicates: DuplicatesConfig = Field(default_factory=DuplicatesConfig)
    augmentation: AugmentationConfig = Field(default_factory=AugmentationConfig)
    sql: SqlConfig = Field(default_factory=SqlConfig)
    hub: HubConfig = Field(default_factory=HubConfig)
    tokenizer_vocab_size: int = Field(
        8192, ge=300, le=1_000_000, description="Size of the vocabulary to train, in tokens."
    )
    train_split: float = Field(0.9, gt=0.0, le=1.0, description="Share of documents to train on (0 to 1).")
    val_split: float = Field(0.05, ge=0.0, lt=1.0, description="Share of documents to validate on (0 to 1).")
    test_split: float = Field(0.05, ge=0.0, lt=1.0, description="Share of documents to test on (0 to 1).")
    stride: int = Field(
        0,
        ge=0,
        le=1_048_575,
        description="Tokens that a row of the dataset repeats from the row before it within one document.",
    )
    seed: int = Field(1337, ge=0, lt=2**63, description="Seed of the split (a plain number).")
    num_workers: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Number of processes that read and encode; null = one for each core.",
        json_schema_extra=RUNTIME,
    )
    memory_bytes: int = Field(
        2_000_000_000,
        ge=200_000_000,
        le=1 << 50,
        description="Memory that collecting may take, all its processes together, in bytes, whatever the corpus.",
        json_schema_extra=RUNTIME,
    )
    engine: Literal["local", "dask"] = Field(
        "local",
        description="Who does the work: processes of this machine, or the workers of a Dask cluster (extra cluster).",
        json_schema_extra=RUNTIME,
    )
    scheduler: str | None = Field(
        None,
        description="Address of the Dask scheduler, such as tcp://10.0.0.1:8786; null = a cluster on this machine.",
        json_schema_extra=RUNTIME,
    )
    cache_dir: str | None = Field(
        None,
        description="Where finished shards of work are kept, so that a later collection redoes only what changed; a "
        "path, or an fsspec URL that all workers reach; null = .cache beside the corpus.",
        json_schema_extra=RUNTIME,
    )
    output_dir: Path | None = Field(
        None,
        description="Where the collected corpus goes; null = <run>/corpus.",
        json_schema_extra=RUNTIME,
    )
    dataset_dir: Path | None = Field(
        None, description="Where the dataset goes; null = <run>/dataset.", json_schema_extra=RUNTIME
    )

    @field_validator("cache_dir")
    @classmethod
    def _cache_at_home(cls, value: str | None) -> str | None:
        return str(from_home(Path(value))) if value is not None and value.startswith("~") else value

    @model_validator(mode="after")
    def _check_splits(self) -> Self:
        total = self.train_split + self.val_split + self.test_split
        if abs(total - 1.0) > 1e-6:
            raise ValueError(f"train_split + val_split + test_split must be 1, found {total:g}")
        if self.max_text_length is not None and self.max_text_length < self.min_text_length:
            raise ValueError(
                f"max_text_length {self.max_text_length} is below min_text_length {self.min_text_length}"
            )
        if self.corpus == "sql" and self.sql.url is None:
            raise ValueError("corpus is sql, but sql.url is not set; set sql.url and sql.query")
        if self.corpus == "hub" and self.hub.dataset is None:
            raise ValueError("corpus is hub, but hub.dataset is not set; set it, for example to wikipedia")
        if self.scheduler is not None and self.engine != "dask":
            raise ValueError("scheduler is set, but engine is local; set engine to dask")
        return self
