"""InstructGPT's loop on a model and data of your own: SFT, reward model, gate, PPO or DPO, comparison, and round 2.

    python -m rlhf_lite align --model M --prompts p.jsonl --demonstrations d.jsonl --rankings r.jsonl --out runs/mine
    python -m rlhf_lite rank --from runs/mine --serve     rank new answers of the aligned model
    python -m rlhf_lite align --out runs/mine --round 2   go on with them

The idea: the same functions as in the town, called one after the other. Where no program knows the truth, two reward
models that learnt from different prompts watch each other: PPO follows one, and the other must see a gain when the
first one picks the best of several answers (the gate), and is asked again after PPO. Every step is kept in its own
folder and skipped when it is there, so a run that was stopped goes on.

Left out: more than one machine (export the models), and tuning: the settings are for small models and few rows.
"""

import json
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path

from rlhf_lite import checkpoints, files, models, sampling
from rlhf_lite.real import align_page, hub, own_data, shared_trunk
from rlhf_lite.real.align_steps import (
    STEPS,
    Align,
    AlignConfig,
    compare,
    do_dpo,
    do_gate,
    do_ppo,
    do_reward,
    do_sft,
    fit,
    minutes,
)


def align(model, own, out, config=None, device="auto", round=1):
    """One round -> the folder out/round-N with its models, results.json and report.html.

    model: as for `hub.load`. own: from `own_data.read_own`. In round 2 and later, PPO and DPO go on from the policy of
    the round before, still held near the SFT model of round 1; `own.rankings` should have the new rankings as well.
    """
    config, out = config or AlignConfig(), Path(out)
    if unknown := sorted(set(config.steps) - set(STEPS)):
        raise ValueError(f"There is no step {unknown[0]!r}; choose from {', '.join(STEPS)}.")
    if round > 1 and not (out / f"round-{round - 1}" / "results.json").is_file():
        raise ValueError(f"{out} has no finished round {round - 1}; run that first.")
    first, second = own_data.for_two_judges(own.rankings, config.judge_share, config.seed)
    folder, known = out / f"round-{round}", files.read_json(out / "data.json", {})
    held_out = known.get("held_out") or own_data.hold_out(own, config.held_out, config.seed)[1]
    policy, tokenizer, _ = hub.load(model, str(models.pick_device(device)))
    context = getattr(policy.config, "max_position_embeddings", None) or 2048
    run = Align(folder, policy, tokenizer, own, config, shared_blocks(policy, config), context, held_out)
    prompts = [ids for ids in run.encode(own.prompts) if len(ids) + config.max_new_tokens <= context]
    if len(prompts) < len(own.prompts):
        raise ValueError(f"{len(own.prompts) - len(prompts)} prompts leave no room for {config.max_new_tokens} new "
                         f"tokens in the model's context of {context}; shorten or remove them.")
    run.config = fit(config, policy, max(map(len, prompts)) + config.max_new_tokens)
    settle(folder, {"model": str(model), "config": asdict(config), "data": checkpoints.fingerprint(
        [own.prompts, own.demonstrations, own.rankings])})
    files.write_json(out / "data.json", {"model": str(model), "held_out": held_out, "prompts": own.prompts,
                                         "demonstrations": own.demonstrations, "rankings": own.rankings})
    forecast = minutes(policy, {"prompts": prompts, "held out": held_out, "demonstrations": len(own.demonstrations),
                                "answers": sum(row["K"] for row in own.rankings)}, run.config)
    for note in own.notes:
        run.say(note)
    run.say(f"{models.parameter_count(policy) / 1e6:,.1f}M parameters, {run.n} blocks frozen and shared, "
            f"{run.config.ppo.micro_batch} rows at a time; about {max(1, forecast):.0f} minutes on an idle machine")
    return one_round(run, out, first, second, round)


def shared_blocks(policy, config):
    """How many of the lowest blocks to freeze and share; 0 for models that cannot be split."""
    n = int(config.frozen * (getattr(policy.config, "num_hidden_layers", None) or 0))
    try:
        shared_trunk.share_scalar(policy, n, 0)
    except ValueError:
        return 0
    return n


def one_round(run, out, first, second, round):
    """The steps of a round. first, second: the rankings of the reward model and of the second judge."""
    started, device = time.perf_counter(), models.device_of(run.policy)
    if round > 1:
        begin = checkpoints.load_policy(out / "round-1" / "sft", device)
        start = checkpoints.load_policy(out / f"round-{round - 1}" / "policy", device)
    else:
        begin = start = kept(run, "sft", lambda: do_sft(run, run.policy) if "sft" in run.config.steps else run.policy)

    def judge_of(name, rows, other, seed):
        def make():
            model, run.results[name] = do_reward(run, begin, rows, other, seed, name)
            return model
        return kept(run, name, make)
    model = judge_of("reward", first, second, run.config.seed)
    judge = judge_of("judge", second, first, run.config.seed + 1)
    gate = files.read_json(run.folder / "gate.json") or plain(do_gate(run, start, model, judge))
    files.write_json(run.folder / "gate.json", gate)
    run.results["gate"] = gate
    run.say(f"the gate is {'open' if gate['open'] else 'closed'}: best of {gate['n']} by the reward model gains "
            f"{gate['gain'][0]:+.2f} ({gate['gain'][1]:+.2f} to {gate['gain'][2]:+.2f}) by the second judge")
    policies = {"before": run.policy, **({"SFT": begin} if "sft" in run.config.steps else {}),
                **({f"round {round - 1}": start} if round > 1 else {})}
    for step, name in (("dpo", "DPO"), ("ppo", "PPO")):
        if step in run.config.steps and (step == "dpo" or gate["open"] or run.config.anyway):
            def make(step=step, name=name):
                policy, run.results[name] = (do_ppo(run, begin, start, model) if step == "ppo" else
                                             do_dpo(run, begin, start, first))
                return policy
            policies[name] = kept(run, step, make)
    run.results["skipped"] = "ppo" in run.config.steps and "PPO" not in policies
    kept(run, "policy", lambda: list(policies.values())[-1])
    found = {**run.results, **plain(compare(run, policies, model, judge))}
    found["seconds"] = round_seconds = time.perf_counter() - started
    align_page.write(run.folder, found, round)
    files.write_json(run.folder / "results.json", found)
    run.say(f"done in {round_seconds / 60:.1f} minutes: {run.folder / 'report.html'}")
    return run.folder


def kept(run, name, make):
    """The model of a step: loaded if the step is done, else made and saved, with the tokenizer beside it."""
    folder, device = run.folder / name, models.device_of(run.policy)
    if not (folder / checkpoints.CARD).is_file():
        started, before = time.perf_counter(), dict(run.results)
        run.say(f"{name} ...")
        model = make()
        files.write_json(run.folder / f"{name}.json", plain({key: value for key, value in run.results.items()
                                                             if key not in before}))
        run.tokenizer.save_pretrained(folder)
        checkpoints.save_checkpoint(folder, model, {"stage": name, "command": "python -m rlhf_lite align"})
        shutil.rmtree(run.folder / "state" / name, ignore_errors=True)  # no longer needed
        run.say(f"{name}: {(time.perf_counter() - started) / 60:.1f} minutes")
    run.results |= files.read_json(run.folder / f"{name}.json", {})
    scalar = checkpoints.load_card(folder)["kind"] == "scalar"
    return (checkpoints.load_scalar if scalar else checkpoints.load_policy)(folder, device)


def settle(folder, settings):
    """Write the settings of a round, or check that a run that goes on has the same ones."""
    wanted, found = plain(settings), files.read_json(folder / "settings.json")
    if found is not None and found != wanted:
        changed = sorted(key for key in wanted | found if found.get(key) != wanted.get(key))
        raise ValueError(f"{folder} was begun with other settings ({', '.join(changed)}); choose another --out, or "
                         "delete that folder.")
    files.write_json(folder / "settings.json", wanted)


def plain(content):
    """Results as plain JSON values."""
    return json.loads(json.dumps(content, default=lambda value: value.tolist()))


# ---------------------------------------------------------------- the next round

def to_rank(out, count=20, answers=4, seed=0):
    """New answers of the last round's policy, as items for `RankingSession` -> the path out/to_rank-N.jsonl.

    Prompts that nobody has ranked yet come first; held-out prompts never come.
    """
    out, last = Path(out), finished(out)
    if not last:
        raise ValueError(f"{out} has no finished round; run python -m rlhf_lite align --out {out} first.")
    path, folder = out / f"to_rank-{last + 1}.jsonl", out / f"round-{last}"
    if path.is_file():
        return path
    known = files.read_json(out / "data.json")
    policy, tokenizer, _ = hub.load(folder / "policy")
    tokens = files.read_json(folder / "settings.json")["config"]["max_new_tokens"]
    ranked = {row["prompt"] for row in known["rankings"]}
    chosen = sorted((prompt for prompt in known["prompts"] if prompt not in known["held_out"]),
                    key=lambda prompt: prompt in ranked)[:count]
    asked, texts = [models.encode_prompt(tokenizer, prompt) for prompt in chosen], [{} for _ in chosen]
    for k in range(answers):
        drawn = sampling.sample_many(policy, asked, tokens, seed=seed + k)
        for found, ids in zip(texts, drawn, strict=True):
            found.setdefault(models.decode_response(tokenizer, ids), ids)
    items = [{"prompt_id": f"{out.name}-{last + 1}-{number}", "prompt": prompt,
              "responses": [{"text": text, "source": folder.name, "token_ids": ids} for text, ids in found.items()]}
             for number, (prompt, found) in enumerate(zip(chosen, texts, strict=True)) if len(found) > 1]
    if not items:
        raise ValueError("The model gives the same answer every time, so there is nothing to rank.")
    files.write_text(path, "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items))
    return path


def finished(out):
    """The number of the last finished round, 0 if there is none."""
    return max((int(path.parent.name.split("-")[1]) for path in Path(out).glob("round-*/results.json")), default=0)


def next_own(out, rankings):
    """(model, Own) for the next round: the data of the last one, and new rankings."""
    known = files.read_json(Path(out) / "data.json")
    if known is None:
        raise ValueError(f"{out} has no first round yet; give --model, --demonstrations and --rankings.")
    if not rankings:
        raise ValueError(f"There are no new rankings in {out}/feedback/; make some with: python -m rlhf_lite rank "
                         f"--from {out} --serve")
    return known["model"], own_data.Own(known["prompts"], [tuple(pair) for pair in known["demonstrations"]],
                                        known["rankings"] + rankings)


def command(arguments, ranked):
    """`python -m rlhf_lite align`: the first round from files, a later one from what people have ranked since."""
    config = AlignConfig(steps=tuple(arguments.steps.split(",")), max_new_tokens=arguments.tokens,
                         frozen=arguments.frozen, lora=arguments.lora, anyway=arguments.anyway, seed=arguments.seed)
    config = replace(config, ppo=replace(config.ppo, iterations=arguments.iterations))
    if arguments.round > 1:
        model, own = next_own(arguments.out, ranked)
    elif arguments.model and arguments.rankings:
        model = arguments.model
        own = own_data.read_own(arguments.prompts, arguments.demonstrations, arguments.rankings, arguments.better)
    else:
        raise ValueError("The first round needs --model and --rankings (and --demonstrations, unless sft is left out).")
    align(model, own, arguments.out, config, arguments.device, arguments.round)
