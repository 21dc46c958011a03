"""The hinge loss against its formula, term by term."""

import pytest
import torch

from dsnn.training import multi_class_hinge


@pytest.mark.parametrize("classes", [2, 10])
def test_hinge_is_the_double_sum(classes: int):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(7, classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(classes, (7,), generator=generator)
    expected = 0.0
    for row, label in zip(scores.tolist(), labels.tolist(), strict=True):
        for j, score in enumerate(row):
            if j != label:
                expected += max(0.0, 0.7 - (row[label] - score)) / 7
    assert expected > 0
    assert float(multi_class_hinge(scores, labels, 0.7)) == pytest.approx(expected, rel=1e-13)


def test_hinge_is_zero_beyond_the_margin_and_positive_before():
    scores = torch.tensor([[0.5, 0.0, -1.0]])
    labels = torch.tensor([0])
    assert float(multi_class_hinge(scores, labels, 0.5)) == 0
    assert float(multi_class_hinge(scores, labels, 0.75)) == 0.25


def test_hinge_of_half_precision_scores_is_float32():
    scores = torch.zeros(3, 4, dtype=torch.bfloat16)
    loss = multi_class_hinge(scores, torch.zeros(3, dtype=torch.long), 0.3)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(0.9)


def test_hinge_gradient():
    scores = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(3, 4).requires_grad_()
    labels = torch.tensor([1, 0, 3])
    assert torch.autograd.gradcheck(lambda s: multi_class_hinge(s, labels, 0.31), scores)
