"""Every setting of the line, with its unit and range, and the checks between settings. Loads no tensor library.

What training runs have in common is in `core.optimization_config`, what is special to tuning in `core.tuning_config`;
the rest is one list, longer than other files, because whoever looks for a setting looks here.
"""

import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from core.config import RUNTIME, Config
from core.data_config import DataConfig as DataConfig
from core.optimization_config import OptimizationConfig as OptimizationConfig
from core.tuning_config import InstructionConfig as InstructionConfig
from core.tuning_config import PreferenceConfig as PreferenceConfig


class ModelConfig(Config):
    """The shape of the decoder. The switches name three architectures that other tools load unmodified:

    - RMSNorm + SwiGLU + RoPE + QK-norm is Qwen3 (the default), without QK-norm it is Llama;
    - LayerNorm + plain feed-forward + learned positions + biases is GPT-2.
    """

    hidden_size: int = Field(256, ge=8, le=65_536, description="Width of the residual stream, in features.")
    num_layers: int = Field(6, ge=1, le=512, description="Number of decoder blocks.")
    num_attention_heads: int = Field(4, ge=1, le=1024, description="Number of query heads a layer.")
    num_kv_heads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Number of key/value heads a layer (grouped-query attention); null = one for each query head.",
    )
    head_dim: int | None = Field(
        None,
        ge=2,
        le=1024,
        description="Features of one head; null = hidden_size / num_attention_heads.",
    )
    intermediate_size: int | None = Field(
        None,
        ge=8,
        le=524_288,
        description="Inner width of the feed-forward part, in features; null = 8/3 x hidden_size rounded up "
        "to a multiple of 64 with SwiGLU (Shazeer 2020), 4 x hidden_size without.",
    )
    vocab_size: int | None = Field(
        None,
        ge=8,
        le=4_194_304,
        description="Rows of the embedding, in tokens; null = as many as the tokenizer has.",
    )
    max_position_embeddings: int = Field(
        256,
        ge=8,
        le=1_048_576,
        description="Context length, in tokens; rows of the dataset have this length.",
    )
    use_rms_norm: bool = Field(True, description="RMSNorm (Zhang & Sennrich 2019) instead of LayerNorm.")
    use_swiglu: bool = Field(True, description="Gated feed-forward with SiLU instead of a plain one.")
    use_rope_embeddings: bool = Field(
        True, description="Rotary positions (Su et al. 2021) instead of learned ones."
    )
    use_qk_norm: bool = Field(True, description="RMSNorm on queries and keys of each head, as in Qwen3.")
    use_bias: bool = Field(False, description="Biases in the linear layers.")
    tie_word_embeddings: bool = Field(True, description="One matrix for input embedding and output head.")
    norm: str | None = Field(
        None,
        description="Which norm: rms_norm, layer_norm or one of your own; null = by use_rms_norm, and any other than "
        "that makes a model that this project alone loads.",
    )
    feed_forward: str | None = Field(
        None,
        description="Which feed-forward part: swiglu, plain or one of your own; null = by use_swiglu, and any other "
        "than that makes a model that this project alone loads.",
    )
    activation: str = Field(
        "gelu_tanh",
        description="Activation of the plain feed-forward part: gelu, gelu_tanh, relu, relu_squared or one of your "
        "own, with which this project alone loads the model. SwiGLU always uses SiLU.",
    )
    dropout: float = Field(
        0.0, ge=0.0, lt=1.0, description="Share of features dropped while training (a probability)."
    )
    rope_theta: float = Field(
        10_000.0, gt=0.0, le=1e9, description="Base of the rotary frequencies (dimensionless)."
    )
    norm_epsilon: float = Field(
        1e-6, gt=0.0, le=0.1, description="Added to the variance in each norm (dimensionless)."
    )
    initializer_range: float = Field(
        0.02,
        gt=0.0,
        le=1.0,
        description="Standard deviation of the initial weights (dimensionless). With adamw for all parameters "
        "sqrt(0.4 / hidden_size) learns faster in narrow models; with muon it makes no difference.",
    )

    @model_validator(mode="after")
    def _check_shape(self) -> Self:
        if self.head_dim is None and self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not divisible by num_attention_heads "
                f"{self.num_attention_heads}; change one of them or set head_dim"
            )
        if self.num_attention_heads % self.kv_heads:
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} is not divisible by num_kv_heads {self.kv_heads}"
            )
        if self.use_rope_embeddings and self.features_per_head % 2:
            raise ValueError(
                f"rotary positions need an even number of features a head, found {self.features_per_head}"
            )
        if self.use_rope_embeddings and not self.use_qk_norm and self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"Llama loads only where hidden_size {self.hidden_size} is divisible by num_attention_heads "
                f"{self.num_attention_heads}, head_dim or not; with use_qk_norm it is Qwen3, which is free in this"
            )
        self._check_architecture()
        return self

    def _check_architecture(self) -> None:
        modern = (self.use_rms_norm, self.use_swiglu, self.use_rope_embeddings)
        if all(modern):
            if self.use_qk_norm and self.use_bias:
                raise ValueError("use_bias and use_qk_norm exclude each other: Qwen3 has no biases")
            return
        if any(modern):
            raise ValueError(
                "this mixture of parts is no architecture that other tools load: set use_rms_norm, use_swiglu and "
                "use_rope_embeddings all true (Llama, or Qwen3 with use_qk_norm) or all false (GPT-2)"
            )
        wrong = {
            "use_qk_norm must be false": self.use_qk_norm,
            "use_bias must be true": not self.use_bias,
            "num_kv_heads must equal num_attention_heads": self.kv_heads != self.num_attention_heads,
            "head_dim must be hidden_size / num_attention_heads": self.features_per_head
            * self.num_attention_heads
            != self.hidden_size,
        }
        if any(wrong.values()):
            raise ValueError("the GPT-2 shape: " + ", ".join(k for k, v in wrong.items() if v))

    @property
    def architecture(self) -> Literal["qwen3", "llama", "gpt2"]:
        """Which architecture of the ecosystem this shape is."""
        if not self.use_rope_embeddings:
            return "gpt2"
        return "qwen3" if self.use_qk_norm else "llama"

    @property
    def kv_heads(self) -> int:
        """Number of key/value heads a layer."""
        return self.num_kv_heads or self.num_attention_heads

    @property
    def features_per_head(self) -> int:
        """Features of one attention head."""
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def norm_name(self) -> str:
        """The norm of the residual stream, in `models.normalization.NORMS`."""
        return self.norm or ("rms_norm" if self.use_rms_norm else "layer_norm")

    @property
    def feed_forward_name(self) -> str:
        """The feed-forward part, in `models.feed_forward.FEED_FORWARDS`."""
        return self.feed_forward or ("swiglu" if self.use_swiglu else "plain")

    @property
    def feed_forward_size(self) -> int:
        """Inner width of the feed-forward part, in features."""
        if self.intermediate_size is not None:
            return self.intermediate_size
        if self.feed_forward_name != "swiglu":
            return 4 * self.hidden_size
        return -(-8 * self.hidden_size // (3 * 64)) * 64


class TokenizerConfig(Config):
    """How the vocabulary is learned. Its size is `data.tokenizer_vocab_size`."""

    model_type: Literal["bpe", "unigram", "char", "word", "byte_bpe", "wordpiece", "word_level"] = Field(
        "bpe",
        description="The algorithm: bpe, unigram, char or word of SentencePiece, byte_bpe, wordpiece or word_level of "
        "Hugging Face tokenizers. word_level loses white space and rare words; all others give back every text.",
    )
    character_coverage: float = Field(
        0.9995,
        ge=0.98,
        le=1.0,
        description="Share of the corpus' characters that get pieces of their own; the rest is spelled in bytes "
        "(SentencePiece only).",
    )
    split_digits: bool = Field(True, description="Whether each digit is a token of its own.")
    split_by_unicode_script: bool = Field(
        True,
        description="Whether no piece has letters of two scripts, or letters and punctuation (SentencePiece only).",
    )
    max_piece_length: int = Field(
        32, ge=1, le=512, description="Longest piece, in characters; of byte_bpe in bytes."
    )
    training_bytes: int = Field(
        100_000_000,
        ge=1000,
        le=10_000_000_000,
        description="At most this much text is used for training, in bytes, sampled evenly over the corpus.",
    )
    balance_sources: bool = Field(
        True,
        description="Whether each source (first directory of a document's path, or extension of a file beside none) "
        "contributes as much text to the training as any other that has as much.",
    )
    shrink_to_fit: bool = Field(
        False,
        description="Whether a corpus too small for the vocabulary gets the largest feasible one instead of an error.",
    )
    path: Path | None = Field(
        None,
        description="An existing tokenizer to use instead of training one: a SentencePiece .model, a tokenizer.json, a "
        ".tiktoken file, or a directory that holds one; null = train.",
    )
    tiktoken_pattern: str | None = Field(
        None,
        description="How a .tiktoken file cuts text into words: gpt2, cl100k, o200k or a regular expression; null = "
        "known for the files that OpenAI published.",
    )
    references: tuple[Path, ...] = Field(
        (),
        description="Tokenizers to compare with in tokenizer_report.json (as for path).",
        json_schema_extra=RUNTIME,
    )
    output_dir: Path | None = Field(
        None,
        description="Where the tokenizer goes; null = <run>/tokenizer.",
        json_schema_extra=RUNTIME,
    )


class TrainingConfig(OptimizationConfig):
    """Pretraining. Without total_steps, epochs or time_budget_seconds its length is 20 tokens a parameter
    (Hoffmann et al. 2022), at most 4 passes over the data (Muennighoff et al. 2023)."""

    init_from: Path | None = Field(
        None,
        description="A model to go on from, instead of weights drawn anew: a directory of this project or of "
        "transformers (Llama, Qwen3, GPT-2), or a run. It decides shape and tokenizer.",
    )
    replay_share: float | None = Field(
        None,
        gt=0.0,
        le=0.9,
        description="Share of rows that come from documents learned before (data.learned), spread evenly over the "
        "steps (0 to 0.9), so that less of them is forgotten; null = none.",
    )
    optimizer: str = Field(
        "muon",
        description="muon for the matrices of the blocks and adamw for the rest; adamw for all parameters; or one of "
        "your own.",
    )
    learning_rate: float = Field(
        0.01,
        gt=0.0,
        le=10.0,
        description="Peak learning rate of what AdamW moves (dimensionless): beside muon "
        "0.02 x sqrt(256 / hidden_size) is good, with adamw for all parameters a sixth of that.",
    )
    schedule: str = Field(
        "warmup_stable_decay",
        description="Course of the learning rate after the warm-up: cosine, linear, constant, warmup_stable_decay or "
        "one of your own.",
    )
    decay_ratio: float = Field(
        0.6,
        gt=0.0,
        le=1.0,
        description="Length of the decay of warmup_stable_decay, as a share of all steps (0 to 1).",
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="Device of the whole line: auto (CUDA, then MPS, then CPU), cpu, cuda, cuda:1, mps.",
        json_schema_extra=RUNTIME,
    )

    def fingerprint_settings(self) -> dict[str, Any]:
        """As for every training; the model that init_from points to enters by its content."""
        values = super().fingerprint_settings()
        del values["init_from"]
        return values


class EvaluationConfig(Config):
    """The short evaluation at the end of the line."""

    num_questions: int = Field(
        200,
        ge=0,
        le=1_000_000,
        description="Number of training questions (held in) that are asked and checked.",
    )
    num_validation_questions: int = Field(
        100,
        ge=0,
        le=1_000_000,
        description="Number of validation questions (held out) that are asked and checked.",
    )
    max_batches: int | None = Field(
        100, ge=1, le=1_000_000, description="Most batches of 16 rows read a split; null = all of them."
    )
    max_answer_tokens: int = Field(96, ge=1, le=65_536, description="Longest answer, in tokens.")
    num_samples: int = Field(3, ge=0, le=1000, description="Number of texts that the model continues.")
    tasks: tuple[Path, ...] = Field((), description="Files of questions (jsonl) that the models are asked.")
    num_shots: int = Field(
        0, ge=0, le=1000, description="Number of solved questions shown in front of each one of a task."
    )
    num_documents: int = Field(
        200,
        ge=0,
        le=1_000_000,
        description="Number of documents read a split for the figures by source and length.",
    )
    quality: bool = Field(
        True, description="Whether the last model writes samples in which repetitions and copies are counted."
    )
    speed: bool = Field(
        True, description="Whether the last model's speed is measured.", json_schema_extra=RUNTIME
    )
    batch_size: int = Field(
        32, ge=1, le=65_536, description="Number of answers generated at a time.", json_schema_extra=RUNTIME
    )


_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_SECONDS_OF_UNIT = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def _seconds(duration: str) -> float:
    return float(duration[:-1]) * _SECONDS_OF_UNIT[duration[-1]]


class RunConfig(Config):
    """The run as a whole."""

    name: str = Field(
        "default", pattern=r"^\w[\w.-]*$", description="Name of the run.", json_schema_extra=RUNTIME
    )
    dir: Path | None = Field(
        None,
        description="Run directory, one sub-directory a stage; null = runs/<name>.",
        json_schema_extra=RUNTIME,
    )
    parent: Path | None = Field(
        None,
        description="The run that this one goes on from, as scripts/update.py sets it: what it wrote is no data; null "
        "= none.",
        json_schema_extra=RUNTIME,
    )
    preset: str | None = Field(
        None,
        description="A directory of configs/ whose settings the others are laid over; auto = by the memory of the "
        "device; null = none.",
        json_schema_extra=RUNTIME,
    )

    time_budget: str | None = Field(
        None,
        description="Time for pretraining and instruction tuning together, such as 90s, 10m, 2h or 3d (seconds, "
        "minutes, hours, days). Model, vocabulary, batch and the split of the time are chosen for it, as far as they "
        "are not given, by the speed of this machine and the size of the data; training_plan.json keeps the choice.",
        json_schema_extra=RUNTIME,
    )

    @field_validator("time_budget")
    @classmethod
    def _check_duration(cls, value: str | None) -> str | None:
        if value is not None and (_DURATION.fullmatch(value) is None or _seconds(value) <= 0):
            raise ValueError(
                f"{value!r} is no time; give a number above 0 and s, m, h or d, such as 90s, 10m, 2h or 3d"
            )
        return value

    @property
    def time_budget_seconds(self) -> float | None:
        """`time_budget` in seconds."""
        return None if self.time_budget is None else _seconds(self.time_budget)

    @property
    def directory(self) -> Path:
        """Where the run's artifacts are."""
        return self.dir if self.dir is not None else Path("runs") / self.name


class PipelineConfig(Config):
    """All sections together."""

    run: RunConfig = RunConfig()
    data: DataConfig = DataConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    instruction: InstructionConfig = InstructionConfig()
    preference: PreferenceConfig = PreferenceConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @model_validator(mode="after")
    def _check_between_sections(self) -> Self:
        if self.model.vocab_size is not None and self.model.vocab_size < self.data.tokenizer_vocab_size:
            raise ValueError(
                f"model.vocab_size {self.model.vocab_size} is below data.tokenizer_vocab_size "
                f"{self.data.tokenizer_vocab_size}: some tokens would have no embedding; make them equal or "
                "set model.vocab_size to null"
            )
        if self.training.replay_share is not None and self.data.learned is None:
            raise ValueError(
                "training.replay_share is given and data.learned names no documents that were learned before; "
                "scripts/update.py sets both, or set it to null"
            )
        for name in ("training", "instruction"):
            for length in ("total_steps", "epochs"):
                if self.run.time_budget is not None and getattr(getattr(self, name), length) is not None:
                    raise ValueError(
                        f"run.time_budget {self.run.time_budget} and {name}.{length} both say how long to train; set "
                        "one of them to null"
                    )
        if self.data.stride >= self.model.max_position_embeddings:
            raise ValueError(
                f"data.stride {self.data.stride} must be below model.max_position_embeddings "
                f"{self.model.max_position_embeddings}"
            )
        return self
