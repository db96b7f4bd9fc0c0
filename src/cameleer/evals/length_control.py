"""The length-controlled win rate of AlpacaEval 2 (Dubois et al. 2024, arXiv 2404.04475).

What the judge prefers is modelled, and the model is asked what it would be if both responses were equally long:

    P(candidate preferred on i) = σ(a · tanh(Δ_i / sd(Δ)) + b · γ_i + c)         Δ_i = baseline − candidate, characters
    length-controlled win rate  = 100 · mean over i of σ(b · γ_i + c)

γ is the difficulty of an instruction, the same for all models; a, b, c are fitted for each model. As the published
metric fits them (alpaca_eval 0.6.6, metrics/glm_winrate.py):

    minimise  |a| + |b| + |c| + C Σ_rows w · cross-entropy(preference, prediction)
    rows: the model's, w = 1; and the *gamed* ones, w = 0.1, without c: the baseline asked to be verbose and concise,
          against itself. They keep `a` near how much length alone moves the judge.
    C from 10⁻⁴ … 10⁴, ten steps, by the weighted cross-entropy of five folds

γ and the gamed rows are published as one file on the hub; `published_control` fetches it. Where that cannot be had, or
for other instructions and baselines, `fitted_control` fits γ on annotations at hand and keeps `a` near the published
value by a normal prior. Its figures are marked as approximate; docs/judges.md says what it costs.

Here both classes of one row stand as one cross-entropy on the preference itself; the original doubles the rows, which
is the same sum. The optimum is exact, where liblinear's stops at 10⁻⁴; folds are row number modulo five.

Suffixes: N instructions, M models, R rows, F features.
"""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cameleer.core.errors import UserError

Array = NDArray[np.float64]

PUBLISHED_REPOSITORY, PUBLISHED_FILE = "tatsu-lab/alpaca_eval", "df_gamed.csv"
PUBLISHED_REVISION = "2edc6fad8be6b14ea7230aabfd08188da6b8b814"
PUBLISHED_SHA256 = "97aeec3f1c7de6dee6fd31fe66f1702623f4614c3efe1c6fc5f4927cd5fd674d"
GAMED_WEIGHT = 0.1
"""The published λ = 0.2, shared by two gamed variants."""
PENALTIES = tuple(float(each) for each in np.logspace(-4, 4, 10))
NUM_FOLDS = 5
PRIOR_MEAN, PRIOR_PRECISION = -1.62, 13.5
"""Where the gamed rows pull `a` when they are alone, and the curvature with which they do, for the published baseline.

Derived from the published coefficients of the two variants and the lengths of their public outputs
(benchmarks/alpaca_win_rates.py).
"""
DIFFICULTY_PRECISION = 1.0
"""Of the normal prior on a fitted γ; the scale of γ itself does not matter, b follows it."""
MAX_STEPS, TOLERANCE = 200, 1e-10


@dataclass(frozen=True)
class Gamed:
    """The rows of the baseline's gamed variants: standardised Δ, difficulty and preference of each."""

    delta_R: Array
    difficulty_R: Array
    preference_R: Array


@dataclass(frozen=True)
class Control:
    """What length control needs besides a model's own rows. Without gamed rows, the prior on `a` stands for them."""

    difficulty_N: Array
    gamed: Gamed | None

    @property
    def is_approximate(self) -> bool:
        return self.gamed is None


@dataclass(frozen=True, slots=True)
class LengthControlled:
    """A length-controlled win rate in percent and the coefficients behind it; `penalty` is the C that was chosen."""

    win_rate: float
    length: float
    difficulty: float
    bias: float
    penalty: float
    is_approximate: bool


def length_controlled(
    preferences: Sequence[float | None],
    baseline_lengths: Sequence[int],
    lengths: Sequence[int],
    control: Control,
) -> LengthControlled:
    """The length-controlled win rate of one model.

    `preferences`: of the candidate, from 0 to 1, None where missing; lengths in characters; all in the order of the
    control's instructions. Missing ones are not fitted but are predicted, as published. Raises UserError when there
    are fewer than two preferences or all responses differ in length by the same amount.
    """
    delta_N = standardised(baseline_lengths, lengths)
    difficulty_N = control.difficulty_N
    assert len(preferences) == len(delta_N) == len(difficulty_N), (len(preferences), len(delta_N), len(difficulty_N))
    known = np.array([each is not None for each in preferences])
    if known.sum() < NUM_FOLDS:
        raise UserError(f"Length control needs at least {NUM_FOLDS} judged instructions; there are {known.sum()}.")
    features = np.column_stack([np.tanh(delta_N), difficulty_N, np.ones(len(delta_N))])[known]
    rows = Rows(features, np.array([each for each in preferences if each is not None]), np.ones(int(known.sum())))
    if control.gamed is None:
        weights, penalty = fit(rows, math.inf, prior_on_length=True), math.inf
    else:
        rows = rows.joined(_gamed_rows(control.gamed))
        penalty = choose_penalty(rows)
        weights = fit(rows, penalty)
    a, b, c = (float(each) for each in weights)
    win_rate = 100 * float(sigmoid(b * difficulty_N + c).mean())
    return LengthControlled(win_rate, a, b, c, penalty, control.is_approximate)


def standardised(baseline_lengths: Sequence[int], lengths: Sequence[int]) -> Array:
    """Δ over its standard deviation (n − 1), not centred: 0 stays the point of equal lengths."""
    delta_N = np.asarray(baseline_lengths, np.float64) - np.asarray(lengths, np.float64)
    spread = float(delta_N.std(ddof=1)) if len(delta_N) > 1 else 0.0
    if spread == 0:
        raise UserError("Length control needs responses whose lengths differ from the baseline's by uneven amounts.")
    return delta_N / spread


# --- where difficulties come from ---


def published_control() -> Control:
    """The published difficulties and gamed rows, for AlpacaEval's 805 instructions in their order. From the hub."""
    return read_control(published_file())


def published_file() -> Path:
    """The file that holds them in the hub's cache, fetched first if need be; a UserError where it cannot be had."""
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        path = hf_hub_download(PUBLISHED_REPOSITORY, PUBLISHED_FILE, repo_type="dataset", revision=PUBLISHED_REVISION)
    except (OSError, HfHubHTTPError) as failure:
        first_line = (str(failure).strip().splitlines() or [type(failure).__name__])[0]
        raise UserError(
            "The published difficulties of AlpacaEval are not in the hub's cache, and"
            f" {constants.ENDPOINT} did not give them: {first_line}",
            "`cameleer fetch alpaca-eval` brings them where there is a network; HF_ENDPOINT names another hub.",
        ) from None
    from cameleer.model.source import check_digest

    check_digest(Path(path), PUBLISHED_SHA256)
    return Path(path)


def read_control(path: Path) -> Control:
    """A control from a file with the published columns: one row for each instruction and gamed variant."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    try:
        columns = [_column(rows, name) for name in ("std_delta_len", "instruction_difficulty", "preference")]
        difficulties = {int(float(row["index"])): value for row, value in zip(rows, columns[1], strict=True)}
    except (KeyError, ValueError) as failure:
        raise UserError(f"{path}: not the published features of length control: {failure}") from None
    if sorted(difficulties) != list(range(len(difficulties))) or not difficulties:
        raise UserError(f"{path}: its instructions are not numbered from 0 without gaps.")
    known = ~np.isnan(columns[2])
    gamed = Gamed(*(column[known] for column in columns))
    return Control(np.array([difficulties[index] for index in range(len(difficulties))]), gamed)


def _column(rows: Sequence[dict[str, str]], name: str) -> Array:
    return np.array([float(row[name] or "nan") for row in rows])


def fitted_control(preference_MN: Array, delta_MN: Array) -> Control:
    """A control whose difficulties are fitted on other models' annotations, NaN where one is missing.

        P(m preferred on i) = σ(a_m tanh(Δ_mi) + c_m + γ_i),  γ_i normal about 0

    `delta_MN`: each model's `standardised` lengths. Leave out the model that is to be scored.
    """
    known_MN = ~np.isnan(preference_MN)
    assert preference_MN.shape == delta_MN.shape and known_MN.any(1).all(), "a model without a single preference"
    return Control(_fit_difficulties(np.nan_to_num(preference_MN), np.tanh(delta_MN), known_MN), gamed=None)


def _fit_difficulties(preference_MN: Array, tanh_MN: Array, known_MN: NDArray[np.bool_]) -> Array:
    """Newton's method with halved steps; difficulties are eliminated from each step, since they do not meet."""
    num_models, count = preference_MN.shape
    models = np.zeros(2 * num_models)
    gamma_N = np.zeros(count)

    def logits(models: Array, gamma_N: Array) -> Array:
        return models[:num_models, None] * tanh_MN + models[num_models:, None] + gamma_N

    def loss(models: Array, gamma_N: Array) -> float:
        entropy = cross_entropy(preference_MN, logits(models, gamma_N))
        return float((entropy * known_MN).sum() + DIFFICULTY_PRECISION / 2 * (gamma_N @ gamma_N))

    current = loss(models, gamma_N)
    for _ in range(MAX_STEPS):
        predicted = sigmoid(logits(models, gamma_N))
        error = (predicted - preference_MN) * known_MN
        curvature = np.maximum(predicted * (1 - predicted), 1e-9) * known_MN
        gradient = np.concatenate([(error * tanh_MN).sum(1), error.sum(1)])
        gamma_gradient = error.sum(0) + DIFFICULTY_PRECISION * gamma_N
        gamma_curvature = curvature.sum(0) + DIFFICULTY_PRECISION
        mixed = np.concatenate([curvature * tanh_MN, curvature])
        own = _own_curvature(curvature, tanh_MN) - (mixed / gamma_curvature) @ mixed.T
        step = np.linalg.solve(own, gradient - mixed @ (gamma_gradient / gamma_curvature))
        gamma_step = (gamma_gradient - mixed.T @ step) / gamma_curvature
        size = 1.0
        while (after := loss(models - size * step, gamma_N - size * gamma_step)) > current and size > 1e-9:
            size /= 2
        models, gamma_N = models - size * step, gamma_N - size * gamma_step
        if current - after < TOLERANCE * max(1.0, current):
            return gamma_N
        current = after
    raise AssertionError("the difficulties did not converge")


def _own_curvature(curvature_MN: Array, tanh_MN: Array) -> Array:
    """The models' block of the Hessian: a and c of one model meet, those of two do not."""
    length, both, bias = (np.diag((curvature_MN * tanh_MN**power).sum(1)) for power in (2, 1, 0))
    # A whisper of a prior: a model that loses or wins everywhere has no finite bias.
    return np.block([[length, both], [both, bias]]) + 1e-6 * np.eye(2 * len(length))


# --- the regression ---


@dataclass(frozen=True)
class Rows:
    """Rows of a weighted logistic regression on preferences."""

    features_RF: Array
    preference_R: Array
    weight_R: Array

    def joined(self, other: "Rows") -> "Rows":
        parts = zip(self._arrays(), other._arrays(), strict=True)
        return Rows(*(np.concatenate(pair) for pair in parts))

    def chosen(self, mask: NDArray[np.bool_]) -> "Rows":
        return Rows(*(each[mask] for each in self._arrays()))

    def _arrays(self) -> tuple[Array, Array, Array]:
        return self.features_RF, self.preference_R, self.weight_R

    def mean_loss(self, weights: Array) -> float:
        """The weighted cross-entropy, over the number of rows."""
        return float((self.weight_R * cross_entropy(self.preference_R, self.features_RF @ weights)).mean())


def _gamed_rows(gamed: Gamed) -> Rows:
    count = len(gamed.delta_R)
    features = np.column_stack([np.tanh(gamed.delta_R), gamed.difficulty_R, np.zeros(count)])
    return Rows(features, gamed.preference_R, np.full(count, GAMED_WEIGHT))


def choose_penalty(rows: Rows) -> float:
    """The C with the lowest held-out loss, averaged over folds."""
    fold_R = np.arange(len(rows.preference_R)) % NUM_FOLDS
    losses = [
        np.mean(
            [rows.chosen(fold_R == fold).mean_loss(fit(rows.chosen(fold_R != fold), each)) for fold in range(NUM_FOLDS)]
        )
        for each in PENALTIES
    ]
    return PENALTIES[int(np.argmin(losses))]


def fit(rows: Rows, penalty: float, prior_on_length: bool = False) -> Array:
    """The weights that minimise |w|₁ / C + Σ weight · cross-entropy; C infinite: no penalty.

    `prior_on_length` adds the normal prior on the first weight. Proximal Newton: each step minimises the quadratic
    model of the smooth part plus the penalty by coordinate descent, and is halved until the objective falls.
    """
    strength = 0.0 if math.isinf(penalty) else 1 / penalty
    precision = PRIOR_PRECISION if prior_on_length else 0.0
    weights = np.zeros(rows.features_RF.shape[1])

    def objective(w: Array) -> float:
        smooth = (rows.weight_R * cross_entropy(rows.preference_R, rows.features_RF @ w)).sum()
        return float(smooth + precision / 2 * (w[0] - PRIOR_MEAN) ** 2 + strength * np.abs(w).sum())

    current = objective(weights)
    for _ in range(MAX_STEPS):
        predicted = sigmoid(rows.features_RF @ weights)
        gradient = rows.features_RF.T @ (rows.weight_R * (predicted - rows.preference_R))
        gradient[0] += precision * (weights[0] - PRIOR_MEAN)
        curvature = rows.weight_R * np.maximum(predicted * (1 - predicted), 1e-12)
        hessian = (rows.features_RF * curvature[:, None]).T @ rows.features_RF
        hessian[0, 0] += precision
        step = _lasso_step(weights, gradient, hessian, strength) - weights
        size = 1.0
        while (after := objective(weights + size * step)) > current and size > 1e-12:
            size /= 2
        weights = weights + size * step
        if current - after < TOLERANCE * max(1.0, abs(current)):
            return weights
        current = after
    raise AssertionError(f"the regression did not converge: {weights}")


def _lasso_step(weights: Array, gradient: Array, hessian: Array, strength: float) -> Array:
    """argmin over v of gradient·(v−w) + ½ (v−w)ᵀ H (v−w) + strength |v|₁, by coordinate descent."""
    curvature = hessian.diagonal() + 1e-9
    found = weights.copy()
    for _ in range(MAX_STEPS):
        before = found.copy()
        for j in range(len(found)):
            slope = gradient[j] + hessian[j] @ (found - weights)
            target = found[j] - slope / curvature[j]
            found[j] = np.sign(target) * max(abs(target) - strength / curvature[j], 0.0)
        if np.abs(found - before).max() < TOLERANCE:
            break
    return found


def sigmoid(logit: Any) -> Any:
    """1 / (1 + e^−x) without overflow."""
    return 0.5 * (1 + np.tanh(np.asarray(logit) / 2))


def cross_entropy(preference: Array, logit: Array) -> Array:
    """−p log σ(x) − (1−p) log(1−σ(x)), from the logit so that no logarithm meets a zero."""
    return np.logaddexp(0, logit) - preference * logit
