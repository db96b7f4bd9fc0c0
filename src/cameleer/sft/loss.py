"""The SFT objective.

    token_mean   -(1/N) sum_t w_t log p(y_t | path before t)      N = sum of w over the optimizer step, all ranks
    sum          -      sum_t w_t log p(y_t | path before t)

Trained tokens (w = 1) are every assistant turn's content and its end token. Tülu 3 trains on the sum (report, §4.3.2):
the mean that common trainers take per micro-batch weighs short examples more; both forms here are free of that.
(The released runs divide the sum by accumulation steps and ranks on the way, a constant factor that AdamW cancels.)
"""

from torch import Tensor


def sft_loss(logprob_N: Tensor, weight_N: Tensor, denominator: float) -> Tensor:
    """This batch's share of the step's loss: a scalar. `denominator` is the step's N for `token_mean`, 1 for `sum`."""
    return -(weight_N * logprob_N).sum() / denominator
