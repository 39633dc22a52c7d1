"""What the JSON files of a run contain: a schema for each of them. They are read by `run_files`.

`runs/NAME/` has recipe.json, minutes.json and memory.json; per stage a checkpoint and history.json; reward.json,
gate.json, measured/STAGE.json, answers/STAGE.jsonl and studies/STUDY.json; and results.json, made from all of these.
"""

from functools import cache
from typing import Annotated, Literal, NotRequired, TypedDict

from msgspec import Meta

from rlhf_lite import models, schemas
from rlhf_lite.experiment.recipe import Recipe
from rlhf_lite.feedback import SPLITS
from rlhf_lite.schemas import Count, Fraction, Interval, Name, Number, Positive, Seed, Share, Versions, Whole

UNMEASURED = ("prompted", "rival", "rival_prompted")  # these answer with a model whose tax is measured elsewhere
Size = Literal[*models.SIZES]
Amounts = dict[Name, Positive]
Tokens = Annotated[list[Annotated[int, Meta(ge=0, lt=2**31)]], Meta(min_length=1)]


class Bin(TypedDict):
    predicted: Fraction
    observed: Fraction
    n: Count


class OtherReward(TypedDict):
    """reward.json and first_reward.json of any domain: see `results.measure_reward`."""

    accuracy: Share
    pairs: Whole
    length_only: Share
    by_use_case: dict[Name, Share]
    accuracy_by_prompt: dict[Name, Fraction]
    calibration: list[Bin]
    ece: Fraction


class Reward(OtherReward):
    """Those of the town."""

    heldout_team: Share
    bayes_ceiling: Fraction
    heldout_by_prompt: dict[Name, Fraction]


class Gate(TypedDict):
    """gate.json: see `results.gate`. The lists have one entry for each n."""

    n: Annotated[list[Whole], Meta(min_length=1)]
    kl: list[Positive]
    proxy: list[Number]
    rm: list[Share]
    oracle: list[Share]
    true: list[list[Fraction]]
    gain_at_8: Interval
    open: bool


class OtherTax(TypedDict):
    web_loss: Interval


class Tax(OtherTax):
    reading: Share


class Heat(Share):
    temperature: Fraction


class Temperature(TypedDict):
    """A stage's true score at several temperatures on validation prompts: see `temperatures`."""

    curve: Annotated[list[Heat], Meta(min_length=1)]
    best: Fraction


class Answer(TypedDict):
    """A row of answers/STAGE.jsonl. It is graded again when read, so the grade in it is for readers only."""

    stage: Name
    set: Name
    prompt_id: Name
    use_case: Name
    prompt: Annotated[str, Meta(min_length=1)]
    response: str
    token_ids: Tokens
    finished: bool
    task: NotRequired[str]
    overall: NotRequired[Annotated[int, Meta(ge=1, le=7)]]
    score: NotRequired[Fraction]
    reasons: NotRequired[list[str]]
    flags: NotRequired[list[str]]


class Response(TypedDict):
    text: str
    source: NotRequired[str]
    token_ids: NotRequired[Tokens]


class Ranking(TypedDict):
    """A row of rankings-ROUND-SPLIT.jsonl, beyond what `feedback.check_ranking` asks of every ranking."""

    prompt_id: Name
    prompt: str
    responses: list[Response]
    labeler: Name
    seconds: Annotated[float, Meta(ge=0, le=1e7)]
    true_scores: NotRequired[list[Fraction]]
    use_case: NotRequired[Name]
    split: NotRequired[Literal[*SPLITS]]


# ---------------------------------------------------------------- studies

class Sweep(TypedDict):
    iterations: Whole
    score: Share
    scores: list[Fraction]
    fresh_scores: list[Fraction]
    proxy: Number
    kl: Number


class KLPoint(Sweep):
    kl_coef: Positive


class PTXPoint(Sweep):
    ptx_coef: Positive
    web_loss: Positive


class Pairs(TypedDict):
    kwise: list[Fraction]
    kwise_loss: list[Positive]
    shuffled: list[Fraction]
    shuffled_loss: list[Positive]


class Point(TypedDict):
    d: Positive
    gold: Number
    proxy: Number


class Overoptimisation(TypedDict):
    bon: list[Point]
    rl: list[Point]
    fit_bon: dict[Name, Number | None] | None
    fit_rl: dict[Name, Number | None] | None


class OneRound(TypedDict):
    rankings: dict[Name, Count]
    one: dict[Name, Interval | Number]
    two: dict[Name, Interval | Number]
    gain: Interval


class WinRate(Share):
    """How often one stage is preferred to another: see `evaluate.compare`."""

    a: Name
    b: Name
    judge: Name


class Arm(TypedDict):
    temperature: Temperature
    score_at_best: Share
    tax: Tax
    ppo_preferred: NotRequired[WinRate]


STUDIES = {"sft_arms": Annotated[dict[Name, Arm], Meta(min_length=1)],
           "kl_sweep": Annotated[list[KLPoint], Meta(min_length=1)],
           "ptx_sweep": Annotated[list[PTXPoint], Meta(min_length=1)], "pairs": Pairs,
           "overoptimisation": Overoptimisation, "one_round": OneRound}


# ---------------------------------------------------------------- results

class Part(TypedDict):
    """What the number of a claim is made of: see `claims.part`."""

    name: Name
    value: Number | None
    low: Number | None
    high: Number | None
    n: Count


class Claim(TypedDict):
    """A row of the headline table: see `claims.row`."""

    id: Whole
    claim: str
    paper: str
    target: str
    ours: Number | None
    low: Number | None
    high: Number | None
    n: Count
    seeds: Count
    met: bool | None
    unit: str
    parts: list[Part]
    note: str | None


class Headline(TypedDict):
    """data/results/headline.json."""

    headline: list[Claim]
    created: str
    versions: Versions
    size: Name
    seeds: list[Seed]
    other_sizes: dict[Name, list[Seed]]
    device: str | None
    minutes: list[Amounts | None]
    peak_memory_gib: list[Amounts | None]
    stages: dict[Name, dict[Name, Interval | None]]
    command: str


class Source(TypedDict):
    """domain.json of a run that is not of the town: see `domain.record`."""

    name: Name
    source: str
    sha256: str


class Results(TypedDict):
    """results.json of the town: see `results.collect_results`. Studies join it under their names."""

    name: Name
    size: Name
    seeds: list[Seed]
    device: str
    versions: Versions
    created: str
    minutes: Amounts
    peak_memory_gib: Amounts
    stages: dict[Name, dict[Name, Interval | None]]
    win_rates: list[WinRate]
    win_rates_at_best: list[WinRate]
    temperatures: dict[Name, Temperature]
    use_cases: dict[Name, dict[Name, Interval]]
    reward: Reward
    gate: Gate
    tax: dict[Name, Tax]
    by_size: dict[Name, dict[Name, WinRate]]
    headline: list[Claim]


# ---------------------------------------------------------------- made to measure

@cache
def recipe_schema():
    """recipe.json: all fields of `Recipe`."""
    return schemas.of_settings(Recipe, size=Size, reward_size=Size)


@cache
def measured_schema(stage, town=True):
    """Of measured/STAGE.json: how it does at each temperature, the tax of every model, the KL of every trained one."""
    tax = Tax if town else OtherTax
    fields = {} if stage in UNMEASURED else {"tax": tax} if stage == "base" else {"tax": tax, "kl": Interval}
    fields["temperature"] = Temperature if town else NotRequired[Temperature]  # which takes a grading program
    return TypedDict("Measured", fields)
