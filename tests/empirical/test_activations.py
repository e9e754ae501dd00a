import pytest
import torch
from torch import nn

from empirical.reading.hooks import capture, edit, evaluating


def small_model():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))


def hooks_of(model):
    return [hook for module in model.modules() for hook in module._forward_hooks.values()]


def test_edit_runs_before_capture_whichever_was_entered_first():
    model, x = small_model().eval(), torch.ones(2, 3)
    for edit_first in (True, False):
        seen = []
        one, two = edit(model, {"0": torch.zeros_like}), capture(model, {"0": seen.append})
        outer, inner = (one, two) if edit_first else (two, one)
        with outer, inner:
            model(x)
        assert not seen[0].any()


def test_the_rest_of_the_network_sees_the_edit():
    model, x = small_model().eval(), torch.randn(2, 3)
    with edit(model, {"3": lambda output: output + 1}):
        edited = model(x)
    assert torch.equal(edited, model(x) + 1)


@pytest.mark.parametrize("tool", [capture, edit])
def test_hooks_are_gone_after_an_exception(tool):
    model = small_model()

    def interrupted():
        with tool(model, {"0": torch.relu, "2": torch.relu}):
            assert len(hooks_of(model)) == 2
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not hooks_of(model)


@pytest.mark.parametrize("tool", [capture, edit])
def test_no_hook_stays_when_one_name_is_wrong(tool):
    model = small_model()
    unknown = pytest.raises(ValueError, match="name of a submodule must be one of")
    with unknown, tool(model, {"0": torch.relu, "nowhere": torch.relu}):
        pass
    assert not hooks_of(model)


def test_evaluating_restores_each_submodules_mode_even_after_an_exception():
    model = small_model().train()
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def failing():
        with evaluating(model):
            assert not model(torch.randn(5, 3)).requires_grad
            assert not any(module.training for module in model.modules())
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        failing()
    assert [module.training for module in model.modules()] == [True, True, False, True, True]
    assert torch.is_grad_enabled()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
