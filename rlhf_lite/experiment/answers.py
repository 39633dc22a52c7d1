"""A policy answers prompts; the domain's grading program grades the answers, and its labelers rank them.

Training sees only the rankings. The true grades are for evaluation.
"""

import numpy as np

from rlhf_lite import feedback, models
from rlhf_lite.experiment import data, domain
from rlhf_lite.experiment.pebbleford import TOWN
from rlhf_lite.experiment.recipe import MAX_NEW_TOKENS, TEMPERATURE
from rlhf_lite.sampling import sample_many
from rlhf_lite.town import labelers


def answer_rows(policy, tokenizer, prompts, prefix="", cut=None, temperature=TEMPERATURE, greedy=False, seed=0,
                progress=True, world=TOWN):
    """One graded sample per prompt: a list of dicts (prompt_id, use_case, task, prompt, response, ...).

    ``prefix``: text in front of every prompt (the few-shot prompted baseline). ``cut``: a string at which answers
    are cut off, just as a user of a base model would set a stop sequence.
    """
    ids = [[tokenizer.bos_token_id] + models.encode_text(tokenizer, prefix + models.format_prompt(p.text))
           for p in prompts]
    answers = sample_many(policy, ids, MAX_NEW_TOKENS, temperature, greedy, seed, progress=progress)
    rows = []
    for prompt, answer in zip(prompts, answers, strict=True):
        text, finished = models.decode_response(tokenizer, answer), answer[-1] == tokenizer.eos_token_id
        if cut and cut in text:
            text, finished = text.split(cut)[0].strip(), True
            answer = next(answer[:n] for n in range(1, len(answer) + 1)  # keep only the tokens of the text that is left
                          if cut in tokenizer.decode(answer[:n]).lstrip())
        rows.append({"prompt_id": prompt.id, "use_case": prompt.use_case, "prompt": prompt.text, **about(prompt),
                     "response": text, "token_ids": answer, "finished": finished,
                     "grade": domain.seen(world, prompt, text, finished)})
    return rows


def about(prompt):
    """What the town knows of a prompt beyond its use case: the task, and whether nobody can know the answer."""
    return {"task": prompt.task, "unknown": bool(prompt.spec.get("unknown"))} if hasattr(prompt, "task") else {}


def rank_answers(policy, tokenizer, prompts, team, recipe, seed=0, source="sft", progress=True, world=TOWN):
    """Sample K answers to each prompt and let one labeler of the team rank the different ones -> ranking records.

    Every record keeps the sampled token ids (training never re-tokenises text) and the true scores (only evaluation
    reads them). Prompts with fewer than two different answers are left out.
    """
    rng = np.random.default_rng((recipe.seed, seed))
    texts, answers = {}, {}
    ids = data.encoded(tokenizer, prompts)
    for k in range(recipe.answers_per_prompt):
        heat = recipe.temperatures[k % len(recipe.temperatures)]
        drawn = sample_many(policy, ids, MAX_NEW_TOKENS, heat, seed=seed * 1000 + k, progress=progress)
        for i, answer in enumerate(drawn):
            text = models.decode_response(tokenizer, answer)
            if text not in texts.setdefault(i, set()):
                texts[i].add(text)
                answers.setdefault(i, []).append((answer, text))
    rows = []
    for i, prompt in enumerate(prompts):
        if len(answers[i]) < 2:
            continue
        grades = [domain.seen(world, prompt, text, answer[-1] == tokenizer.eos_token_id) for answer, text in answers[i]]
        true = {"true_scores": [round(g.score, 4) for g in grades]} if world.grade else {}
        labeler = team[int(rng.integers(len(team)))]
        ranks, likerts = labeler.judge(grades, [len(answer) for answer, _ in answers[i]], rng)
        rows.append(feedback.new_ranking(
            prompt.id, prompt.text,
            [{"text": text, "source": source, "token_ids": answer} for answer, text in answers[i]],
            ranks, f"simulated:{labeler.name}", scores=likerts, use_case=prompt.use_case, split=prompt.split, **true))
    return rows


def calibrate_labelers(policy, tokenizer, recipe, prompts=500, noise_file=labelers.NOISE_FILE, progress=True):
    """Store a noise level at which the simulated team agrees as often as the paper's, on answers of ``policy``.

    Uses validation prompts. Returns {"training": Agreement, "heldout": ..., "evaluation": ...}, measured afterwards.
    """
    chosen = data.prompts_of("valid", prompts)
    ids, grades, lengths = data.encoded(tokenizer, chosen), [{} for _ in chosen], []
    for k in range(recipe.answers_per_prompt):
        heat = recipe.temperatures[k % len(recipe.temperatures)]
        for i, answer in enumerate(sample_many(policy, ids, MAX_NEW_TOKENS, heat, seed=5000 + k, progress=progress)):
            text = models.decode_response(tokenizer, answer)
            grades[i][text] = (TOWN.grade(chosen[i], text, answer[-1] == tokenizer.eos_token_id), len(answer))
    several = [list(found.values()) for found in grades if len(found) > 1]  # equal texts cannot be told apart
    grades, lengths = [[g for g, _ in found] for found in several], [[n for _, n in found] for found in several]
    measured = {}
    for name, team in (("training", labelers.training_team(None)), ("evaluation", labelers.evaluation_team(None)),
                       ("heldout", None)):
        team = labelers.heldout_team(noise_file) if team is None else labelers.calibrate(
            team, grades, labelers.TRAINING_AGREEMENT, np.random.default_rng(1), lengths)
        measured[name] = labelers.measure_agreement(team, grades, np.random.default_rng(2), lengths)
        labelers.store_noise(name, team, measured[name], noise_file)
    return measured
