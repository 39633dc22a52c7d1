"""Diagrams of PPO, as vectors made by code: who holds which weights, and a timeline of GAE.

Each function returns an IPython HTML object with one SVG on a white card, which reads the same in a light and a dark
theme, and with a description for those who do not see it. What is trained and what is frozen, what is above 0 and what
below, differ in words and line styles as well as in colour.
"""

from html import escape

BLUE, ORANGE, GREEN, GREY, DARK = "#0072B2", "#D55E00", "#009E73", "#777777", "#222222"
PALE = {BLUE: "#DCEBF5", ORANGE: "#FBE3D6", GREEN: "#DDF1EA", GREY: "#F1F1F1"}


def card(content, width, height, description):
    """The parts of an SVG -> HTML object."""
    from IPython.display import HTML  # only here: a run and its report draw without IPython
    heads = "".join(f'<marker id="head-{colour[1:]}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
                    f'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="{colour}"/></marker>'
                    for colour in (BLUE, ORANGE, GREEN, GREY, DARK))
    return HTML(f'<svg role="img" aria-label="{escape(description)}" viewBox="0 0 {width} {height}" '
                f'style="width:100%;max-width:{width}px;background:#fff;border-radius:6px;font:13px sans-serif">'
                f"<title>{escape(description)}</title><defs>{heads}</defs>{content}</svg>")


def text(x, y, words, colour=DARK, anchor="middle", bold=False, size=13):
    """Words around a point, one line each, the first one at y."""
    style = f'text-anchor="{anchor}" font-size="{size}" fill="{colour}"' + (' font-weight="700"' if bold else "")
    return "".join(f'<text x="{x:g}" y="{y + 1.3 * size * i:g}" {style}>{escape(line)}</text>'
                   for i, line in enumerate(str(words).split("\n")))


def box(x, y, width, height, colour, dashed=False):
    line = 'stroke-dasharray="5 4"' if dashed else ""
    return (f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5" fill="{PALE[colour]}" '
            f'stroke="{colour}" stroke-width="2" {line}/>')


def arrow(points, colour=DARK, dashed=False):
    """A line through points [(x, y)] with a head at its end."""
    line = 'stroke-dasharray="6 4"' if dashed else ""
    places = " ".join(f"{x:g},{y:g}" for x, y in points)
    return (f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="1.8" {line} '
            f'marker-end="url(#head-{colour[1:]})"/>')


# ---------------------------------------------------------------- who holds which weights

def who_holds_what():
    """The four models of PPO: which are trained, what each starts from, and what it says -> HTML.

    Follow an answer from the policy down to the three models that judge it, and the two losses back to the two models
    that learn.
    """
    models = [("policy π", "trained", "starts as SFT", "log π of every token", BLUE),
              ("reference π_ref", "frozen", "is SFT, and stays so", "log π_ref of every token", GREY),
              ("reward model", "frozen", "notebook 04", "one score per answer", GREY),
              ("critic V", "trained", "starts as the reward model", "one value per token", GREEN)]
    parts = [text(380, 24, "an answer, sampled by the policy, is read by all four", bold=True)]
    for i, (name, state, start, says, colour) in enumerate(models):
        left, middle = 14 + 186 * i, 101 + 186 * i
        parts += [arrow([(middle, 34), (middle, 56)]), box(left, 58, 174, 76, colour, dashed=state == "frozen"),
                  text(middle, 81, name, bold=True, size=15), text(middle, 103, state, colour, bold=True),
                  text(middle, 122, start, size=12), arrow([(middle, 136), (middle, 176)]),
                  text(middle, 192, says, size=12), arrow([(middle, 200), (middle, 224)])]
    parts += [box(100, 226, 560, 46, ORANGE),
              text(380, 246, "reward of every token: minus β (log π − log π_ref), and the score at the last one"),
              text(380, 264, "advantage: how much better did it go than the critic expected?"),
              arrow([(101, 252), (5, 252), (5, 96), (12, 96)], BLUE, dashed=True),
              arrow([(660, 252), (754, 252), (754, 96), (747, 96)], GREEN, dashed=True),
              text(100, 296, "policy loss: the policy moves", BLUE, "start", True),
              text(660, 296, "value loss: the critic moves", GREEN, "end", True)]
    return card("".join(parts), 760, 306, (
        "An answer sampled by the policy is read by four models. The policy (trained, starts as SFT) and the reference "
        "(frozen SFT) give a log-probability per token, the reward model (frozen) one score per answer, the critic "
        "(trained, starts as the reward model) a value per token. Rewards and advantages are made of these; the policy "
        "loss moves the policy and the value loss moves the critic."))


# ---------------------------------------------------------------- a timeline of GAE

def gae_timeline(rewards, values, advantages=None, words=None, gamma=1.0, lam=0.95):
    """Reward, value, surprise and advantage of every token of one answer -> HTML.

    advantages: yours, one number per token; None leaves the two lower rows empty. The surprises are worked out from
    your advantages, so a wrong one shows in both rows. Read the surprises from left to right, the advantages from
    right to left.
    """
    rewards, values = ([float(number) + 0.0 for number in numbers] for numbers in (rewards, values))  # no −0.0
    count, known = len(rewards), advantages is not None
    found = [*map(float, advantages), 0.0] if known else []
    surprises = [found[t] - gamma * lam * found[t + 1] for t in range(count)] if known else []
    words = list(words or [f"token {t + 1}" for t in range(count)])
    wide = min(150, 600 // (count + 1))
    half = min(30, wide // 2 - 8)  # of a box with a number

    def middle(t):
        return 150 + wide * (t + 0.5)

    parts = [text(140, y, name, anchor="end", size=12) for y, name in (
        (32, "token"), (76, "reward r"), (126, "critic V, before it"), (180, "surprise δ"), (240, "advantage A"))]
    then = "next V" if gamma == 1 else f"{gamma:g} · next V"
    parts += [text(140, 195, f"r + {then} − V", GREY, "end", size=11),
              text(140, 255, f"δ + {gamma * lam:g} · next A", GREY, "end", size=11)]
    for t in range(count):
        parts += [box(150 + wide * t + 4, 14, wide - 8, 28, BLUE), text(middle(t), 33, words[t], size=12),
                  _number(middle(t), 76, rewards[t]), _number(middle(t), 126, values[t], DARK),
                  arrow([(middle(t), 134), (middle(t), 160)], GREY), arrow([(middle(t), 196), (middle(t), 220)], GREY),
                  arrow([(middle(t + 1) - 0.8 * half, 130), (middle(t) + 0.8 * half, 160)], GREY),
                  box(middle(t) - half, 162, 2 * half, 30, GREY), box(middle(t) - half, 222, 2 * half, 30, GREY)]
        parts += [_number(middle(t), 182, surprises[t]), _number(middle(t), 242, found[t])] if known else [
            text(middle(t), 182, "?", GREY, bold=True), text(middle(t), 242, "?", GREY, bold=True)]
        if t + 1 < count:
            parts += [arrow([(middle(t + 1) - half - 1, 237), (middle(t) + half + 2, 237)], ORANGE),
                      text((middle(t) + middle(t + 1)) / 2, 230, f"× {gamma * lam:g}" if wide > 95 else "", ORANGE,
                           size=11)]
    parts += [text(middle(count), 33, "(the end)", GREY, size=12), text(middle(count), 126, "0", GREY)]
    rows = "; ".join(f"{words[t]}: reward {rewards[t]:.2f}, value {values[t]:.2f}, advantage "
                     + (f"{found[t]:.2f}" if known else "still to be found") for t in range(count))
    return card("".join(parts), 760, 268, f"From tokens to advantages. {rows}. After the last token the value is 0.")


def _number(x, y, value, colour=None):
    value = 0.0 if abs(value) < 0.005 else value  # no minus before zero
    written = (f"{value:+.2f}" if colour is None and value else f"{value:.2f}").replace("-", "−")
    return text(x, y, written, colour or (ORANGE if value < 0 else BLUE), bold=True, size=12)
