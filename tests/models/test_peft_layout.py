from pathlib import Path

import pytest
import torch

from core.training_config import ModelConfig
from models.hf_layout import save_model
from models.lora import is_of_adapter
from models.peft_layout import Adapter, save_adapter
from models.transformer_lm import create_model_from_config
from tests.models.test_lora import GPT2, IDS, SHAPE, UNTIED, adapted

peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

# peft 0.21 asks transformers 5.23 in words of before.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")


@pytest.mark.parametrize(
    "shape",
    [SHAPE, SHAPE.replace(use_qk_norm=False), UNTIED, GPT2],
    ids=["qwen3", "llama", "qwen3 with a head", "gpt2"],
)
def test_peft_computes_from_base_and_adapter_what_we_do_and_merges_alike(
    shape: ModelConfig, tmp_path: Path
) -> None:
    model = adapted(shape, rank=3, alpha=8.0)
    save_model(create_model_from_config(shape, seed=1), tmp_path / "base", bos_id=1, eos_id=2, pad_id=3)
    tensors = {name: t for name, t in model.state_dict().items() if is_of_adapter(name)}
    save_adapter(Adapter(model.adapters, tensors), shape, tmp_path / "adapter")
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    with torch.no_grad():
        plain = base(IDS).logits
        theirs = peft.PeftModel.from_pretrained(base, tmp_path / "adapter")
        ours = model(IDS)
        torch.testing.assert_close(theirs(IDS).logits, ours, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(theirs.merge_and_unload()(IDS).logits, ours, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(plain, ours, atol=1e-2)
