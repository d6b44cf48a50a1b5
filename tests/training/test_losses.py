import pytest
import torch
import torch.nn.functional as F

from facemllm.core.errors import TrainingError
from facemllm.training.losses import answer_loss, shifted, token_losses

NUMBERS = {value: value + 5 for value in range(21)}  # ids 5..25


def test_is_shifted_cross_entropy_over_answer_tokens():
    torch.manual_seed(0)
    logits = torch.randn(3, 7, 30, dtype=torch.float64)
    labels = torch.randint(0, 30, (3, 7))
    labels[:, :4] = -100
    expected = F.cross_entropy(logits[:, :-1].reshape(-1, 30), labels[:, 1:].reshape(-1))
    predictors, targets = shifted(labels)
    loss = answer_loss(logits.flatten(0, 1)[predictors], targets)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)


def test_near_misses_cost_less_than_far_ones_only_in_ordered_rows():
    target = torch.tensor([NUMBERS[10]])

    def loss(value, ordered):
        logits = torch.zeros(1, 30)
        logits[0, NUMBERS[value]] = 5.0
        flags = torch.tensor([ordered])
        return answer_loss(logits, target, ordered=flags, numbers=NUMBERS, spread=2.0).item()

    assert loss(10, True) < loss(11, True) < loss(14, True)
    assert loss(11, False) == pytest.approx(loss(14, False))


def test_the_best_answer_under_spread_is_the_label_itself():
    target, ordered = torch.tensor([NUMBERS[8]]), torch.tensor([True])
    logits = torch.zeros(1, 30, requires_grad=True)
    for _ in range(200):
        loss = answer_loss(logits, target, ordered=ordered, numbers=NUMBERS, spread=2.0)
        (gradient,) = torch.autograd.grad(loss, logits)
        logits = (logits - 5 * gradient).detach().requires_grad_()
    assert logits[0].argmax().item() == NUMBERS[8]


def test_a_batch_without_answers_is_an_error():
    with pytest.raises(TrainingError, match="no answer token"):
        answer_loss(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))


def test_a_spread_over_digits_is_refused():
    digits = {value: value for value in range(10)}
    with pytest.raises(TrainingError, match=r"cannot be spread(.|\n)*10 whole numbers"):
        answer_loss(torch.zeros(1, 30), torch.tensor([3]), numbers=digits, spread=4.0)
    answer_loss(torch.zeros(1, 30), torch.tensor([3]), numbers=digits)


def test_a_soft_target_is_its_own_cross_entropy_and_leaves_the_other_tokens_alone():
    logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    targets = torch.tensor([1, 2, 3])
    plain = token_losses(logits, targets)
    soft = token_losses(logits, targets, soft={2: {3: 0.75, 0: 0.25}})
    logprobs = logits.log_softmax(-1)
    assert torch.equal(soft[:2], plain[:2])
    assert soft[2].item() == pytest.approx((-0.75 * logprobs[2, 3] - 0.25 * logprobs[2, 0]).item(), rel=1e-6)
    gradient = torch.autograd.grad(soft[2], logits)[0]
    expected = logits.softmax(-1)[2] - torch.tensor([0.25, 0, 0, 0.75, 0])
    assert torch.allclose(gradient[2], expected, atol=1e-6)
    assert token_losses(logits, targets, soft={2: {3: 1.0}}).tolist() == pytest.approx(plain.tolist())
