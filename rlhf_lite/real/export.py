"""Export: when one machine is not enough, TRL, OpenRLHF or verl can continue from the same models and data.

The idea: the engines have more in common than they differ in. A policy is a folder in the transformers format; a
reward model is an `AutoModelForSequenceClassification` whose linear unit is called `score` and has no bias;
preferences are pairs of texts. Whatever else ours has is kept where it will not be lost: the reward model's bias as
`mean` in its config (transformers would silently drop it from the weights), the K-wise weights as a column of the
pairs. `launch.sh` has our hyper-parameters under the engine's own names, and says which have no counterpart there.

Left out: running an engine, optimizer states, and PPO-ptx, which none of the three offers today.
"""

import copy
import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoModelForSequenceClassification, GenerationConfig

from rlhf_lite import checkpoints, feedback, files, models, schemas
from rlhf_lite.experiment import base_model, data, run, run_files
from rlhf_lite.models import ScalarModel
from rlhf_lite.real import engine_flags, hub, shared_trunk, weights

TOWN = models.format_prompt("{}")  # the prompt template, as text with one {}
STAGES = ("base", "sft", "reward", "ppo", "ppo_ptx")


# ---------------------------------------------------------------- the reward model

def to_classifier(model, pad):
    """A ScalarModel -> a transformers sequence classifier with one label, whose logit is our score − bias.

    config.mean = −bias and config.std = 1, so that (logit − mean) / std, as OpenRLHF computes it, is our score. pad:
    the id of a pad token other than the end; the classifier reads its logit at the last token that is not padding.
    """
    config = copy.deepcopy(model.config)
    config.num_labels, config.pad_token_id = 1, pad
    config.mean, config.std, config.value_head_prefix = -model.score.bias.item(), 1.0, "score"
    with torch.random.fork_rng(devices=[]):
        classifier = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    classifier.base_model.load_state_dict(model.trunk.state_dict())
    with torch.no_grad():
        classifier.score.weight.copy_(model.score.weight)
    return classifier.eval()


def load_classifier(folder):
    """A reward model from elsewhere (a folder saved by transformers, with one label) -> a ScalarModel on the CPU.

    config.mean and config.std, if present, become part of the score unit. Raises FileNotFoundError if there are no
    safetensors weights, and ValueError for a folder of another kind or one whose weights are incomplete.
    """
    folder = Path(folder)
    weights.check_folder(folder, folder)
    try:
        with torch.random.fork_rng(devices=[]):
            classifier, info = AutoModelForSequenceClassification.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, output_loading_info=True)
    except Exception as error:  # anything can be in a config
        raise ValueError(f"{folder} does not contain a reward model that transformers knows "
                         f"({schemas.said(error)}); give the folder that the engine's reward training wrote.") from None
    weights.check_values(classifier, folder)
    score = getattr(classifier, "score", None)
    one = isinstance(score, torch.nn.Linear) and len(score.weight) == 1
    if info["missing_keys"] or info["unexpected_keys"] or not one:
        raise ValueError(f"{folder} is not a reward model with one output and a unit called score (missing "
                         f"{sorted(info['missing_keys'])[:2]}, unexpected {sorted(info['unexpected_keys'])[:2]}); "
                         "give the folder that the engine's reward training wrote.")
    if getattr(classifier.config, "special_ids", None) is None and (folder / "tokenizer.json").is_file():
        tokenizer = hub.read_tokenizer(folder, folder)  # PPO compares them with the policy's
        classifier.config.special_ids = [tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id]
    mean, std = getattr(classifier.config, "mean", 0.0), getattr(classifier.config, "std", 1.0)
    wrong = schemas.misfit([mean, std], tuple[schemas.Number, schemas.Positive])
    if wrong or not std:
        raise ValueError(f"{folder / checkpoints.CONFIG} has no sensible mean and std ({wrong or 'std is 0'}); remove "
                         "them, or train that reward model again.")
    model = ScalarModel(classifier.base_model)
    with torch.no_grad():
        model.score.weight.copy_(score.weight / std)
        bias = 0.0 if score.bias is None else score.bias.item()
        model.score.bias.fill_((bias - mean) / std)
    return checkpoints.unmapped(model).eval()


# ---------------------------------------------------------------- the data

def begin_text(tokenizer, engine):
    """The text to put before a prompt so that the engine reads the ids we trained on: BEGIN once, not twice.

    TRL lets the tokenizer add its own special tokens and OpenRLHF forbids it; messages (the prompts for verl and for
    TRL's RLOO) get theirs from the chat template.
    """
    adds = tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
    return "" if engine in ("verl", "nemo-rl") or (engine == "trl" and adds) else tokenizer.bos_token


def chat_template(template):
    """The plain template as a chat template, for engines that know only messages."""
    before, after = template.split("{}")
    return ("{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}" + _quoted(before)
            + "{{ message['content'] }}" + _quoted(after)
            + "{% else %}{{ message['content'] }}{{ eos_token }}{% endif %}{% endfor %}")


def _quoted(text):
    return "{{ " + json.dumps(text) + " }}" if text else ""  # as a literal: Jinja trims newlines after a tag


def pair_rows(rankings, tokenizer, template=TOWN, begin=""):
    """Ranking records -> (pairs as texts, counts). Ties and pairs of identical answers are left out.

    Every pair has prompt, chosen, rejected, ranking_id and pair_weight: 1 / the number of pairs of its ranking, which
    is the weight in our K-wise loss; no engine reads it. There is no column `margin`, because TRL would use it in its
    loss unasked. Every answer ends with the end token, even one that was cut off (counted as `unfinished`): the engines
    would add it anyway, OpenRLHF with a space before it. Two more counts: answers whose text encodes to ids other than
    the sampled ones, and pairs dropped because a text contains a special token, which an engine would not read as text.
    """
    rows, counts = [], {"pairs": 0, "unfinished": 0, "other_ids": 0, "special_token_in_text": 0}
    end = tokenizer.eos_token_id
    for number, row in enumerate(rankings):
        texts = [response["text"] for response in row["responses"]]
        for response in row["responses"]:
            ids = response.get("token_ids")
            counts["unfinished"] += bool(ids) and ids[-1] != end
            counts["other_ids"] += bool(ids) and ids[-1] == end and models.encode_response(
                tokenizer, response["text"]) != ids
        pairs = [pair for pair in feedback.pairs_from_ranking(row) if texts[pair[0]] != texts[pair[1]]]
        for better, worse in pairs:
            if _special(tokenizer, row["prompt"], texts[better], texts[worse]):
                counts["special_token_in_text"] += 1
                continue
            rows.append({"prompt": begin + template.format(row["prompt"]),
                         "chosen": texts[better] + tokenizer.eos_token, "rejected": texts[worse] + tokenizer.eos_token,
                         "ranking_id": str(row.get("id", f"{row['prompt_id']}/{row['labeler']}/{number}")),
                         "pair_weight": 1 / len(pairs)})
    return rows, counts | {"pairs": len(rows)}


def demonstration_rows(demonstrations, tokenizer, template=TOWN, begin=""):
    """[{"prompt", "response"}] -> [{"prompt", "completion"}]; the completion ends with the end token."""
    return [{"prompt": begin + template.format(row["prompt"]), "completion": row["response"] + tokenizer.eos_token}
            for row in demonstrations if not _special(tokenizer, row["prompt"], row["response"])]


def prompt_rows(prompts, tokenizer, engine, template=TOWN, begin=""):
    """Prompts (texts) -> rows with `prompt`: a text for OpenRLHF, a message for TRL and verl.

    Why a message: TRL's RLOO passes answers to a reward model as text that has lost its END. If the prompt is a
    message, the chat template adds END again (`engine_flags.JUDGE` reads the ids). verl needs more columns.
    """
    prompts = [prompt for prompt in prompts if not _special(tokenizer, prompt)]
    if engine == "openrlhf":
        return [{"prompt": begin + template.format(prompt)} for prompt in prompts]
    messages = [[{"role": "user", "content": prompt}] for prompt in prompts]
    if engine in ("trl", "nemo-rl"):
        return [{"prompt": message} for message in messages]
    return [{"data_source": "rlhf_lite", "prompt": message, "ability": "assistant",
             "reward_model": {"style": "model", "ground_truth": ""}, "extra_info": {"index": index}}
            for index, message in enumerate(messages)]


def preference_rows(rankings, tokenizer):
    """Ranking records in NeMo-RL's preference form, which keeps all K answers with their ranks; 0 is the best."""
    return [{"context": [{"role": "user", "content": row["prompt"]}],
             "completions": [{"rank": rank - 1, "completion": [{"role": "assistant", "content": response["text"]}]}
                             for rank, response in zip(row["ranks"], row["responses"], strict=True)]}
            for row in rankings if not _special(tokenizer, row["prompt"], *(r["text"] for r in row["responses"]))]


def _special(tokenizer, *texts):
    return any(token in text for token in tokenizer.all_special_tokens for text in texts)


# ---------------------------------------------------------------- writing

def write_export(out, engine, tokenizer, found, settings, rankings=None, demonstrations=None, prompts=None,
                 template=None):
    """Write everything that `engine` (one of `engine_flags.ENGINES`) needs to `out`, a new folder; returns the counts.

    found: {"base" | "sft" | "reward" | "ppo" | "ppo_ptx": model}. settings: as from `engine_flags.settings`.
    rankings, demonstrations, prompts: {"train": rows, "validation": rows}; rankings are records, the others as in
    `demonstration_rows` and `prompt_rows`. The folder appears whole or not at all.
    """
    out = Path(out)
    if engine not in engine_flags.ENGINES:
        raise ValueError(f"There is no engine {engine!r}; choose one of {', '.join(engine_flags.ENGINES)}.")
    if out.exists():
        raise ValueError(f"{out} already exists; choose another folder or delete it.")
    if tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
        raise ValueError("The tokenizer has no pad token of its own; hub.load or hub.add_special_ids adds one.")
    tokenizer, begin = copy.deepcopy(tokenizer), begin_text(tokenizer, engine)
    template = tokenizer.init_kwargs["prompt_template"] = template or models.prompt_template(tokenizer)
    tokenizer.chat_template = chat_template(template)
    counts = {}
    with files.whole_folder(out, SafetensorError) as new:  # raised for a full disk
        for stage, model in found.items():
            _write_model(new / stage, ordinary(model), tokenizer)
        for split in ("train", "validation"):
            pairs, counted = pair_rows((rankings or {}).get(split, []), tokenizer, template, begin)
            counts[split] = counted
            if split == "train":
                in_a_ranking = max(1, round(len(pairs) / max(1, len({pair["ranking_id"] for pair in pairs}))))
            if engine == "nemo-rl":
                _write_rows(new / "data" / "preferences" / f"{split}.jsonl",
                            preference_rows((rankings or {}).get(split, []), tokenizer))
            _write_rows(new / "data" / "pairs" / f"{split}.jsonl", pairs)
            rows = demonstration_rows((demonstrations or {}).get(split, []), tokenizer, template, begin)
            _write_rows(new / "data" / "demonstrations" / f"{split}.jsonl", rows)
            rows = prompt_rows((prompts or {}).get(split, []), tokenizer, engine, template, begin)
            _write_rows(new / "data" / "prompts" / f"{split}.{'parquet' if engine == 'verl' else 'jsonl'}", rows)
        context = getattr(next(iter(found.values())).config, "max_position_embeddings", 2048)
        script = engine_flags.script(engine, settings, set(found), context, in_a_ranking)
        (new / "launch.sh").write_text(script, encoding="utf-8", newline="\n")  # it runs on Linux
        (new / "launch.sh").chmod(0o755)
        if engine == "trl" and "reward" in found:
            (new / "judge.py").write_text(engine_flags.JUDGE, encoding="utf-8")
        about = {"engine": engine, "template": template, "counts": counts}
        (new / "export.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return counts


def ordinary(model):
    """The model itself or, with LoRA or a shared trunk, an ordinary copy with the same outputs."""
    if isinstance(model, (shared_trunk.SharedPolicy, shared_trunk.SharedScalar)):
        return shared_trunk.unshare(model)
    if any(".lora_" in name for name, _ in model.named_parameters()):
        return hub.merge_lora(copy.deepcopy(model)).eval()
    return model


def _write_model(folder, model, tokenizer):
    weights.check_values(model, f"The model for {folder.name}")
    if isinstance(model, ScalarModel):
        model = to_classifier(model, tokenizer.pad_token_id)
    else:  # sample as we do: from the whole distribution
        model.generation_config = GenerationConfig(
            do_sample=True, temperature=1.0, top_k=0, top_p=1.0, pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _write_rows(path, rows):
    if not rows:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        feedback.to_dataset(rows).to_parquet(str(path))
    else:
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


# ---------------------------------------------------------------- from a run or a model

def export(source, out, engine):
    """Export a run's folder or a single model to the folder `out`; returns the counts.

    A run gives its base, SFT, reward and PPO models, its rankings, the demonstrations and prompts of the town, and
    its settings. A single model (a checkpoint, a transformers folder, a hub id) gives that model and its tokenizer.
    """
    source = Path(source)
    if (source / "recipe.json").is_file():
        return _export_run(source, out, engine)
    if (source / checkpoints.CARD).is_file():
        scalar = checkpoints.load_card(source)["kind"] == "scalar"
        model = (checkpoints.load_scalar if scalar else checkpoints.load_policy)(source)
        town = getattr(model.config, "special_ids", None) is None
        tokenizer = models.load_tokenizer(files.MODELS / "tokenizer") if town else hub.read_tokenizer(source, source)
        if town and len(tokenizer) != model.config.vocab_size:
            raise ValueError(f"{source} has {model.config.vocab_size} tokens but the town's tokenizer has "
                             f"{len(tokenizer)}; it was made with an older one, so train it again.")
        return write_export(out, engine, tokenizer, {"reward" if scalar else "sft": model}, engine_flags.settings())
    policy, tokenizer, _ = hub.load(str(source))
    return write_export(out, engine, tokenizer, {"sft": policy}, engine_flags.settings())


def _export_run(folder, out, engine):
    recipe = run_files.read_recipe(folder)
    run_files.only_town(folder)
    found, tokenizer = {}, models.load_tokenizer(files.MODELS / "tokenizer")
    for stage in STAGES:
        place = base_model.shipped("base", recipe["size"]) if stage == "base" else folder / stage
        if (place / checkpoints.CARD).is_file():
            load = checkpoints.load_scalar if stage == "reward" else checkpoints.load_policy
            found[stage] = load(place)
            if found[stage].config.vocab_size != len(tokenizer):
                raise ValueError(f"{place} has {found[stage].config.vocab_size} tokens but the tokenizer has "
                                 f"{len(tokenizer)}; the run is older than the tokenizer, so train it again.")
    if "sft" not in found:
        raise FileNotFoundError(f"{folder} has no sft model yet; finish it with: "
                                + run_files.command("run", *run_files.dials(recipe, folder.name)))
    splits = (("train", "train"), ("validation", "valid"))
    return write_export(out, engine, tokenizer, found, engine_flags.settings(recipe),
                        {split: run.rankings(folder, name) for split, name in splits},
                        {split: data.demonstrations(split=name) for split, name in splits},
                        {split: [p.text for p in data.prompts_of(name)] for split, name in splits})
