"""Tokens a second on this machine, beside transformers' generate and llama.cpp: one model's shape, random weights.

Each contender runs in a process of its own, in turns, several rounds; the fastest quarter of its steps counts, because
what else runs on the machine slows steps down and speeds none up. Ratios are what to read. With `--threads 1` seconds
are the processor's, which other processes disturb less.

    python benchmarks/inference.py                                   # about four minutes on two cores
    python benchmarks/inference.py --llama-python VENV/bin/python    # with llama.cpp: pip install llama-cpp-python gguf
    python benchmarks/inference.py --cold runs/quickstart            # only: seconds from start to the first word
    python benchmarks/inference.py --quality runs/quickstart         # only: bits per byte in each format
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

ROOT = Path(__file__).resolve().parents[1]

SHAPE: dict[str, int] = {
    "hidden_size": 768,
    "intermediate_size": 1536,
    "num_layers": 12,
    "num_attention_heads": 12,
    "num_kv_heads": 4,
    "vocab_size": 32_000,
    "max_position_embeddings": 1024,
}
"""A Llama of 110 M parameters, its head not tied."""

PROMPT_TOKENS = 16
DECODE_TOKENS = 48
PREFILL_TOKENS = 512
WEIGHTS = ("float32", "bfloat16", "float16", "int8")

THREADS = "OMP_NUM_THREADS"
"""Of torch and of llama.cpp, in the environment of the contenders."""

Times = Iterator[float]
Contender = Callable[[], tuple[Callable[[int], Times], Callable[[], Times]]]
"""Loads and returns `decode(rows)`, the seconds of each step of so many rows, and `prefill()`, those of 512 tokens."""


def bloomery(weights: str | None) -> Any:
    """This project's engine; None = the model as it was trained."""
    from core.threads import share_the_machine

    share_the_machine()
    from core.training_config import ModelConfig
    from inference.continuous_batch import ContinuousBatch, Request
    from inference.engine import Engine
    from inference.sampling_settings import SamplingSettings
    from models.transformer_lm import create_model_from_config

    config = ModelConfig.from_dict({**SHAPE, "use_qk_norm": False, "tie_word_embeddings": False})
    engine = Engine(create_model_from_config(config, seed=0), weights=weights)  # type: ignore[arg-type]
    settings = SamplingSettings(temperature=0.0, max_tokens=DECODE_TOKENS)

    def decode(rows: int) -> Times:
        batch = ContinuousBatch(engine, max_rows=rows, max_length=PROMPT_TOKENS + DECODE_TOKENS)
        for row in range(rows):
            batch.add(Request(tuple(_prompt(PROMPT_TOKENS, row)), settings))
        batch.step()
        while batch.num_running:
            yield from _timed(batch.step)

    def prefill() -> Times:
        cache = engine.new_cache(batch_size=1, max_length=PREFILL_TOKENS)
        yield from _timed(lambda: engine.scores([_prompt(PREFILL_TOKENS)], cache))

    return decode, prefill


def transformers(dtype: str) -> Any:
    """`generate` of transformers, greedy; what passes between two tokens is a step."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=SHAPE["hidden_size"],
        intermediate_size=SHAPE["intermediate_size"],
        num_hidden_layers=SHAPE["num_layers"],
        num_attention_heads=SHAPE["num_attention_heads"],
        num_key_value_heads=SHAPE["num_kv_heads"],
        vocab_size=SHAPE["vocab_size"],
        max_position_embeddings=SHAPE["max_position_embeddings"],
    )
    model: Any = LlamaForCausalLM(config).to(getattr(torch, dtype)).eval()
    model.generation_config.eos_token_id = None

    def decode(rows: int) -> Times:
        moments: list[float] = []

        def note(ids: Any, scores: Any) -> Any:
            moments.append(_now())
            return scores

        ids = torch.tensor([_prompt(PROMPT_TOKENS, row) for row in range(rows)])
        options = {"max_new_tokens": DECODE_TOKENS, "do_sample": False, "pad_token_id": 0}
        model.generate(ids, attention_mask=torch.ones_like(ids), logits_processor=[note], **options)
        yield from (after - before for before, after in itertools.pairwise(moments))

    def prefill() -> Times:
        ids = torch.tensor([_prompt(PREFILL_TOKENS)])
        with torch.inference_mode():
            yield from _timed(lambda: model(ids, logits_to_keep=1))

    return decode, prefill


def llama_cpp(kind: str) -> Any:
    """llama.cpp by its C interface, from a GGUF file without a vocabulary."""
    import llama_cpp as llama  # type: ignore[import-not-found, unused-ignore]

    threads = int(os.environ[THREADS])
    llama.llama_backend_init()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.gguf"
        _write_gguf(path, kind)
        model = llama.llama_model_load_from_file(str(path).encode(), llama.llama_model_default_params())
    settings = llama.llama_context_default_params()
    settings.n_ctx, settings.n_batch, settings.n_ubatch, settings.n_seq_max = 8 * 1024, 512, 512, 8
    settings.n_threads = settings.n_threads_batch = threads
    context = llama.llama_init_from_model(model, settings)
    memory = llama.llama_get_memory(context)
    batch = llama.llama_batch_init(512, 0, 1)

    def give(tokens: list[tuple[int, int, int, bool]]) -> None:
        """Each is id, position, sequence, and whether its scores are wanted."""
        batch.n_tokens = len(tokens)
        for place, (token, position, sequence, wanted) in enumerate(tokens):
            batch.token[place], batch.pos[place] = token, position
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, sequence
            batch.logits[place] = wanted
        assert llama.llama_decode(context, batch) == 0
        llama.llama_synchronize(context)

    def decode(rows: int) -> Times:
        llama.llama_memory_clear(memory, True)
        for row in range(rows):
            prompt = _prompt(PROMPT_TOKENS, row)
            give([(token, place, row, place == PROMPT_TOKENS - 1) for place, token in enumerate(prompt)])
        for place in range(PROMPT_TOKENS, PROMPT_TOKENS + DECODE_TOKENS):
            step = [(_prompt(place + 1, row)[-1], place, row, True) for row in range(rows)]
            yield from _timed(lambda step=step: give(step))  # type: ignore[misc]

    def prefill() -> Times:
        llama.llama_memory_clear(memory, True)
        prompt = _prompt(PREFILL_TOKENS)
        tokens = [(token, place, 0, place == PREFILL_TOKENS - 1) for place, token in enumerate(prompt)]
        yield from _timed(lambda: give(tokens))

    return decode, prefill


def _write_gguf(path: Path, kind: str) -> None:
    import gguf  # type: ignore[import-not-found, import-untyped, unused-ignore]
    import numpy as np

    size, inner, heads = SHAPE["hidden_size"], SHAPE["intermediate_size"], SHAPE["num_attention_heads"]
    key_size = size // heads * SHAPE["num_kv_heads"]
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(SHAPE["num_layers"])
    writer.add_context_length(SHAPE["max_position_embeddings"])
    writer.add_embedding_length(size)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(SHAPE["num_kv_heads"])
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(size // heads)
    writer.add_vocab_size(SHAPE["vocab_size"])
    writer.add_tokenizer_model("no_vocab")
    random = np.random.default_rng(0)
    quantized = getattr(gguf.GGMLQuantizationType, kind)

    def add(name: str, *shape: int) -> None:
        values = (random.standard_normal(shape) * 0.02).astype(np.float32)
        if len(shape) == 1:
            writer.add_tensor(name + ".weight", values)
        else:
            writer.add_tensor(name + ".weight", gguf.quants.quantize(values, quantized), raw_dtype=quantized)

    for name in ("token_embd", "output"):
        add(name, SHAPE["vocab_size"], size)
    add("output_norm", size)
    for layer in range(SHAPE["num_layers"]):
        for part, rows, columns in (
            ("attn_q", size, size),
            ("attn_k", key_size, size),
            ("attn_v", key_size, size),
            ("attn_output", size, size),
            ("ffn_gate", inner, size),
            ("ffn_up", inner, size),
            ("ffn_down", size, inner),
        ):
            add(f"blk.{layer}.{part}", rows, columns)
        for part in ("attn_norm", "ffn_norm"):
            add(f"blk.{layer}.{part}", size)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


CONTENDERS: dict[str, Contender] = {
    "bloomery, as trained": lambda: bloomery(None),
    **{f"bloomery {weights}": lambda weights=weights: bloomery(weights) for weights in WEIGHTS},  # type: ignore[misc]
    "transformers float32": lambda: transformers("float32"),
    "transformers bfloat16": lambda: transformers("bfloat16"),
    **{
        f"llama.cpp {kind.lower()}": lambda kind=kind: llama_cpp(kind)  # type: ignore[misc]
        for kind in ("F32", "F16", "BF16", "Q8_0")
    },
}
REFERENCES = ("transformers bfloat16", "llama.cpp q8_0")


def _prompt(length: int, row: int = 0) -> list[int]:
    return [(7 * place + 31 * row) % 29_000 + 10 for place in range(length)]


def _timed(work: Callable[[], object]) -> Times:
    begun = _now()
    work()
    yield _now() - begun


def _now() -> float:
    return time.process_time() if os.environ[THREADS] == "1" else time.perf_counter()


def run_child(name: str) -> None:
    """Print the seconds of each step and the peak memory, as JSON."""
    decode, prefill = CONTENDERS[name]()
    for warm in (1, 8):
        list(decode(warm))
    list(prefill())
    found: dict[str, Any] = {"1": list(decode(1)), "8": list(decode(8))}
    found["prefill"] = [seconds for _ in range(3) for seconds in prefill()]
    import resource

    found["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(found))


def _in_new_process(python: str, name: str, threads: int) -> dict[str, Any] | None:
    command = [python, "-W", "ignore", __file__, "--child", name]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), THREADS: str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        print(f"{name}: left out ({(done.stderr.strip() or '?').splitlines()[-1]})", file=sys.stderr)
        return None
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _seconds(rounds: list[dict[str, Any]], what: str) -> float:
    times = sorted(seconds for found in rounds for seconds in found[what])
    return statistics.median(times[: max(1, len(times) // 4)])


TRANSFORMERS_FIRST_WORD = """
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer
from inference.model_directory import find_model

directory = find_model(sys.argv[1])
model, tokenizer = AutoModelForCausalLM.from_pretrained(directory), AutoTokenizer.from_pretrained(directory)
prompt = tokenizer("What is a list?", return_tensors="pt", return_token_type_ids=False)
print(tokenizer.decode(model.generate(**prompt, max_new_tokens=1)[0]), flush=True)
"""


def cold_starts(run: str, rounds: int) -> None:
    """Print the seconds from the start of a process to its first word, the least of some rounds."""
    chat = [str(ROOT / "scripts" / "chat.py"), run, "--prompt", "What is a list?", "--weights"]
    commands = {f"bloomery {weights}": [*chat, weights] for weights in ("float32", "float16", "int8")}
    commands["transformers"] = ["-W", "ignore", "-c", TRANSFORMERS_FIRST_WORD, run]
    least = dict.fromkeys(commands, float("inf"))
    for _ in range(rounds):
        for name, command in commands.items():
            begun = time.perf_counter()
            with subprocess.Popen(
                [sys.executable, *command],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            ) as process:
                assert process.stdout is not None
                said = process.stdout.read(1)
                least[name] = min(least[name], time.perf_counter() - begun)
            assert said, f"{name} said nothing"
    for name, seconds in least.items():
        print(f"{name}: {seconds:.2f} s from start to first word")


def quality(run: str) -> None:
    """Print the bits per byte of a run's held-out text for each format, the model's own first."""
    from core.threads import share_the_machine

    share_the_machine()
    from data_processing.rows.token_rows import TokenRows
    from inference.chat import ChatModel

    rows = TokenRows(Path(run) / "dataset" / "test")
    own: float | None = None
    for weights in (None, *WEIGHTS):
        model = ChatModel.load(Path(run) / "pretrain", device="cpu", weights=weights)  # type: ignore[arg-type]
        texts = [model.tokenizer.decode(rows.tokens(index).tolist()) for index in range(min(len(rows), 100))]
        num_bytes = [len(text.encode()) for text in texts]
        bits = sum(
            model.score(text).bits_per_byte * length for text, length in zip(texts, num_bytes, strict=True)
        )
        found = bits / sum(num_bytes)
        own = own or found
        print(f"{weights or 'as trained'}: {found:.5f} bits per byte ({found - own:+.5f})", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of each contender")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each contender")
    parser.add_argument("--only", nargs="*", default=[], help="parts of the names of those to run")
    parser.add_argument("--llama-python", metavar="FILE", help="Python that has llama_cpp and gguf")
    parser.add_argument(
        "--cold", metavar="RUN", help="measure start-up with this run's model, and nothing else"
    )
    parser.add_argument("--quality", metavar="RUN", help="score held-out rows of this run, and nothing else")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.child:
        run_child(flags.child)
        return
    if flags.cold:
        cold_starts(flags.cold, flags.rounds)
        return
    if flags.quality:
        quality(flags.quality)
        return
    names = [n for n in CONTENDERS if not flags.only or any(part in n for part in flags.only)]
    if flags.llama_python is None:
        names = [name for name in names if not name.startswith("llama.cpp")]
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in range(flags.rounds):
        for name in names:
            python = flags.llama_python if name.startswith("llama.cpp") else sys.executable
            if (found := _in_new_process(python, name, flags.threads)) is not None:
                results[name].append(found)
    measured = {name: rounds for name, rounds in results.items() if rounds}
    references = [name for name in REFERENCES if name in measured]
    head = ["", "decode, 1 row: tokens/s", "8 rows", f"prefill {PREFILL_TOKENS}", "peak MB"]
    head += [f"of {name}: 1, 8, prefill" for name in references]
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    per_step = {"1": 1, "8": 8, "prefill": PREFILL_TOKENS}
    speeds = {
        name: {what: count / _seconds(rounds, what) for what, count in per_step.items()}
        for name, rounds in measured.items()
    }
    for name, rounds in measured.items():
        cells = [name, *(f"{speeds[name][what]:,.0f}" for what in per_step)]
        cells.append(f"{max(found['peak'] for found in rounds) / 1e6:,.0f}")
        for reference in references:
            cells.append(", ".join(f"{speeds[name][w] / speeds[reference][w]:.2f}" for w in per_step))
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
