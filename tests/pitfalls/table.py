"""The page docs/pitfalls.md: the forty pitfalls with what you see, a number, the cause, what we do, and the tests.

    python tests/pitfalls/table.py            write the page (half a minute: every mistake is made and measured)
    python tests/pitfalls/table.py --check    only say whether the page still fits; exit code 1 if it does not

What you see, the cause and the fix are written here; numbers come from measured.py, tests and sources from the test
functions named test_pNN_... and their docstrings. test_table.py runs the check, so the page cannot fall behind.
"""

import ast
import math
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE = HERE.parents[1] / "docs" / "pitfalls.md"

GROUPS = {1: "Signs, shapes, alignment", 7: "Padding, END, positions", 18: "Sampling and log-probabilities",
          27: "The reference, heads and starts", 32: "Losses and statistics"}

# number: (what you see, the cause, what the library does)
TEXTS = {
    1: ("The policy gets worse at what it is rewarded for, or drifts from the reference at r = 0.",
        "A sign of the reward, the KL or the loss is flipped; nothing else changes.",
        "One place each: `shaped_rewards` subtracts the KL, `policy_loss` is minus ratio times advantage."),
    2: ("Before the first step, ratios are not 1 or the KL is not 0.",
        "Two passes that should compute the same do not, or the rollout is older than the weights.",
        "`train_ppo` takes old log-probabilities from the forward pass that training uses; every iteration samples "
        "anew."),
    3: ("It trains, only worse.", "Logits, values or masks are shifted by one token.",
        "`token_log_probs` and `response_values` read one place before each token; END's value too."),
    4: ("Finished and cut-off responses learn differently from the same score.",
        "The score lands after END when there is padding, on the last token when there is none.",
        "`shaped_rewards` adds it to the last action, whichever that is."),
    5: ("Every response looks unfinished to the critic.", "The critic's value after the end is bootstrapped from.",
        "`gae` starts from 0: the episode ends with the last action."),
    6: ("Results depend on which rows share a batch.", "Values or rewards at padding enter the recursion.",
        "`gae` selects the actions first and stops the running sum at padding."),
    7: ("The reward model never reads the response.", "The position of the score is looked up by token id.",
        "`score_at_last` takes the last place of the attention mask; PAD is a token of its own."),
    8: ("Responses grow to the limit: the policy never learns to stop.",
        "With pad = END, a mask made from ids leaves END out of the loss.",
        "`sample` counts what it drew; END is the last action, and a lone END is one action."),
    9: ("The fine-tuned model does not stop.", "Labels are masked where the id is PAD, which is END as well.",
        "`collate` masks labels by the attention mask; END is a target."),
    10: ("A GPT-2 answers differently when its prompt is padded.", "Positions count the padding.",
         "`position_ids` are made from the mask and handed to every model that takes them."),
    11: ("Scores depend on the padding side.", "The last place is taken to be the number of tokens minus one.",
         "`score_at_last` works for either side."),
    12: ("A row's log-probabilities depend on its neighbours.", "A forward pass without the attention mask.",
         "`logits` and `ScalarModel` require a mask; there is no default."),
    13: ("Unfinished responses pass as finished, or the other way round.",
         "The stop token is looked for in the prompt too, or it is not the token that sampling stopped at.",
         "`sample` decides once, on the response alone, from the token it stops at."),
    14: ("Full-length answers are punished, or cut-off ones twice.",
         "\"As long as the limit\" is taken for \"cut off\".",
         "`Rollout.finished` is \"the last token is END\"; `train_ppo` subtracts the penalty once."),
    15: ("A KL below 0, from rows that were cut off.", "END is written where the policy did not choose it.",
         "Nothing is ever appended to the actions, nor for the reward model."),
    16: ("Good in training, a guess in PPO.",
         "The reward model's input is built in two places, with an extra space, BEGIN or END in one of them.",
         "`reward_input` builds both from ids."),
    17: ("Pairs that teach nothing.", "Truncation takes the only difference, or the question, or END.",
         "Nothing is cut; what does not fit is refused; equal answers are ranked once."),
    18: ("The policy sharpens, the KL is wrong.", "Generation keeps 50 tokens unless told otherwise.",
         "`sample` draws from the softmax over the whole vocabulary and has no warpers."),
    19: ("Clipped ratios before any update.", "Sampled at one temperature, scored at another.",
         "The same temperature divides the logits of sampler, old policy, new policy and reference."),
    20: ("The objective rises while the policy learns nothing.",
         "Sampling from another distribution makes the measured KL negative, and r − βKL pays for it.",
         "No warpers; `train_ppo` warns below −0.1 nats a response."),
    21: ("No progress: all responses to a prompt are alike.", "Rollouts take the likeliest token.",
         "`sample` draws unless asked for `greedy`; PPO never asks."),
    22: ("The first ratios are far from 1, most tokens are clipped.",
         "Dropout is on in the update or in the reference.",
         "`train_ppo` puts every model into evaluation mode; SFT removes its dropout when it is done."),
    23: ("Noise in the ratios, some tokens always clipped.", "Log-softmax, or the whole model, in bfloat16.",
         "Log-probabilities, values, losses and whitening are float32; old numbers come from the training pass."),
    24: ("Log-probabilities of tokens nobody sampled.", "Responses are decoded and tokenised again.",
         "Ids are kept from sampling to training, in rankings too; text is for people."),
    25: ("The KL loss does nothing, or too much.", "An estimator that is right in value is not right in gradient.",
         "k1 sits inside the reward, detached; its policy gradient is the KL's."),
    26: ("The KL looks calm while the policy runs away.", "Each token's KL is clamped before it is logged.",
         "Nothing is clamped; `max_kl` stops the run and says why."),
    27: ("A KL of 0 that stays 0.", "The reference is the policy, or is trained along with it.",
         "`copy_model(…, trainable=False)`; `train_ppo` refuses a reference that could move."),
    28: ("The shared \"frozen\" trunk drifts.", "The freeze list forgets a tied head or the table of positions.",
         "Models made by `copy_model` share nothing. A trunk that is shared (`shared_trunk`) is frozen with all its "
         "embeddings; test_shared_trunk.py compares it with whole models after training."),
    29: ("A KL at step 0.", "Switching adapters off gives the base model, not the SFT model.",
         "The reference is a full copy of the SFT model, adapters included."),
    30: ("Advantages of noise in the first iterations.", "The critic's head is not the reward model's.",
         "`copy_model(reward_model)` starts the critic: same class, same head."),
    31: ("A reloaded reward model is off by a constant, or random.", "A head or its bias is lost without an error.",
         "`load_scalar` raises for missing, renamed and unexpected tensors."),
    32: ("Prompts with many answers drown the others; ties give NaN.", "The loss is a mean over all pairs.",
         "`kwise_losses`: mean over a prompt's pairs, then over prompts; ties form no pairs."),
    33: ("PPO-ptx behaves unlike its formula.", "The pretraining loss has a step of its own on shared Adam moments.",
         "`train_ppo` adds both gradients, then steps once; with ptx_coef 0 it is PPO, bit for bit."),
    34: ("Steps depend on how much padding there is.", "Whitening over pads, or whitening that keeps the mean.",
         "`masked_whiten` over the actions: mean 0, deviation 1; with shift_mean=False signs stay."),
    35: ("NaN from nowhere.", "A mask that multiplies: NaN · 0 is NaN.", "Every function selects with `where`."),
    36: ("The result depends on the micro-batch.", "A mean of means is not the mean.",
         "Losses take a `normaliser`: the count of the whole minibatch."),
    37: ("The clip never acts; the critic learns the wrong target.",
         "Old numbers are recomputed in each epoch, or returns are made from whitened advantages.",
         "`Experience` keeps them fixed; returns are made before whitening."),
    38: ("Curves look healthier the more padding there is.", "Unmasked means.",
         "All statistics are over actions; test_invariance.py moves the padding around."),
    39: ("Scores shift between training and PPO.", "The normalisation is forgotten on saving, or applied twice.",
         "`normalise` writes it into the weights, once."),
    40: ("A rising reward that is only longer answers.", "The reward model likes length.",
         "Every iteration logs the correlation of score and length; notebook 07 holds length fixed."),
}

HEAD = """# Forty ways RLHF goes silently wrong

<!-- written by `python tests/pitfalls/table.py`; edit the texts there -->

For everyone who trains with PPO: forty mistakes that raise no error, what each looks like, and the test that catches
it.

Whichever of them you make, the run continues and the curves look plausible. Each has at least one test named after
its number, `tests/pitfalls/test_*.py::test_pNN_…`, on a GPT-2 (learned positions, dropout) and on a Llama (rotary
positions) where the kind of model could matter. The column "in numbers" shows what comes out when the mistake is made
on purpose on the tests' tiny models, beside what should come out. `python tests/pitfalls/table.py` makes all forty
mistakes again and rewrites this page, and a test fails when the two differ. Notebook 08, the broken-PPO clinic, shows
some of them as patients' curves.

In addition, `tests/test_invariance.py` states as properties what must not matter (padding and the ids in it, the
order of rows, micro-batches, the padding side), and `python tests/mutants.py` makes one-line mistakes in the library
and checks that the tests notice.
"""

TAIL = """
## Beside TRL and verl

`tests/test_engines.py` runs our formulas beside those of the two engines, on the same numbers. It is skipped where they
are not installed:

```bash
pip install trl==1.12.0 requests && pip install --no-deps verl==0.9.1
pytest tests/test_engines.py
```

Last run 2026-11-23: TRL 1.12.0, verl 0.9.1, torch 2.13.0, transformers 5.23.0, Python 3.11.7, CPU; 19 passed.

| agrees | with | to |
|---|---|---|
| log-probabilities, entropies and scores of a left-padded rollout (GPT-2, Llama) | TRL PPO: `forward`, `selective_log_softmax`, `entropy_from_logits`, `get_reward` | 1e-4 (float32) |
| cutting at END | TRL PPO: `truncate_response` | equal |
| rewards, GAE and returns of responses that fill the width | TRL PPO, lines of `train` | 1e-9 |
| rewards, GAE and returns of any response | verl `compute_rewards`, `compute_gae_advantage_return` | 1e-9 |
| clipped policy loss and value loss, with gradients, whole and in parts | TRL PPO, lines of `train`; verl `compute_policy_loss_vanilla`, `compute_value_loss` | 1e-9 |
| k1, k2, k3; adaptive KL | verl `kl_penalty`, `AdaptiveKLController` | 1e-8 |
| ranking loss of pairs, and of one prompt's pairs | TRL `RewardTrainer` | 1e-9 |
| DPO: log-probabilities, loss, gradient of every weight (GPT-2, Llama) | TRL `DPOTrainer`, lines of `_compute_loss` | 1e-4, gradients 1e-3 (float32) |
| RLOO: advantages, gradient of the first step | TRL `RLOOTrainer`; verl `compute_rloo_outcome_advantage` | 1e-9 |

| differs on purpose | theirs | ours |
|---|---|---|
| P4, where the score lands | TRL: one place after END when there is padding: .75 to .79 for score 1, V .2 | on the last action: .80 |
| P6, at padding | verl: returns keep whatever was there | 0 |
| P8, pad = END | TRL: END is masked out, an empty response has length −1 | END is an action |
| P13, "finished" | TRL: looks for eos, also when it stopped at another token | one rule |
| P26, clamps | verl: k3 at most 10 | none |
| P32, rankings of unequal K | TRL: mean over pairs | per prompt first |
| P34, whitening | both: n − 1, so TRL gives NaN for one value; without shift TRL keeps the mean unscaled, so signs can change | n; scaling only |
| P35, NaN at padding | TRL: `masked_mean` is NaN | selected away |
| P38, approx_kl | TRL: ½ d² over all places, padding too | k3 over the actions |
| dual clip | verl: a bad token costs at most 3 times its advantage | PPO's own clip only |
"""  # noqa: E501  (the rows of a table)


def tests_by_number():
    """{number: [(file, test, has both kinds, docstring)]} of all test_pNN_ functions of this folder."""
    found = {number: [] for number in range(1, 41)}
    for path in sorted(HERE.glob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            match = re.match(r"test_p(\d\d)_", getattr(node, "name", ""))
            if match:
                kinds = any(argument.arg == "kind" for argument in node.args.args)
                text = " ".join((ast.get_docstring(node) or "").split())
                found[int(match[1])].append((path.name, node.name, kinds, text))
    return found


def sources(docstring):
    """What stands after "Source:" or "Sources:" in a docstring."""
    match = re.search(r"\bSources?: (.+)$", docstring)
    return match[1].rstrip(".") if match else ""


def page():
    """The whole page as text."""
    from measured import MEASURES
    tests, parts = tests_by_number(), [HEAD]
    for number, (seen, cause, fix) in TEXTS.items():
        if number in GROUPS:
            parts.append(f"\n## {GROUPS[number]}\n\n| | what you see | in numbers | cause | what we do | tests |\n"
                         "|---|---|---|---|---|---|\n")
        names = "<br>".join(f"`{name}`" for _, name, _, _ in tests[number])
        source = next((sources(text) for *_, text in tests[number] if sources(text)), "")
        parts.append(f"| P{number} | {seen} | {MEASURES[number]()} | {cause} ({source}) | {fix} | {names} |\n")
    return "".join([*parts, TAIL])


def differences(written, now, tolerance=0.05):
    """Lines of two pages that differ, numbers in them by more than 5 % or one in the second digit; "" for none."""
    number = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w])")
    found = []
    ours, theirs = written.splitlines(), now.splitlines()
    for index in range(max(len(ours), len(theirs))):
        a, b = (lines[index] if index < len(lines) else "" for lines in (ours, theirs))
        if number.sub("#", a) != number.sub("#", b) or not all(
                math.isclose(float(x), float(y), rel_tol=tolerance, abs_tol=0.011)
                for x, y in zip(number.findall(a), number.findall(b), strict=True)):
            found.append(f"line {index + 1}\n  on the page: {a}\n  now:         {b}")
    return "\n".join(found)


def main():
    sys.path.insert(0, str(HERE))
    sys.path.insert(0, str(HERE.parents[1]))
    now = page()
    if "--check" in sys.argv[1:]:
        changed = differences(PAGE.read_text(encoding="utf-8"), now)
        print(changed or "docs/pitfalls.md is up to date.")
        return bool(changed)
    PAGE.write_text(now, encoding="utf-8")
    print(f"wrote {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
