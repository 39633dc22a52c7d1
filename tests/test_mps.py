"""Apple's GPU (MPS) has no float64: nothing may ask for it on a model's device.

There is none here. Its stand-in is a tensor type that lives on the CPU, passes itself on to every result, and refuses
float64 as MPS does. `.cpu()` and what turns a tensor into plain numbers lead out of it.
"""

import pytest
import torch
from tiny import PROMPTS, a_config, a_policy, a_reward_model, a_team, low_tokens
from torch.overrides import TorchFunctionMode

from rlhf_lite import best_of_n, dpo, ppo, ppo_math, reward, rloo, sampling, sft
from rlhf_lite.models import BEGIN, END
from rlhf_lite.reward import RankedPrompt

WORDS = "Cannot convert a MPS Tensor to float64 dtype"
OUT = {torch.Tensor.cpu, torch.Tensor.item, torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.__float__,
       torch.Tensor.__bool__}


def refuse(result):
    for tensor in result if isinstance(result, (tuple, list)) else [result]:
        if isinstance(tensor, OnMPS) and tensor.dtype == torch.float64:
            raise TypeError(WORDS)
    return result


class OnMPS(torch.Tensor):
    """A tensor that pretends to be on Apple's GPU."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        result = super().__torch_function__(function, types, args, kwargs or {})
        leads_out = function in OUT or function is torch.Tensor.to and "cpu" in map(str, args[1:])
        return result.as_subclass(torch.Tensor) if leads_out and isinstance(result, OnMPS) else refuse(result)

    def __deepcopy__(self, memo):
        made = self.detach().clone()
        memo[id(self)] = torch.nn.Parameter(made, self.requires_grad) if isinstance(self, torch.nn.Parameter) else made
        return memo[id(self)]


class NoFloat64There(TorchFunctionMode):
    """New tensors, too: a device that is named is the model's."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        named = kwargs or {}
        if named.get("dtype") == torch.float64 and named.get("device") is not None:
            raise TypeError(WORDS)
        return function(*args, **named)


def there(*models):
    """The models, moved to the stand-in."""
    for model in models:
        for module in model.modules():
            for name, weight in module._parameters.items():
                if weight is not None:
                    moved = torch.nn.Parameter(weight.detach().clone().as_subclass(OnMPS), weight.requires_grad)
                    module._parameters[name] = moved
        tied = getattr(model, "tie_weights", None)
        if tied:
            tied()
    return models


@pytest.fixture(autouse=True)
def refusing(monkeypatch):
    """The one place that asks by the device's name, and the stand-in's name is cpu, gets plain tensors."""
    choose = sampling._choose

    def unrefused(scaled, *rest):
        with torch._C.DisableTorchFunction():
            return choose(scaled.as_subclass(torch.Tensor), *rest)
    monkeypatch.setattr(sampling, "_choose", unrefused)
    with NoFloat64There():
        yield


RANKINGS = [RankedPrompt([BEGIN, 5 + i], [[6, 7, END], [8, END], [9, 9, 9, END]], [1, 2, 2]) for i in range(8)]


def test_the_stand_in_refuses_and_lets_go():
    (policy,) = there(a_policy())
    logits = policy(torch.tensor([[BEGIN, 5]])).logits
    assert isinstance(logits, OnMPS)
    for ask in (lambda: logits.double(), lambda: logits.to(torch.float64), lambda: logits * torch.ones(1).double(),
                lambda: torch.zeros(1, dtype=torch.float64, device=logits.device)):
        with pytest.raises(TypeError):
            ask()
    assert logits.cpu().double().dtype == torch.float64


def test_sft_and_reward_models_train_there():
    policy, judge = there(a_policy(), a_reward_model())
    examples = [sft.build_example([BEGIN, 5 + i], [6, 7, END]) for i in range(8)]
    sft.train_sft(policy, examples, sft.SFTConfig(epochs=1, batch_size=4), valid=examples[:2], progress=False)
    history = reward.train_reward(judge, RANKINGS, reward.RewardConfig(batch_prompts=4), valid=RANKINGS[:2],
                                  progress=False)
    assert history
    reward.normalise(judge, [[BEGIN, 5, 6, END], [BEGIN, 5, 7, END]], [[BEGIN, 5, 6, END], [BEGIN, 6, 9, END]])


def test_ppo_dpo_and_rloo_train_there():
    policy, reference, critic = there(*a_team())
    result = ppo.train_ppo(policy, reference, critic, PROMPTS, a_config(iterations=1), low_tokens, progress=False)
    assert isinstance(result.history[-1]["explained_variance"], float)
    policy, reference, _ = there(*a_team())
    dpo.train_dpo(policy, reference, RANKINGS, dpo.DPOConfig(batch_prompts=4), progress=False)
    policy, reference, _ = there(*a_team())
    config = rloo.RLOOConfig(iterations=1, prompts_per_step=4, group=2, max_new_tokens=4)
    rloo.train_rloo(policy, reference, PROMPTS, config, low_tokens, progress=False)


def test_what_is_measured_there():
    (policy, judge) = there(a_policy(), a_reward_model())
    assert len(sampling.sample_many(policy, PROMPTS, 4, progress=False)) == len(PROMPTS)
    scores = torch.randn(4, 3).as_subclass(OnMPS)
    ranks = torch.tensor([[1, 2, 3]] * 4).as_subclass(OnMPS)
    assert 0 <= reward.pair_accuracy(scores, ranks) <= 1 and reward.calibration(scores, ranks)
    assert best_of_n.best_of_n_curve(scores, scores, [1, 2])["proxy"].dtype == torch.float64
    assert isinstance(ppo_math.explained_variance(scores, scores, torch.ones(4, 3, dtype=torch.bool)), float)
    assert len(reward.score(judge, [[BEGIN, 5, END]])) == 1
