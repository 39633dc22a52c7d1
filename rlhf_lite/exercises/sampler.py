"""A sampler that is not the policy: how much of the gradient is left when the answers come from somebody else?

The idea: a policy gradient is an average over *the policy's own* answers. In large systems an engine of its own writes
the answers, with weights that are some steps old or with unlikely tokens cut off. In a world where every response is
listed, the gradient over infinitely many such answers is a sum, and can be held against the true one.
"""

import torch

from rlhf_lite import tiny_world as tiny

TOP_PS = (1, 0.98, 0.95, 0.9, 0.8, 0.7, 0.5)


def nucleus(logits, top_p):
    """(..., V) logits -> the same, with all tokens removed but the likeliest ones that together reach `top_p`."""
    ordered, places = logits.softmax(dim=-1).sort(dim=-1, descending=True)
    kept = ordered.cumsum(dim=-1) - ordered < top_p  # a token stays if those before it have not reached top_p yet
    removed = ~torch.zeros_like(kept).scatter(-1, places, kept)
    return logits.masked_fill(removed, -1e9)


def importance_weights(log_p, log_sampler, cap):
    """(N,) log-probabilities of whole responses under policy and sampler -> (N,) weights p / q, at most `cap`."""
    return (log_p - log_sampler).clamp(max=50).exp().clamp(max=cap).detach()


def gradient_of(log_p, log_sampler, rewards, parameters, weights=None):
    """The expected policy gradient over answers that the sampler wrote, as a flat vector.

    log_p: (N,) log π with gradient; log_sampler: (N,); rewards: (N,) with the KL penalty in them. The baseline is the
    mean reward. weights: (N,) how much each answer counts, or None.
    """
    share = log_sampler.exp().detach()  # how often the sampler writes each response
    share = share if weights is None else share * weights
    advantages = rewards - (share * rewards).sum() / share.sum()
    return tiny.gradient((share * advantages.detach() * log_p).sum(), parameters)


def training_path(world, ref_log_probs, scores, kl_coef, steps=40, lr=0.03):
    """Tables of logits (S, V) on the way of a run that climbs the exact objective, the reference's first.

    ref_log_probs: (N, R) of the reference's tokens; scores: (N,). One prompt.
    """
    table = torch.zeros(1, world.state_count, world.vocab_size, dtype=torch.float64)
    table[0, world.states[world.mask], world.tokens[world.mask]] = ref_log_probs[world.mask]
    optimizer, path = torch.optim.Adam([table.requires_grad_()], lr=lr), [table[0].detach().clone()]
    for _ in range(steps):
        log_p = tiny.table_log_probs(table, world).sum(dim=-1)
        optimizer.zero_grad()
        (-tiny.objective(log_p, ref_log_probs.sum(dim=-1)[None], scores[None], kl_coef).sum()).backward()
        optimizer.step()
        path.append(table[0].detach().clone())
    return path


def survey(world, path, scores, log_ref, kl_coef, weigh=importance_weights):
    """How stale, how truncated may a sampler be? -> {name: ([KL from the policy], [cosine with the exact gradient])}.

    path: tables of logits (S, V) on the way of a training run; the last is the policy, the others are stale samplers.
    scores, log_ref: (N,) the score and the reference's log-probability of every response. weigh: (log π, log μ, cap) ->
    (N,) weights, as `importance_weights`.
    """
    def log_probs(table):
        return tiny.table_log_probs(table[None], world).sum(dim=-1)[0]
    table = path[-1].detach().clone().requires_grad_()
    log_p = log_probs(table)
    exact = tiny.gradient(tiny.objective(log_p[None], log_ref[None], scores[None], kl_coef).sum(), [table])
    rewards = scores - kl_coef * (log_p.detach() - log_ref)

    def points(samplers, cap=None):
        found = [gradient_of(log_p, log_q, rewards, [table], None if cap is None else weigh(log_p, log_q, cap))
                 for log_q in samplers]
        return ([tiny.kl(log_q, log_p.detach()).item() for log_q in samplers],
                [torch.cosine_similarity(one, exact, dim=0).item() for one in found])
    stale = [log_probs(old).detach() for old in reversed(path)]
    truncated = [log_probs(nucleus(path[-1], p)).detach().clamp(min=-1e6) for p in TOP_PS]
    return {"stale": points(stale), "stale, weights of at most 2": points(stale, 2.0),
            "stale, weighted": points(stale, 1e9), "top-p": points(truncated),
            "top-p, weighted": points(truncated, 1e9)}
