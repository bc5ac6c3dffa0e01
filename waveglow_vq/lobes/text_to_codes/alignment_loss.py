"""Where in a text a sequence of codes is: all the ways to read token after token, each for one code
at least, summed up.
"""

import torch
from torch.nn import functional as F

# Logit of CTC's blank, which is not to be taken.
_NEVER = -1e4


def forward_sum(scores, code_counts, token_counts):
    """The likelihood of codes under a model that reads from left to right, and where it reads.

    A path s visits all S tokens of a text in order: s_1 = 1, s_T = S, s_t - s_t-1 in {0, 1}. With
    b_ts, the probability of code t at token s,

        L = sum over paths of prod_t b_t,s_t
        gamma_ts = P(s_t = s | codes) = d log L / d log b_ts

    (the forward-backward algorithm of hidden Markov models; for speech synthesis: Mehta et al.,
    "Neural HMMs are all you need", 2022). It is computed by CTC (Graves et al., 2006), whose paths
    are the same where no token follows itself and no blank is taken: as every path takes one factor
    of each row, rows may be normalized before, and the factors counted after.

    ``scores`` are log b, ``[B, T, S]``, and the counts, int64 ``[B]``, say what of it is not
    padding. Returns log L, ``[B]``, 0 for a text with more tokens than codes, which cannot be read
    in this way; and gamma ``[B, T, S]``, without gradient: rows sum to 1, those of padding to 0.

    Example
    -------
    >>> scores = torch.tensor([[[0.5, 0.1], [0.5, 0.1], [0.2, 0.4]]]).log()
    >>> likelihood, places = forward_sum(scores, torch.tensor([3]), torch.tensor([2]))
    >>> round(float(likelihood.exp()), 4)  # 0.5 * 0.5 * 0.4 + 0.5 * 0.1 * 0.4
    0.12
    >>> [round(place, 4) for place in places[0, 1].tolist()]  # 5 to 1
    [0.8333, 0.1667]
    """
    scores = scores.float()
    codes, tokens = scores.shape[1:]
    is_code = torch.arange(codes, device=scores.device) < code_counts[:, None]
    is_token = torch.arange(tokens, device=scores.device) < token_counts[:, None]
    scores = scores.masked_fill(~is_token[:, None], _NEVER)
    possible = token_counts <= code_counts
    with torch.enable_grad():
        own = scores.detach().requires_grad_()
        ctc = _ctc(own, code_counts, token_counts)
        (slope,) = torch.autograd.grad(ctc.sum(), own)
    # CTC's derivative by a logit is its share of the row less that of the paths.
    places = scores.detach().softmax(-1) - slope
    places = places * (is_code & possible[:, None])[..., None]
    rows = scores.logsumexp(-1).masked_fill(~is_code, 0.0).sum(1)
    likelihood = rows - _ctc(scores, code_counts, token_counts)
    return likelihood.masked_fill(~possible, 0.0), places.clamp(min=0.0)


def _ctc(scores, code_counts, token_counts):
    logs = F.pad(scores, (1, 0), value=_NEVER).log_softmax(-1).transpose(0, 1)
    labels = torch.arange(1, scores.shape[2] + 1, device=scores.device).expand(len(scores), -1)
    return F.ctc_loss(logs, labels, code_counts, token_counts, reduction="none", zero_infinity=True)
