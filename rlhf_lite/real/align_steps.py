"""The steps of `align`, one function each: what fits, SFT, reward model, gate, PPO, DPO, comparison.

Each takes an `Align` (folder, models, data) and calls the same functions as the town's pipeline.
"""

import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from rlhf_lite import dpo, feedback, models, reward, sampling, sft
from rlhf_lite.best_of_n import best_of_n_curve
from rlhf_lite.dpo import DPOConfig
from rlhf_lite.ppo import PPOConfig, train_ppo
from rlhf_lite.real import hub, measures, memory, own_data, shared_trunk
from rlhf_lite.reward import RewardConfig
from rlhf_lite.sft import SFTConfig
from rlhf_lite.stats import mean_interval, win_rate

STEPS = ("sft", "reward", "ppo", "dpo")


@dataclass(frozen=True)
class AlignConfig:
    """All these settings are ours."""

    steps: tuple = ("sft", "reward", "ppo")
    max_new_tokens: int = 48
    held_out: float = 0.25  # share of the prompts on which the models are compared
    judge_share: float = 0.4  # share of the ranked prompts for the second judge
    frozen: float = 0.8  # share of the blocks (the lowest ones) that stay as they are and are computed once for all
    lora: int = 0  # rank; above 0, low-rank matrices learn instead of the upper blocks
    samples: int = 8  # answers per held-out prompt, for the gate and the comparison
    anyway: bool = False  # PPO even if the gate is closed
    sft: SFTConfig = SFTConfig(epochs=3, batch_size=8, lr=5e-5)
    reward: RewardConfig = RewardConfig(epochs=4, batch_prompts=4, lr=2e-4)
    dpo: DPOConfig = DPOConfig(epochs=2, batch_prompts=4, lr=5e-5)
    ppo: PPOConfig = PPOConfig(iterations=8, batch_size=16, minibatch=8, lr=5e-5, critic_lr=2e-4, warmup_iterations=2,
                               kl_coef=0.05, save_every=4)
    seed: int = 0


@dataclass
class Align:
    """A run in progress: its folder, its models and data."""

    folder: Path
    policy: object  # where the round starts
    tokenizer: object
    own: own_data.Own
    config: AlignConfig
    n: int  # blocks that all models share
    context: int
    held_out: list  # prompts
    results: dict = field(default_factory=dict)

    def encode(self, prompts):
        return [models.encode_prompt(self.tokenizer, prompt) for prompt in prompts]

    def say(self, text):
        print(f"[{self.folder.name}] {text}", flush=True)


# ---------------------------------------------------------------- what fits, and how long it takes

def fit(config, policy, longest):
    """The config with micro-batches that fit into memory, and bfloat16 products on a GPU; MemoryError if none does."""
    device = models.device_of(policy)
    free, prompt = memory.free_memory(device), max(1, longest - config.max_new_tokens)
    for rows in (8, 4, 2, 1):
        try:
            need = memory.training_memory(policy.config, rows, prompt, config.max_new_tokens)
        except (AttributeError, RuntimeError, TypeError, ValueError):  # an architecture that shapes alone cannot run
            rows, need = 2, dict.fromkeys(("models", "gradients", "adam", "activations"), 0)
        upper = 1 - config.frozen if config.frozen and not config.lora else 1.0
        peak = need["models"] + upper * (need["gradients"] + need["adam"]) + need["activations"]
        if peak < 0.9 * free:
            few, gpu = {"micro_batch": rows}, {"bf16": device.type == "cuda"}
            return replace(config, sft=replace(config.sft, **few, **gpu), ppo=replace(
                config.ppo, **few, **gpu, max_new_tokens=config.max_new_tokens), reward=replace(
                config.reward, micro_batch=max(1, rows // 4), **gpu), dpo=replace(
                config.dpo, micro_batch=max(1, rows // 4), **gpu))
    raise MemoryError(f"Training needs about {peak / 1e9:.1f} GB with one row at a time, and {free / 1e9:.1f} GB are "
                      "free; choose a smaller model, or freeze more (--frozen 0.9).")


def seconds(policy, work):
    """The time that work takes once it is warm, and on a CPU that has nothing else to do."""
    cpu, found = models.device_of(policy).type == "cpu", []
    clock, shared = (time.process_time, torch.get_num_threads()) if cpu else (time.perf_counter, 1)
    for _ in range(3):
        started = clock()
        work()
        found.append((clock() - started) / shared)
    return min(found)


def minutes(policy, rows, config):
    """A rough forecast from one second of work: {"rows": ids} of each step -> minutes."""
    ids = [row[:32] for row in rows["prompts"][:4]]
    batch, mask = sampling.pad_right(ids, models.device_of(policy))
    with torch.no_grad():
        per_read = seconds(policy, lambda: models.logits(policy, batch, mask)) / int(mask.sum())
    per_sampled = seconds(policy, lambda: sampling.sample(policy, ids, 8)) / (8 * len(ids))
    length = sum(map(len, rows["prompts"])) / len(rows["prompts"]) + config.max_new_tokens
    learn = 1 + 2 * (1 - config.frozen)  # a backward pass costs twice a forward pass, where there is one
    answers = config.ppo.iterations * config.ppo.batch_size if "ppo" in config.steps else 0
    looked_at = 3 * config.samples * len(rows["held out"])
    read = (config.sft.epochs * learn * rows["demonstrations"] + config.reward.epochs * learn * rows["answers"]
            + answers * (3 + 2 * learn) + 3 * looked_at) * length
    return ((answers + looked_at) * config.max_new_tokens * per_sampled / 2 + read * per_read) / 60


# ---------------------------------------------------------------- the steps

def learner(run, policy):
    """A copy of the policy whose upper blocks (or LoRA matrices) can learn."""
    copy = models.copy_model(policy)
    if run.config.lora:
        return hub.lora(copy, run.config.lora)
    return shared_trunk.freeze_trunk(copy, run.n) if run.n else copy


def whole(run, policy):
    """The policy as an ordinary model: LoRA merged."""
    return hub.merge_lora(policy) if run.config.lora else policy.requires_grad_(True)


def do_sft(run, start):
    train = [(prompt, answer) for prompt, answer in run.own.demonstrations if prompt not in run.held_out]
    rows, long = own_data.examples(run.tokenizer, train, run.context)
    run.results["sft"] = {"demonstrations": len(rows), "too long": long}
    if not rows:
        raise ValueError("There are no demonstrations to learn from; give --demonstrations, or leave sft out of "
                         "--steps.")
    policy = learner(run, start)
    history = sft.train_sft(policy, rows, run.config.sft, folder=run.folder / "state" / "sft")
    run.results["sft"]["losses"] = [entry["train_loss"] for entry in history]
    return whole(run, policy)


def do_reward(run, start, rows, other, seed, name):
    """A reward model from `rows` -> (model, its results on the pairs of `other`, whose prompts it has not seen)."""
    train, notes = own_data.ranked_prompts(run.tokenizer, rows, run.context)
    test, more = own_data.ranked_prompts(run.tokenizer, other, run.context)
    model = shared_trunk.share_scalar(start, run.n, seed) if run.n else models.scalar_from_policy(start, seed)
    reward.train_reward(model, train, replace(run.config.reward, seed=seed), folder=run.folder / "state" / name)
    shares = [reward.evaluate_reward(model, [one])["accuracy"] for one in test]
    if not shares:
        raise ValueError("No held-out ranking prefers one answer to another, so there is no test of the reward model; "
                         "add rankings.")
    samples = [reward.reward_input(r.prompt_ids, answer) for r in test for answer in r.responses]
    reward.normalise(model, samples, samples)  # zero and unit: kl_coef means the same whoever ranked
    model = shared_trunk.unshare(model) if run.n else model
    return model, {"rankings": len(train), "held-out rankings": len(test), "left out": notes + more,
                   "accuracy": mean_interval(shares), **rivals(rows, other)}


def rivals(rows, other):
    """How well judges that cannot read do on the pairs of `other`: by length alone, and by a bag of words."""
    first, second = (feedback.preference_pairs(part) for part in (rows, other))
    extra = [[len(pair["chosen"].split()) - len(pair["rejected"].split()) for pair in part] for part in (first, second)]
    found = {"length": measures.ruler_accuracy(*extra)}
    try:
        judge = measures.fit_words([measures.Preference((p["prompt"],), p["chosen"], p["rejected"]) for p in first], 2)
        margins = judge.score([p["chosen"] for p in second]) - judge.score([p["rejected"] for p in second])
        found["bag of words"] = float(measures.preferred(margins).mean())
    except ValueError:  # no word occurs twice
        found["bag of words"] = 0.5
    return found


def answer(run, policy, seed, samples):
    """`samples` answers to each held-out prompt -> (prompt ids, answers), prompt by prompt."""
    asked = [ids for ids in run.encode(run.held_out) for _ in range(samples)]
    return asked, sampling.sample_many(policy, asked, run.config.max_new_tokens, seed=seed, batch_size=32)


def do_gate(run, policy, model, judge):
    """Does the second judge gain when the first picks the best of n? -> {"gain": Interval, "open": bool, ...}."""
    asked, answers = answer(run, policy, 11, run.config.samples)
    scores = [reward.score(one, own_data.inputs(asked, answers)).view(-1, run.config.samples) for one in (model, judge)]
    curve = best_of_n_curve(*scores, [1, run.config.samples])
    gain = mean_interval((curve["true"][:, 1] - curve["true"][:, 0]).numpy())
    return {"n": run.config.samples, "gain": gain, "open": gain.low > 0}


def do_ppo(run, reference, start, model):
    """PPO from `start`, held near `reference` (the SFT model) -> (policy, history)."""
    prompts = run.encode([prompt for prompt in run.own.prompts if prompt not in run.held_out])
    prompts = [ids for ids in prompts if len(ids) + run.config.max_new_tokens <= run.context]
    policy, critic = learner(run, start), models.copy_model(model)
    frozen, scores = models.copy_model(reference, trainable=False), model
    if run.n and not run.config.lora and start is reference:
        policy, frozen, critic, scores = shared_trunk.share(start, model, run.n)
    elif run.n:
        shared_trunk.freeze_trunk(critic, run.n)
    found = train_ppo(policy, frozen, critic, prompts, run.config.ppo, scores, folder=run.folder / "state" / "ppo")
    return (shared_trunk.unshare(policy) if isinstance(policy, shared_trunk.SharedPolicy) else whole(run, policy),
            found.history)


def do_dpo(run, reference, start, rows):
    ranked, _ = own_data.ranked_prompts(run.tokenizer, rows, run.context)
    policy = learner(run, start)
    history = dpo.train_dpo(policy, models.copy_model(reference, trainable=False), ranked, run.config.dpo,
                            folder=run.folder / "state" / "dpo")
    return whole(run, policy), history


def compare(run, policies, model, judge):
    """Each policy answers the held-out prompts -> {"answers": {name: rows}, "wins": {rival: {judge: Interval}}}."""
    answers, count = {}, min(4, run.config.samples)
    for name, policy in policies.items():
        asked, ids = answer(run, policy, 23, count)
        rows = own_data.inputs(asked, ids)
        scores = [reward.score(one, rows).tolist() for one in (model, judge)]
        answers[name] = [{"prompt": run.held_out[i // count], "response": models.decode_response(run.tokenizer, one),
                          "tokens": len(one), "reward": scores[0][i], "judge": scores[1][i]}
                         for i, one in enumerate(ids)]
    last, wins = list(answers)[-1], {}
    for rival in list(answers)[:-1]:
        wins[rival] = {}
        extra = [a["tokens"] - b["tokens"] for a, b in zip(answers[last], answers[rival], strict=True)]
        for who in ("reward", "judge"):
            won = measures.preferred([a[who] - b[who] for a, b in zip(answers[last], answers[rival], strict=True)])
            wins[rival][who] = win_rate(int((won == 1).sum()), int((won == 0.5).sum()), len(won))
            wins[rival][f"{who}, equal length"] = measures.equal_length_win_rate(won, extra)
    return {"answers": answers, "wins": wins}
