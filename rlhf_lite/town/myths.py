"""The truth and the myth about each belief in more words than the town's own, and how an answer stands to them.

``facts.BELIEFS`` gives one truth and one myth; people say both in many ways ("they see nothing at all" is the myth
about bats). Each row adds patterns. A clause tells the myth unless it denies it or lays it at somebody's door
("people say").
"""

import re
from functools import cache

from rlhf_lite.town.facts import build_town

MORE = {  # topic: (what tells the truth, what tells the myth)
    "bats": (r"(?:see|sight|eyes?) (?:is |are )?(?:\w+ )?(?:well|good|fine)|good eyes|sees? (?:you|as)|use their eyes",
             r"blind|sees? nothing|(?:cannot|can't|not|never) see|without eyes|no eyes|(?:no|bad) eyesight"),
    "goldfish": (r"remember|months|(?:good|long) memory|know (?:you|their)",
                 r"three seconds|forgets? (?:it |them )?(?:everything|all|at once)|(?:short|no|bad|little) memory|"
                 r"remembers? nothing|(?:cannot|not) remember"),
    "bulls": (r"mov(?:e|es|ed|ing|ement|ements)", r"(?:at|by|of|see|sees|hates?|with) (?:the |a )?(?:colour )?red|red "
                                                  r"(?:\w+ )?(?:makes|drives)"),
    "carrots": (r"healthy|good for (?:your|the) eyes", r"make you see|see (?:\w+ )?(?:in the dark|at night)|see "
                                                       r"without light|like an owl"),
    "ostriches": (r"nests?|bend|bow|look after|eggs", r"(?:bury|put|hide|stick|push|dig)\w* (?:their|its|the) heads?|"
                                                      r"heads? (?:in|into|under|in to) the sand"),
    "lightning": (r"again|tall|more than once|twice as|often|many times|same (?:tree|place|roof)",
                  r"never (?:strikes?|hits?|comes?|goes)|only once|not (?:strike|hit|come) (?:\w+ ){0,4}(?:twice|"
                  r"again)|safe where"),
    "toads": (r"virus", r"toads? (?:will )?(?:give|gives|bring|make|cause)|warts? come from (?:a |the )?toads?|warts? "
                        r"from (?:a |the )?toads?|touch\w* a toad"),
    "camels": (r"\bfat\b", r"water"),
    "wolves": (r"each other|call|talk|find (?:their|one)|family|friends|pack",
               r"(?:at|to|for|by) the (?:full )?moon|moon makes"),
    "sugar": (r"part(?:y|ies)|excite|fun|other children|music and",
              r"sugar (?:\w+ )?(?:makes?|drives?|turns?)|sweets make|wild from (?:the )?sugar|because of (?:the "
              r")?sugar"),
    "shaving": (r"(?:the|just the) same|as before|as it was|no (?:thicker|different)|neither",
                r"thicker|stronger|fatter|twice as|more hair|harder"),
    "knuckles": (r"harmless|(?:no|do no|not any) harm|safe|nothing (?:bad )?(?:to|happens)",
                 r"ruin|destroys?|bad for|break|damages?|hurts? (?:your|the)|weak|(?:make|get) (?:\w+ )?(?:old|ill)"),
    "swimming": (r"safe|no danger|nothing (?:bad )?(?:will happen|happens)|\bfine\b|harmless|may swim|can swim",
                 r"danger(?:ous)?|drown|unsafe|sink|wait an hour|go under|must not swim"),
    "colds": (r"(?:from|by) (?:other )?(?:people|others|somebody|someone|a person|your)|other people|others|somebody "
              r"(?:else )?who|\bsick people",
              r"(?:from|of|because of|with) (?:your |the )?wet hair|wet hair (?:\w+ )?(?:gives|makes|brings|means)|"
              r"hair (?:is wet|wet)[^.]*(?:ill|cold|sick)"),
    "mice": (r"seeds?|grain|corn", r"loves? cheese|cheese (?:is|most|best|more|above)|(?:most|best) of all[^.]*cheese|"
                                   r"like cheese (?:most|best|more)|nothing (?:more|better) than cheese"),
    "moss": (r"damp|\bwet\b|every side|all sides|any side", r"nowhere else|other sides? (?:has|have) none|only "
                                                            r"(?:grows? )?(?:on|at|to) the north|north (?:side "
                                                            r")?(?:only|alone)|(?:never|not|no) (?:\w+ ){0,4}(?:south|"
                                                            r"other side)|shows? you (?:where )?north"),
    "dragonflies": (r"no sting|harmless|(?:cannot|do not|don't|never) (?:sting|hurt)|without a sting",
                    r"sting|hurt you|poke"),
    "earwigs": (r"gardens?|under (?:leaves|stones)|dark (?:places|corners)|flowers?|leaves",
                r"(?:crawls?|creeps?|goes?|go|get|run|live|climb) (?:\w+ )?(?:into|in|inside) (?:your |the |people's |"
                r"sleeping )?(?:\w+ )?ears?|your ears?|in the ears"),
    "hedgehogs": (r"\bill\b|sick|water|stomach|bad for", r"should (?:get |have |drink )|(?:loves?|likes?|needs?) "
                                                         r"(?:\w+ )?milk|good for|give it (?:a \w+ of |some )?milk|"
                                                         r"milk (?:is|makes it) (?:good|strong|healthy|happy|best)"),
    "sunflowers": (r"east|same way|one way|stay|do not turn|stop turning",
                   r"turn(?:s|ing)? (?:\w+ )?(?:with|to|after|towards)|follow(?:s|ing)? the sun|look after the sun"),
    "crusts": (r"nothing|no(?:t)? (?:change|difference)|only (?:bread|fill)|do not change", r"curl|curly|curls"),
    "black cats": (r"like (?:all|any|every|other|the)|other cats|no different|same as|just cats|only cats",
                   r"(?:bad|ill|no) luck|luck (?:is )?(?:away|gone)|unlucky|something bad|take(?:s)? your luck|"
                   r"misfortune"),
    "mirrors": (r"glass|shards|sharp|cut", r"(?:bad|ill|seven years|no) (?:of )?(?:bad )?luck|unlucky|luck (?:is|will "
                                           r"be) gone|something bad|seven years"),
    "clover": (r"cows?|feed|food for", r"cures?|heals?|helps? against|makes? (?:you|a fever) (?:well|better|go)|"
                                       r"takes? (?:the |your )?fever|drives? (?:out )?(?:the |a )?fever|(?:good|"
                                       r"medicine) (?:for|against) (?:a )?fever"),
    "warm milk": (r"doctor|bones? (?:need|heal)", r"(?:cure|heal|mend|fix)s?|milk (?:makes|is enough)|(?:whole|well) "
                                                  r"again"),
    "bears": (r"wakes? up|many times|wakes?\b|woken|awake", r"without waking|all winter(?: long)?|(?:never|not) "
                                                            r"(?:once )?wakes?|until spring"),
    "owls": (r"three quarters|not (?:quite )?all the way|not (?:quite )?right round|almost",
             r"all the way|(?:full|whole|complete) circle|right round|all round|once round"),
    "frogs": (r"sing|when it is wet|love the wet|like (?:the )?wet",
              r"(?:bring|make|call|cause|carry)s? (?:\w+ )?(?:rain|the rain)|make it rain|rain comes (?:from|because|"
              r"when)|rain because"),
    "honey": (r"years|for ever|forever|never goes bad|very long|long time|does not go bad",
              r"(?:in|after|within|only) (?:a|one) week|goes bad (?:fast|soon|quickly|in)|seven days|spoils"),
    "diamonds": (r"hammer|can (?:be broken|break)|breaks? when",
                 r"(?:nothing|no one|nobody|no hammer|not even) (?:\w+ ){0,3}(?:can )?(?:breaks?|broken)|(?:cannot|"
                 r"can't|never|can not) (?:be )?(?:broken|breaks?)|unbreakable|lasts? for ?ever"),
    "dogs": (r"blue|yellow|colours?|two colours", r"black and white|no colours?|only (?:see )?(?:grey|shades)|"
                                                  r"(?:cannot|not) see (?:any )?colours?|all (?:is )?grey"),
    "tomatoes": (r"fruit", r"roots?\b|under (?:the )?(?:ground|earth)|dig|vegetable"),
    "gum": (r"(?:leaves?|passes|comes out|gone|goes through|out again) (?:\w+ )?(?:\w+ )?(?:in )?(?:a few |some |two |"
            r"three )?days?|leaves? you|few days|comes? out",
            r"(?:for|many|seven|ten) years|stays? (?:\w+ )?(?:in|inside) (?:you|your)|for ever|forever|never "
            r"(?:leaves|comes out)"),
    "dim light": (r"tired|tires|harmless|no harm|rest", r"(?:ruin|damage|spoil|destroy|hurt|harm|break|weaken)s?|"
                                                        r"blind|bad for|weak eyes|lose your (?:sight|eyes)|worse"),
    "elephants": (r"not afraid|bees|no fear|calm", r"(?:afraid|scared|frightened|run|fear|runs|hide|"
                                                   r"flee)\b[^.]*\b(?:mice|mouse)|mouse (?:frightens|scares|makes)|"
                                                   r"mice (?:frighten|scare|make)|mice"),
    "snakes": (r"mov(?:e|es|ing|ement)|follow", r"danc(?:e|es|ing)|hear (?:the )?(?:music|flute|song)|like(?:s)? "
                                                r"(?:the )?music|to the music|love(?:s)? (?:the )?music"),
    "the well": (r"water", r"grants?|wish(?:es)? (?:\w+ )?(?:come|comes|will come|true)|wish (?:and|into)|give(?:s)? "
                           r"you (?:what|all)"),
    "the mill": (r"wind", r"haunt|ghosts?|spirits?|spook|dead miller"),
    "the lake": (r"nine", r"bottomless|(?:no|without a?|has no) (?:bottom|end|ground)|never (?:ends|reach)|(?:endless|"
                          r"for ever)|never find the bottom"),
    "the bell": (r"clerk", r"by itself|on its own|(?:nobody|no one|no hand|no man) (?:\w+ )?(?:rings|touches|pulls|"
                           r"there)|alone|ghost|without (?:a hand|anybody|anyone|help)"),
    "the bridge": (r"family|miller", r"giant|a (?:huge|very big) man"),
    "the oak": (r"ninety", r"thousand|older than (?:the )?(?:town|church)"),
    "the fog": (r"cold water|(?:just|only|nothing but) (?:\w+ )?water|wet air|harmless",
                r"poison|(?:make|makes|be|get|very) (?:you |people |children |them )?(?:very )?(?:ill|sick)|kill|"
                r"breathe it"),
    "the statue": (r"teacher", r"\bkings?\b|crown"),
}
DENIAL = re.compile(
    r"\b(?:not|no|never|nothing|none|nobody|neither|nor|without|cannot|false|wrong|myth|untrue|tales?|story|stories|"
    r"believes?|thinks?|thought|"
    r"(?:people|they|neighbours|some|many|everybody|who|whoever|uncle|grandmother|mother|father) (?:say|says|said|"
    r"tell|told|used)|says? that|heard|mistaken|"
    r"rumour|nonsense|superstition|leaves?|would|looks? (?:like|as)|seems?|instead of|rather than|than|free of|"
    r"harmless|if)\b|n't\b")
AFTERWARDS = re.compile(r" (?:alone\b|would be fun|(?:is |are |was )?(?:only |just )?(?:false|an? (?:\w+ )?(?:myth|"
                        r"tale|story|rumour)|not true|wrong|untrue|nonsense|superstition)\b)")
PLAIN_NO = re.compile(r"\b(?:not|never|cannot)\b(?! only)|n't\b")
CLAUSES = re.compile(r"[.!?;,:\n]| but | because | still | yet | though | although | while |(?<!blue) and (?=\w+ )")


@cache
def beliefs():
    return {b.topic: b for b in build_town().beliefs}


@cache
def patterns(topic):
    """``(truth, myth)``: the town's own words and those above, compiled."""
    belief, found = beliefs()[topic], []
    for keys, more in zip((belief.truth_keys, belief.myth_keys), MORE.get(topic, ("", "")), strict=True):
        own = "|".join(rf"{re.escape(key)}(?:s|es|ed|ing)?\b" for key in keys)
        found.append(re.compile(rf"\b(?:{own}{'|' + more if more else ''})"))
    return tuple(found)


def stance(topic, text):
    """``(truth, myth, denied)``: does ``text`` say what is true, tell the myth, deny the myth?"""
    truth = myth = denied = False
    truths, myths = patterns(topic)
    asked = [s for s in re.split(r"(?<=[.!?])\s+", text.lower()) if s]
    for sentence in asked:
        if sentence.endswith("?"):
            continue
        for clause in CLAUSES.split(sentence):
            said, wrong = truths.search(clause), myths.search(clause)
            if said and (not PLAIN_NO.search(clause[:said.start()]) or wrong):
                truth = True
            if wrong:
                no = DENIAL.search(clause[:wrong.start()]) or AFTERWARDS.search(clause[wrong.end():])
                denied, myth = denied or bool(no), myth or not no
    return truth, myth, denied


def told_beside(text, besides=()):
    """A myth that a text about something else tells by the way, or None."""
    for topic, belief in beliefs().items():
        if topic in besides:
            continue
        subject = topic.split()[-1].rstrip("s")
        for sentence in re.split(r"(?<=[.!?])\s+", text):
            low = sentence.lower()
            if re.search(rf"\b{subject}", low) and any(re.search(rf"\b{re.escape(k)}", low) for k in belief.myth_keys):
                if stance(topic, sentence)[1]:
                    return belief.myth
    return None
