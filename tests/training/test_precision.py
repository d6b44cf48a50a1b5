"""Options that save memory or time, and give the same gradient, or nearly."""

import pytest
import torch

from facemllm.training import ThreeStageRecipe
from facemllm.training.crops import CropSet
from facemllm.training.features import FeatureSet
from facemllm.training.guards import Guards
from facemllm.training.parallel import Processes
from facemllm.training.questions import StageData
from facemllm.training.recipe import Stage
from facemllm.training.stage_run import StageLoss


@pytest.fixture
def gradient(small_model):
    """Return the gradient of one step of the language model, under some options."""
    from facemllm.data import FaceSample

    samples = tuple(
        FaceSample(
            id=str(i), image="x", labels={"expression": "sad", "age": 30 + i}, dataset="d", licence="t"
        )
        for i in range(6)
    )
    torch.manual_seed(1)
    features = torch.randn(6, 1, 16, small_model.encoder.embed_dim).half()
    source = FeatureSet(CropSet("d", samples, None), features, torch.zeros(6, 1, dtype=torch.bool))

    def compute(*, halved=False, checkpointing=False, **options):
        base = ThreeStageRecipe.load("tiny").stages[1].model_dump()
        base |= {"batch_size": 12, "tasks": ("expression", "age"), "data": ({"dataset": "fer2013"},)}
        stage = Stage.model_validate(base | {"feature_dropout": 0.0} | options)
        data = StageData([source], [1.0], stage, small_model.checked_processor(), seed=0)
        loss_of = StageLoss(small_model, data, stage, 0, Processes(), Guards())
        small_model.train().zero_grad(set_to_none=True)
        if checkpointing:
            small_model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        kept = [0]

        def count(tensor):
            kept[0] += tensor.nbytes
            return tensor

        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=halved):
            for part in loss_of(small_model, 0):
                with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
                    loss = part()
                loss.backward()
        if checkpointing:
            small_model.gradient_checkpointing_disable()
        parameters = small_model.language_model.parameters()
        return torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]), kept[0]

    return compute


def test_activation_checkpointing_keeps_less_and_gives_the_same_gradient(gradient):
    (plain, kept), (again, kept_again) = gradient(), gradient(checkpointing=True)
    assert torch.allclose(plain, again, rtol=0, atol=1e-7)
    assert kept_again < 0.7 * kept


def test_a_step_in_parts_gives_the_same_gradient(gradient):
    plain, parts = gradient()[0], gradient(accumulate=3)[0]
    assert torch.allclose(plain, parts, rtol=0, atol=1e-6)
    assert not torch.equal(plain, torch.zeros_like(plain))


def test_bfloat16_gives_nearly_the_same_gradient(gradient):
    plain, halved = gradient()[0], gradient(halved=True)[0]
    assert torch.nn.functional.cosine_similarity(plain, halved, dim=0) > 0.99
    assert not torch.equal(plain, halved)
