"""The Bradley–Terry loss of a reward model.

    -(1/B) sum_i log sigmoid( r(x_i, chosen_i) - r(x_i, rejected_i) - m_i )     B pairs in the step, all ranks together

(Bradley & Terry 1952; Stiennon et al. 2020.) The margin m_i is 0 or grows with the gap between the pair's ratings
(Llama 2, Touvron et al. 2023, eq. 2).
"""

import torch.nn.functional as F
from torch import Tensor


def bradley_terry_loss(chosen_B: Tensor, rejected_B: Tensor, margin_B: Tensor, num_pairs: float) -> Tensor:
    """This batch's share of the step's loss, a scalar, from the scores of its pairs; `num_pairs` is the step's B."""
    return -F.logsigmoid(chosen_B - rejected_B - margin_B).sum() / num_pairs
