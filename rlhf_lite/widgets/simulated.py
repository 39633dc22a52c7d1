"""A simulated person: a function that ranks in place of one."""




def simulate(session, judge, limit=None):
    """Let a function stand in for the person, for tests and for notebooks that run unattended.

    judge(prompt, texts) -> ranks, one per text; None skips the item. Returns the number of items done.
    """
    done = 0
    while session.item is not None and (limit is None or done < limit):
        ranks = judge(session.item["prompt"], session.shown())
        if ranks is None:
            session.skip("simulated")
        else:
            for place, rank in enumerate(ranks):
                session.set_rank(place, int(rank))
            session.submit()
        done += 1
    return done
