"""What llama.cpp answers from a GGUF file, through the server that it comes with. Loads no torch.

The package `xllamacpp` holds that server as a library; here it listens on the loopback interface for as long as it is
asked. Before it samples a token it tells the probabilities of all, computed from the logits.
"""

import contextlib
import http.client
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.export.questions import Answers, Questions

ONLY_ERRORS = 1
"""How much llama.cpp writes to standard error."""

ALL = 1 << 30
"""Probabilities: more than any vocabulary has tokens."""

TIMEOUT_SECONDS = 600
"""For one answer: a long prompt, a large model, a slow machine."""

THREADING_BYTES = 100_000_000
"""Smaller models are computed by one thread: others would wait for each other, spinning. On two cores that a
dozen processes shared, a model of 5 MB took 4 s with one thread and 18 to 35 s with two."""


def answer_with_llama_cpp(directory: Path, questions: Questions) -> Answers:
    """What llama.cpp makes of the one GGUF file in `directory`, with keys and values in float32."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    file = next(directory.glob("*.gguf"))
    params.model.path = str(file)
    params.n_ctx = max(map(len, questions.prompts)) + questions.num_new_tokens
    params.n_parallel = 1
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.fit_params = params.warmup = params.ui = False
    params.cpuparams.n_threads = 1 if file.stat().st_size < THREADING_BYTES else os.cpu_count() or 1
    params.verbosity = ONLY_ERRORS
    server = xllamacpp.Server(params)
    host, port = server.listening_address.removeprefix("http://").rsplit(":", 1)
    with contextlib.closing(
        http.client.HTTPConnection(host, int(port), timeout=TIMEOUT_SECONDS)
    ) as connection:
        return _answers(connection, questions)


def _answers(connection: http.client.HTTPConnection, questions: Questions) -> Answers:
    import xllamacpp

    def ask(path: str, body: Mapping[str, Any]) -> Any:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        reply = connection.getresponse()
        answer = json.loads(reply.read())
        if reply.status != 200:
            raise RuntimeError(f"{path}: {answer.get('error', answer)}")
        return answer

    def ids_of(text: str, **flags: bool) -> list[int]:
        ids: list[int] = ask("/tokenize", {"content": text, **flags})["tokens"]
        return ids

    # What the server generates it hides while a character lacks bytes, so it is made to say this, whatever is best.
    filler = ids_of("a")[-1]

    def scores_after(ids: Sequence[int]) -> NDArray[np.float32]:
        request = {"n_predict": 1, "n_probs": ALL, "logit_bias": [[filler, 1000.0]], "temperature": -1.0}
        answer = ask("/completion", {"prompt": list(ids), **request, "cache_prompt": True})
        entries = answer["completion_probabilities"][0]["top_logprobs"]
        row = np.full(len(entries), np.nan, dtype=np.float32)
        row[[entry["id"] for entry in entries]] = [entry["logprob"] for entry in entries]
        return row

    continuations, scores = [], []
    for prompt in questions.prompts:
        ids = list(prompt)
        rows = []
        for _ in range(questions.num_new_tokens):
            rows.append(scores_after(ids))
            ids.append(int(rows[-1].argmax()))
        continuations.append(ids[len(prompt) :])
        scores.append(np.stack(rows))
    return Answers(
        text_ids=[ids_of(text, add_special=False, parse_special=False) for text in questions.texts],
        conversation_ids=[
            # As the server does it for /v1/chat/completions.
            ids_of(
                ask("/apply-template", {"messages": list(messages)})["prompt"],
                add_special=True,
                parse_special=True,
            )
            for messages in questions.conversations
        ],
        continuations=continuations,
        scores=scores,
        scores_are="log_probabilities",
        versions={"xllamacpp (llama.cpp)": xllamacpp.__version__},
    )
