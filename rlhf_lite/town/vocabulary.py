"""The words the grader knows: those of the web, its patterns, the prompts, the demonstrations, and plain English.

``python -m rlhf_lite.town.vocabulary`` writes ``vocabulary.txt``, one word a line; grading calls every other
word garbled. ``PLAIN`` is typed by hand so that a student's own sentence about, say, a kitchen is not called
garbled because no simulated writer happens to mention kitchens.
"""

import json
import re
import sys
from pathlib import Path

from rlhf_lite.town import facts
from rlhf_lite.town.prompts import make_prompts
from rlhf_lite.town.reading_text import words
from rlhf_lite.town.web import corpus
from rlhf_lite.town.web import words as lists
from rlhf_lite.town.web.natural import FOLDER, patterns

FILE = Path(__file__).parent / "vocabulary.txt"
DEMONSTRATIONS = Path(__file__).resolve().parents[2] / "data" / "demonstrations.jsonl"
DOCUMENTS = 20_000

PLAIN = """
a able about above accept across act add afraid after afternoon again against age ago agree ahead air alike all allow
almost alone along already also although always am among an and another answer any anybody anyone anything anywhere
apart appear are area arm around arrive art as ask asleep at ate awake away awful baby back bad bag ball barn basket
bath be bear beautiful became because become bed been before began begin behind believe bell belong below beside best
better between beyond big bird birthday bit bite bitter blow board boat body book born borrow both bottle bottom bought
bowl box boy branch brave bread break breakfast breath bright bring broke broken brother brought build built burn bus
busy but buy by cake call called calm came can cannot card care careful carefully carry cart catch caught cause certain
certainly chair chance change cheap cheer cheerful cheese child children choice choose chose church circle city class
clean clear clever climb clock close closed cloth clothes cloud clouds coat coffee coin cold come comes comfort coming
common complete cook cool corner correct cost could count country course cousin cover cried cross crowd cry cup cut
daily damage damp dance dark daughter day dear decide deep deeply delicious delighted did die different difficult dinner
dirty dish do doctor does dog doing done door down draw dream dreams dress drew drink drive drop dry during dust each
ear early earth easily east easy eat edge egg eight either eleven else empty end enjoy enjoyed enough evening evenings
ever every everybody everyone everything everywhere exactly excellent except excuse eye eyes face fact fair fall family
famous far farm fast father favourite fear feed feel feeling feet fell felt fence few field fill find fine finger
finish fire first fish five fix floor flour flower fly fold follow food foot for forest forget forgive forgot form found
four free fresh friend friendly friends from front fruit full fun funny further game garden gate gave gentle gently get
getting gift girl give given glad gladly glass go goes going golden gone good goodbye got grandfather grandmother grass
grateful great green greet grew ground group grow guess guest guests had hair half hand hands happen happened happily
happiness happy hard hardly has hat hate have having he head healthy hear heard heart heavy held hello help helped
helpful helping her here hers herself high hill him himself his hold hole holiday home honest honestly honour hope hopes
horse hot hour hours house how however hug huge hundred hungry hurry hurt husband i ice idea if ill important in indeed
inside instead interesting into invitation invite invited is it its itself job join joke joy joyful jump just keep kept
key kind kindly kindness kiss kitchen knew knock know known lady lake lamp land large last late later laugh laughed
lead leaf learn least leave leaves left leg lend less lesson let letter lie life light like liked likes line list listen
little live lived lives long longer look looked looking lose loss lost lot lots loud love loved lovely low luck lucky
lunch made mail main make makes making man many map mark market matter may maybe me meal mean meant meat meet meeting
mend men merry message met middle might milk mind mine minute minutes miss missed mistake mistakes moment money month
moon more morning most mother mountain mouth move much music must my myself name names narrow near nearly neck need
needed needs neighbour neighbours neither nest never new news next nice night nights nine no nobody noise none nor north
nose not note nothing notice now number o'clock of off offer often oh old on once one only open opened or order other
others our ours out outside over own page paid paint pair paper parcel pardon parents part party pass past path pay
peace people perfect perhaps person picture piece pity place plain plan plant plate play played pleasant please pleased
pleasure pocket point polite poor possible pot power present pretty price probably problem promise proud pull push put
quick quickly quiet quietly quite rain ran rather reach read ready real really reason red refund regards regret remember
repair reply respect rest return returned rich ride right ring river road room round row rude rule run sad sadly safe
said sail salt same sand sang sat save saw say says school sea season seat second see seem seen sell send sent set seven
several shall shape share sharp she shelf shine shines shining ship shirt shoe shop short should shout show shut sick
side sign silly silver simple since sincerely sing sister sit six size skin sky sleep sleepy slept slow slowly small
smell smile smiled smiles snow so soft softly some somebody someone something sometimes somewhere son song soon sorry
sort sound soup south space speak special spend spent spoke spoon spring stairs stand star stars start started stay step
still stone stood stop store storm story straight strange street strong such sudden suddenly sugar suit summer sun sunny
supper sure surely surprise sweet swim table take taken talk tall taste tasty taught tea teach teacher tell ten terrible
than thank thankful thanks that the their them themselves then there therefore these they thick thin thing things think
third this those though thought three through throw ticket time times tiny tired to today together told tomorrow tonight
too took top touch towards town toy train travel tree trees tried trouble true trust truth try turn twelve twice two
under understand unhappy until up upon us use used useful usual usually valley very view village visit visitor visitors
voice wait walk walked wall want wanted wants warm was wash watch water wave way we weak wear weather week weekend
welcome well went were west wet what whatever wheel when where whether which while whisper white who whole whom whose
why wide wife wild will wind window winter wise wish wished wishes with within without woman women wonder wonderful wood
word words work worker world worn worried worry worse worst worth would write wrong wrote yard year years yellow yes
yesterday yet you young your yours yourself aren't can't couldn't didn't doesn't don't hadn't hasn't haven't he's i'd
i'll i'm i've isn't it's let's mustn't she's shouldn't that's there's they're wasn't we'll we're weren't what's won't
wouldn't you'll you're you've angel arrow
ashes battle beard belief berry blood bone butcher butterfly button cage candy carrot cave chain chalk chest chimney
cottage courage crown danger desert devil drawer duty elbow enemy engine evil fairy fault feather fever flag forehead
ghost glove guilty hammer harm hay hunter island jelly journey judge juice kettle lawn law legend lemonade lion lock
magic mayor mistaken monster mud myth needle nonsense nurse orchard oven pan pantry path peas pepper petal pillow pirate
plate poison police prince princess proof puppy queen rainbow razor recipe robber rumour sausage scissors shell shoulder
silk sky slave snail soldier spider steal stealing stomach superstition swallow sword tail thief thread thunder tiger
tooth truth tunnel untrue vegetable village wagon wizard wool
"""


def listed_words():
    """The words of the town's own lists: facts, things, ideas, insults."""
    said = [" ".join(map(str, vars(r).values())) for r in facts.build_town().residents]
    said += [facts.TOWN, *facts.SHOPS, *facts.GOODS, *map(facts.plural, facts.GOODS), *facts.NUMBERS, *facts.MONTHS]
    said += map(lists.many, (*lists.OBJECTS, *lists.ANIMALS, *lists.EVENTS))  # plurals may come in no document drawn
    said += [" ".join(row) for row in facts.BELIEFS] + [" ".join(row) for row in facts.RULES]
    for values in (v for name, v in vars(lists).items() if name.isupper()):
        if isinstance(values, dict):
            values = [str(v) for pair in values.items() for v in pair]
        if isinstance(values, (list, tuple)):
            said += [str(v) for v in values]
    return said


def pattern_lines():
    """Every line of ``web/patterns/*.txt`` without its slots: a rare pattern may come in no document."""
    sections = [patterns(file.stem).values() for file in sorted(FOLDER.glob("*.txt"))]
    return [re.sub(r"\{\w+\}(?:'s)?", " ", line) for lines in sections for section in lines for line in section]


def build_vocabulary(demonstrations=(DEMONSTRATIONS,), documents=DOCUMENTS):
    """Every known word, lower case and sorted: a list of strings.

    ``demonstrations``: JSON-lines files with a "response" in each row; a file that is not there is left out.
    """
    town = facts.build_town()
    known = set(words(PLAIN))
    texts = [*listed_words(), *pattern_lines()]
    for text in [*texts, *corpus(town, documents), *(p.text for p in make_prompts(town))]:
        known.update(words(text))
    for file in map(Path, demonstrations):
        rows = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        known.update(w for row in rows if row.strip() for w in words(json.loads(row)["response"]))
    return sorted(known)


def main(arguments):
    known = build_vocabulary(arguments or [DEMONSTRATIONS])
    FILE.write_text("\n".join(known) + "\n", encoding="utf-8")
    print(f"{len(known)} words in {FILE}")


if __name__ == "__main__":
    main(sys.argv[1:])
