"""What llama.cpp answers from a GGUF file, through the server that it comes with. Loads no torch.

The package `xllamacpp` holds that server as a library; here it listens on the loopback interface for as long as it is
asked. Scores are those of the tokens that it generates: it tells no others.
"""

import http.client
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.export.questions import Answers, Questions

ONLY_ERRORS = 1
"""How much llama.cpp writes to standard error."""


def answer_with_llama_cpp(directory: Path, questions: Questions) -> Answers:
    """What llama.cpp makes of the one GGUF file in `directory`, with keys and values in float32."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(next(directory.glob("*.gguf")))
    params.n_ctx = max(map(len, questions.prompts)) + questions.num_new_tokens
    params.n_parallel = 1
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.fit_params = params.warmup = params.ui = False
    params.cpuparams.n_threads = os.cpu_count() or 1
    params.verbosity = ONLY_ERRORS
    server = xllamacpp.Server(params)
    host, port = server.listening_address.removeprefix("http://").rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=600)

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

    continuations, scores = [], []
    for prompt in questions.prompts:
        continuation, rows = _continued(ask, prompt, questions.num_new_tokens)
        continuations.append(continuation)
        scores.append(rows)
    return Answers(
        text_ids=[ids_of(text, add_special=False, parse_special=False) for text in questions.texts],
        conversation_ids=[
            # As the server does it for /v1/chat/completions.
            ids_of(
                ask("/apply-template", {"messages": list(messages)})["prompt"], add_special=True, parse_special=True
            )
            for messages in questions.conversations
        ],
        continuations=continuations,
        scores=scores,
        scores_are="log_probabilities",
        versions={"xllamacpp (llama.cpp)": xllamacpp.__version__},
    )


def _continued(
    ask: Callable[[str, Mapping[str, Any]], Any], prompt: Sequence[int], num_new_tokens: int
) -> tuple[list[int], NDArray[np.float32]]:
    """The best continuation of `prompt`, and (P, V) float32: the logarithms of the probabilities it was chosen by."""
    answer = ask(
        "/completion",
        {
            "prompt": list(prompt),
            "n_predict": num_new_tokens,
            "temperature": -1.0,
            "n_probs": 1 << 30,
            "return_tokens": True,
            "ignore_eos": True,
            "cache_prompt": False,
        },
    )
    rows = []
    for step in answer["completion_probabilities"]:
        row = np.full(len(step["top_logprobs"]), np.nan, dtype=np.float32)
        row[[entry["id"] for entry in step["top_logprobs"]]] = [entry["logprob"] for entry in step["top_logprobs"]]
        rows.append(row)
    return list(answer["tokens"]), np.stack(rows)
