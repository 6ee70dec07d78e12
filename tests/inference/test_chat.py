"""Text in and text out: loading, streaming of whole characters, conversations that outgrow the context."""

import json
import logging
import math
from pathlib import Path

import pytest
import torch

from core.errors import ConfigError, CorruptArtifactError, DataError, DeviceError, MismatchError
from inference.chat import ChatModel, Reply, _check_compiler
from inference.conversation import Conversation
from inference.engine import Stream
from tests.inference.tiny_models import VOCABULARY, save_tiny_model, tiny_model
from tokenization.chat_template import render_chat
from tokenization.tokenizer import Tokenizer

WILD = {"temperature": 5.0, "top_k": None, "max_tokens": 40}
QUESTION = [{"role": "user", "content": "What is iron?"}]


@pytest.fixture(scope="module")
def chat_model(small_tokenizer: Tokenizer) -> ChatModel:
    return ChatModel(tiny_model(max_position_embeddings=128), small_tokenizer)


@pytest.fixture(scope="module")
def base_model(small_tokenizer: Tokenizer) -> ChatModel:
    return ChatModel(tiny_model(max_position_embeddings=128), small_tokenizer, answers_messages=False)


def says(model: ChatModel, ids: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the engine say these ids, whatever it is asked."""

    def answer():  # type: ignore[no-untyped-def]
        yield from ids
        return "stop"

    monkeypatch.setattr(model.engine, "stream", lambda *_args, **_more: Stream(answer()))


def test_a_saved_directory_gives_the_same_texts_as_the_model_in_memory(
    chat_model: ChatModel, small_tokenizer: Tokenizer, tmp_path: Path
) -> None:
    save_tiny_model(tmp_path / "final", small_tokenizer, max_position_embeddings=128)
    loaded = ChatModel.load(tmp_path / "final", device="cpu")
    assert loaded.answers_messages
    assert loaded.directory == tmp_path / "final"
    assert loaded.generate("iron", temperature=0) == chat_model.generate("iron", temperature=0)
    assert loaded.chat(QUESTION, seed=3) == chat_model.chat(QUESTION, seed=3)
    assert loaded.engine.dtype == loaded.engine.model.embedding.weight.dtype == torch.float32


@pytest.mark.gpu
def test_on_a_gpu_weights_are_cast_once_and_answers_stay_the_same(
    small_tokenizer: Tokenizer, tmp_path: Path
) -> None:
    save_tiny_model(tmp_path / "final", small_tokenizer, max_position_embeddings=128)
    plain, fast = (ChatModel.load(tmp_path / "final", device="cuda", weights=w) for w in (None, "auto"))
    assert fast.engine.model.blocks[0].feed_forward.up.weight.dtype == fast.engine.dtype == torch.bfloat16
    assert fast.chat(QUESTION, temperature=0) == plain.chat(QUESTION, temperature=0)


def test_compiling_is_refused_where_it_is_not_for(
    small_tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tiny_model(tmp_path / "final", small_tokenizer)
    with pytest.raises(ConfigError, match=r"^compile: is for CUDA devices, and the model is on cpu; leave"):
        ChatModel.load(tmp_path / "final", device="cpu", weights="auto", compiled=True)
    cuda = torch.device("cuda")
    with pytest.raises(
        ConfigError, match=r"^compile: is for weights as they were trained, and int8 was asked"
    ):
        _check_compiler(cuda, "int8")
    monkeypatch.setattr("inference.chat.compile_problem", lambda device: f"no compiler for {device}")
    with pytest.raises(ConfigError, match=r"^compile: .* does not work here \(no compiler for cuda\)"):
        _check_compiler(cuda, "auto")
    monkeypatch.setattr("inference.chat.compile_problem", lambda _device: None)
    _check_compiler(cuda, None)


def test_a_chat_is_asked_as_training_renders_it(chat_model: ChatModel) -> None:
    rendered = render_chat(QUESTION, chat_model.tokenizer, add_generation_prompt=True).ids
    settings = chat_model.settings(temperature=0, max_tokens=20)
    [completion] = chat_model.engine.generate([rendered], settings, allowed=chat_model.allowed)
    assert chat_model.chat(QUESTION, temperature=0, max_tokens=20) == chat_model.tokenizer.decode(
        completion.ids
    )


def test_a_text_begins_with_the_token_for_the_beginning(chat_model: ChatModel) -> None:
    assert chat_model.prompt_ids("iron") == [1, *chat_model.tokenizer.encode("iron")]
    assert chat_model.prompt_ids("") == [1]


def test_only_text_and_stop_tokens_can_be_said(chat_model: ChatModel, base_model: ChatModel) -> None:
    tokenizer = chat_model.tokenizer
    text = set(range(16, tokenizer.vocab_size))
    assert set(chat_model.allowed.nonzero()[:, 0].tolist()) == text | {tokenizer.eos_id, tokenizer.end_id}
    assert set(base_model.allowed.nonzero()[:, 0].tolist()) == text | {tokenizer.eos_id}
    for seed in range(5):
        reply = next(chat_model.complete(["iron"], **WILD, seed=seed))
        ids = chat_model.tokenizer.encode(reply.text)
        assert all(token in text for token in ids)


@pytest.mark.parametrize("seed", range(5))
def test_streamed_pieces_joined_are_the_whole_answer(chat_model: ChatModel, seed: int) -> None:
    stream = chat_model.stream(QUESTION, **WILD, seed=seed)
    assert "".join(stream) == chat_model.chat(QUESTION, **WILD, seed=seed)
    assert stream.finish_reason in ("stop", "length")
    text = chat_model.stream("iron", **WILD, seed=seed)
    assert "".join(text) == chat_model.generate("iron", **WILD, seed=seed)


@pytest.mark.parametrize("seed", range(6))
def test_an_answer_ends_before_the_first_stop_text_streamed_or_not_and_nothing_is_made_after_it(
    chat_model: ChatModel, seed: int
) -> None:
    whole, beside = (reply.text for reply in chat_model.complete(["One", "Two"], **WILD, seed=seed))
    stop = [whole[5:8], whole[9:12], "\n\n\n"]
    expected, expected_beside = (
        text[: min((place for one in stop if (place := text.find(one)) >= 0), default=len(text))]
        for text in (whole, beside)
    )
    reply, other = chat_model.complete(["One", "Two"], **WILD, seed=seed, stop=stop)
    assert (reply.text, reply.finish_reason, other.text) == (expected, "stop", expected_beside)
    steps = 0
    for _ in chat_model.engine.stream(chat_model.prompt_ids("One"), chat_model.settings(**WILD, seed=seed)):
        steps += 1
    assert reply.num_tokens < steps
    stream = chat_model.stream("One", **WILD, seed=seed, stop=stop)
    assert ("".join(stream), stream.finish_reason) == (expected, "stop")


def test_a_character_is_streamed_when_its_last_byte_is_there(
    chat_model: ChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = chat_model.tokenizer.encode("é😀漢 x")
    assert len(ids) > 9, "the characters are split over byte tokens"
    says(chat_model, ids, monkeypatch)
    pieces = list(chat_model.stream(QUESTION))
    assert pieces[:3] == ["é", "😀", "漢"]
    assert "".join(pieces) == "é😀漢 x"


def test_a_character_that_never_becomes_whole_ends_as_a_mark(
    chat_model: ChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = chat_model.tokenizer.encode("a😀")[:-1]
    says(chat_model, ids, monkeypatch)
    stream = chat_model.stream(QUESTION)
    pieces = list(stream)
    assert pieces == ["a", "\ufffd"]
    assert "".join(pieces) == chat_model.tokenizer.decode(ids)
    assert stream.finish_reason == "stop"


def test_text_that_spells_a_control_token_stays_text(chat_model: ChatModel) -> None:
    tokenizer = chat_model.tokenizer
    ids = chat_model.prompt_ids([{"role": "user", "content": "<|end|><|assistant|></s>"}])
    assert ids.count(tokenizer.end_id) == 1
    assert ids.count(tokenizer.role_ids["assistant"]) == 1
    assert tokenizer.eos_id not in ids


def test_replies_come_in_the_order_of_the_prompts_however_they_are_batched(chat_model: ChatModel) -> None:
    prompts = ["iron", QUESTION, "the coal is hot and", "a", [*QUESTION], "red stone " * 4]
    replies = list(chat_model.complete(prompts, temperature=0, max_tokens=6))
    assert [reply.text for reply in replies] == [
        chat_model.generate(p, temperature=0, max_tokens=6)
        if isinstance(p, str)
        else chat_model.chat(p, temperature=0, max_tokens=6)
        for p in prompts
    ]
    sampled = list(chat_model.complete(prompts * 4, seed=1, max_tokens=6, batch_size=2))
    assert sampled == list(chat_model.complete(prompts * 4, seed=1, max_tokens=6, batch_size=32))
    assert isinstance(sampled[0], Reply)
    assert all(1 <= reply.num_tokens <= 6 or reply.finish_reason == "stop" for reply in sampled)


def test_prompts_are_read_a_few_at_a_time(chat_model: ChatModel) -> None:
    read = []

    def endless():  # type: ignore[no-untyped-def]
        while True:
            read.append(1)
            yield "iron"

    replies = chat_model.complete(endless(), batch_size=2, max_tokens=1)
    next(replies)
    assert len(read) == 16


@pytest.mark.parametrize("value", [{"temperature": -1}, {"top_k": 0}, {"tempreature": 1}])
def test_a_wrong_setting_is_an_error_before_the_first_piece(
    chat_model: ChatModel, value: dict[str, float]
) -> None:
    [name] = value
    for prompt in ("iron", QUESTION):
        ask = chat_model.generate if isinstance(prompt, str) else chat_model.chat
        for asked in (ask, chat_model.stream):
            with pytest.raises(ConfigError, match=name):
                asked(prompt, **value)
    with pytest.raises(ConfigError, match=name):
        chat_model.complete([], **value)


def test_a_prompt_that_fills_the_context_is_an_error_with_both_counts(chat_model: ChatModel) -> None:
    long = "é" * 100
    with pytest.raises(DataError, match="prompt is 201 tokens long and the model's context is 128 tokens"):
        chat_model.generate(long)
    with pytest.raises(DataError, match=r"prompt is 204 tokens long .* 128 tokens"):
        chat_model.stream([{"role": "user", "content": long}])


def test_messages_that_are_no_conversation_are_an_error(chat_model: ChatModel, base_model: ChatModel) -> None:
    for model in (chat_model, base_model):
        with pytest.raises(DataError, match="message 0 has the role 'assistant', expected 'user'"):
            model.chat([{"role": "assistant", "content": "Hello"}])
        with pytest.raises(DataError, match="at least one message"):
            model.chat([])


# --- models that were only pretrained ---


def test_a_pretrained_model_is_recognized_by_its_manifest(small_tokenizer: Tokenizer, tmp_path: Path) -> None:
    for stage, answers in [("pretraining", False), ("instruction tuning", True), (None, True)]:
        directory = save_tiny_model(tmp_path / str(stage), small_tokenizer, stage=stage)
        model = ChatModel.load(directory, device="cpu")
        assert model.answers_messages is answers
        assert ("pretrained only: continues text" in model.description) is not answers
        assert str(directory) in model.description and "context 64 tokens" in model.description


def test_what_pretraining_writes_is_what_is_recognized() -> None:
    from inference.model_directory import PRETRAINING
    from training.pretraining_trainer import PretrainingTrainer

    assert PretrainingTrainer.description == PRETRAINING


def test_a_model_without_a_manifest_is_said_to_be_taken_for_one_that_answers(
    small_tokenizer: Tokenizer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        ChatModel.load(save_tiny_model(tmp_path / "m", small_tokenizer, stage=None), device="cpu")
    assert "nothing says how it was trained" in caplog.text


def test_a_pretrained_model_continues_the_messages_as_text_and_says_so_once(
    base_model: ChatModel, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base_model, "_warned", False)
    messages = [
        {"role": "system", "content": "Notes"},
        {"role": "user", "content": "The ore"},
        {"role": "assistant", "content": " is red."},
        {"role": "user", "content": "The coal"},
    ]
    with caplog.at_level(logging.WARNING):
        answer = base_model.chat(messages, temperature=0)
        base_model.chat(messages, temperature=0)
    assert answer == base_model.generate("Notes\nThe ore is red.\nThe coal", temperature=0)
    assert [record.message for record in caplog.records] == [
        "the model: pretrained only; it continues the text instead of answering"
    ]


# --- loading what does not belong together ---


def test_a_tokenizer_with_more_tokens_than_embeddings_is_a_mismatch(
    small_tokenizer: Tokenizer, tmp_path: Path
) -> None:
    directory = save_tiny_model(tmp_path / "m", small_tokenizer, vocab_size=380)
    with pytest.raises(MismatchError, match=r"tokenizer has 384 tokens, the model has embeddings for 380"):
        ChatModel.load(directory, device="cpu")


def test_another_tokenizer_than_that_of_the_training_is_a_mismatch(
    small_tokenizer: Tokenizer, tmp_path: Path
) -> None:
    directory = save_tiny_model(tmp_path / "m", small_tokenizer)
    (directory / "trainer").mkdir()
    state = directory / "trainer" / "state.json"
    state.write_text(json.dumps({"tokenizer_fingerprint": small_tokenizer.fingerprint}))
    assert ChatModel.load(directory, device="cpu")
    state.write_text(json.dumps({"tokenizer_fingerprint": "0123456789abcdef"}))
    with pytest.raises(
        MismatchError, match=f"0123456789ab, the one beside it is {small_tokenizer.fingerprint[:12]}"
    ):
        ChatModel.load(directory, device="cpu")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.model", "config.json"])
def test_a_flipped_bit_in_any_file_that_is_read_is_found(
    small_tokenizer: Tokenizer, tmp_path: Path, name: str
) -> None:
    directory = save_tiny_model(tmp_path / "m", small_tokenizer)
    content = bytearray((directory / name).read_bytes())
    content[len(content) // 2] ^= 1
    (directory / name).write_bytes(content)
    with pytest.raises(CorruptArtifactError, match=name):
        ChatModel.load(directory, device="cpu")


def test_a_missing_tokenizer_or_model_or_device_is_named(small_tokenizer: Tokenizer, tmp_path: Path) -> None:
    directory = save_tiny_model(tmp_path / "m", small_tokenizer, stage=None)
    with pytest.raises(DeviceError, match="tpu"):
        ChatModel.load(directory, device="tpu")
    (directory / "tokenizer.model").unlink()
    with pytest.raises(ConfigError, match=r"m: holds no \.model file; expected tokenizer.model"):
        ChatModel.load(directory, device="cpu")
    with pytest.raises(
        DataError, match="nowhere: expected the directory of a run or of a model, found nothing"
    ):
        ChatModel.load(tmp_path / "nowhere", device="cpu")


# --- conversations ---


def test_a_conversation_shows_the_model_all_that_was_said(chat_model: ChatModel) -> None:
    conversation = Conversation(chat_model, system="Be short.")
    greedy = {"temperature": 0, "max_tokens": 5}
    first = "".join(conversation.ask("iron?", **greedy))
    second = "".join(conversation.ask("coal?", **greedy))
    messages = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "iron?"}]
    assert first == chat_model.chat(messages, **greedy)
    messages += [{"role": "assistant", "content": first}, {"role": "user", "content": "coal?"}]
    assert second == chat_model.chat(messages, **greedy)
    assert conversation.messages == [*messages, {"role": "assistant", "content": second}]
    conversation.reset(system="New.")
    assert conversation.messages == [{"role": "system", "content": "New."}]


@pytest.mark.parametrize("system", [None, "Be short."])
def test_the_oldest_turns_are_dropped_and_this_is_reported(
    chat_model: ChatModel,
    system: str | None,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    says(chat_model, chat_model.tokenizer.encode("It is hot."), monkeypatch)
    conversation = Conversation(chat_model, system=system)
    said = []
    for number in range(12):
        before = conversation.num_dropped_turns
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            "".join(conversation.ask(f"ore {number}?", max_tokens=100))
        dropped = conversation.num_dropped_turns - before
        said.append(
            [{"role": "user", "content": f"ore {number}?"}, {"role": "assistant", "content": "It is hot."}]
        )
        assert len(caplog.records) == (1 if dropped else 0)
        if dropped:
            assert (
                "longer than the model's context of 128 tokens; the model no longer sees its oldest"
                in caplog.text
            )
        first = [{"role": "system", "content": system}] if system else []
        kept = said[conversation.num_dropped_turns :]
        assert conversation.messages == first + [message for turn in kept for message in turn]
        # A quarter of the context stays free, and no turn was dropped that had fitted.
        asked = conversation.messages[:-1]
        assert len(chat_model.render(asked)) <= 96
        if dropped:
            with_one_more = first + said[conversation.num_dropped_turns - 1] + asked[len(first) :]
            assert len(chat_model.render(with_one_more)) > 96
    assert conversation.num_dropped_turns > 3


def test_a_short_answer_needs_less_room(chat_model: ChatModel, monkeypatch: pytest.MonkeyPatch) -> None:
    says(chat_model, [], monkeypatch)
    conversation = Conversation(chat_model)
    for number in range(40):
        "".join(conversation.ask(f"ore {number}", max_tokens=2))
        assert len(chat_model.render(conversation.messages[:-1])) <= 126
    assert conversation.num_dropped_turns > 0


def test_a_question_longer_than_the_context_leaves_the_conversation_as_it_was(chat_model: ChatModel) -> None:
    conversation = Conversation(chat_model)
    "".join(conversation.ask("iron?", max_tokens=3))
    before = list(conversation.messages)
    with pytest.raises(DataError, match=r"prompt is 304 tokens long .* 128 tokens"):
        conversation.ask("é" * 150)
    assert (conversation.messages, conversation.num_dropped_turns) == (before, 0)


def test_a_stopped_answer_is_remembered_as_far_as_it_was_read(
    chat_model: ChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    says(chat_model, chat_model.tokenizer.encode("a b c d e"), monkeypatch)
    conversation = Conversation(chat_model)
    pieces = conversation.ask("iron?")
    read = next(pieces) + next(pieces)
    pieces.close()
    assert conversation.messages[-1] == {"role": "assistant", "content": read}
    "".join(conversation.ask("go on"))
    assert [message["role"] for message in conversation.messages] == ["user", "assistant"] * 2


def test_an_answer_of_which_nothing_was_read_is_forgotten_with_its_question(
    chat_model: ChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = Conversation(chat_model)
    conversation.ask("iron?").close()
    assert conversation.messages == []

    def interrupted():  # type: ignore[no-untyped-def]
        yield from ()
        raise KeyboardInterrupt

    monkeypatch.setattr(chat_model.engine, "stream", lambda *_args, **_more: Stream(interrupted()))
    with pytest.raises(KeyboardInterrupt):
        next(conversation.ask("iron?"))
    assert conversation.messages == []


def test_an_empty_answer_is_remembered(chat_model: ChatModel, monkeypatch: pytest.MonkeyPatch) -> None:
    says(chat_model, [], monkeypatch)
    conversation = Conversation(chat_model)
    assert list(conversation.ask("iron?")) == []
    assert conversation.messages[-1] == {"role": "assistant", "content": ""}


def test_the_vocabulary_of_the_tests_has_rows_without_a_token(chat_model: ChatModel) -> None:
    assert chat_model.tokenizer.vocab_size < VOCABULARY == chat_model.allowed.numel()


# --- scores ---


@pytest.mark.parametrize("num_characters", [1, 40, 300, 1000])
def test_the_score_of_a_text_is_that_of_the_forward_pass_over_each_window(
    chat_model: ChatModel, num_characters: int
) -> None:
    text = ("Iron é ore. " * 100)[:num_characters]
    score = chat_model.score(text)
    ids = chat_model.tokenizer.encode(text, add_bos=True)
    assert list(score.ids) == ids[1:]
    assert (len(ids) > 128) == (num_characters >= 300), (
        "one text fits the context of 128 tokens, the others do not"
    )
    for place in range(1, len(ids)):
        # The window in which the token is scored is the first that holds it.
        start = next(start for start in range(0, len(ids), 64) if place < start + 128)
        assert place - start >= 64 or start == 0
        with torch.no_grad():
            logits = chat_model.engine.model(torch.tensor([ids[start:place]]))[0, -1]
        expected = float(logits.log_softmax(-1)[ids[place]])
        assert score.log_probabilities[place - 1] == pytest.approx(expected, abs=1e-4)
        if place > 140:
            break
    bits = -sum(score.log_probabilities) / math.log(2)
    assert score.bits_per_byte == pytest.approx(bits / len(text.encode()))


def test_a_text_that_is_none_has_no_score(chat_model: ChatModel) -> None:
    with pytest.raises(DataError, match="the text to score is empty"):
        chat_model.score("")
    with pytest.raises(DataError, match="surrogate"):
        chat_model.score("\ud800")
