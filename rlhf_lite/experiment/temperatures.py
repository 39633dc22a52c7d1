"""Every stage at its best temperature: how much of a gain is only "it slips less often"?

PPO samples at one temperature, and so does the main comparison. But nobody who uses a model has to: a lower one makes
any model slip less, for nothing. So each stage also answers at several temperatures, the best of them is chosen on
validation prompts, and the stages meet once more, each at its own best.
"""

from rlhf_lite.experiment import evaluate
from rlhf_lite.experiment.answers import answer_rows
from rlhf_lite.experiment.pebbleford import TOWN
from rlhf_lite.stats import mean_interval

TEMPERATURES = (0.0, 0.3, 0.5, 0.7, 1.0)  # 0: greedy, always the likeliest token


def at(temperature):
    """The options of `answer_rows` and `sample` for a temperature; 0 means greedy."""
    return {"greedy": True} if temperature == 0 else {"temperature": temperature}


def temperature_curve(stage, policy, tokenizer, prompts, seed=0, progress=True, world=TOWN):
    """The true score of a stage at each of TEMPERATURES -> [{"temperature", "value", "low", "high", "n"}].

    prompts: of the validation split, so that the choice of the best has seen no test prompt.
    """
    curve = []
    for temperature in TEMPERATURES:
        rows = answer_rows(policy, tokenizer, prompts, seed=seed, progress=progress, **evaluate.as_used(stage, world),
                           **at(temperature))
        scores = [row["grade"].score for row in rows]
        curve.append({"temperature": temperature, **evaluate.value(mean_interval(scores))})
    return curve


def best_temperature(curve):
    """The temperature with the highest score; of equal ones the lowest."""
    return max(curve, key=lambda point: (point["value"], -point["temperature"]))["temperature"]
