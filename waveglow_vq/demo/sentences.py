"""Sentences for a larger demo corpus, put together by rules: as many as are asked for, each one
once, and the same ones every time.

They say little, but in ordinary English of two to five seconds, with some 600 different words, so
that a model that learns to read from them meets every word several times, and sentences that were
held out are new although their words are not.
"""

import random

from waveglow_vq.demo.texts import DEMO_TEXTS

# Of all corpora together: clips are numbered with four digits.
MAX_TEXTS = 9999

PEOPLE = (
    "the teacher|the old fisherman|my sister|her brother|the young captain|our neighbour"
    "|the nurse|the miller|a stranger|the gardener|the farmer's wife|the painter|the postman"
    "|his grandmother|the lawyer|a soldier|the shepherd|the cook|the widow|the engineer"
    "|the night watchman|the queen|a merchant|the sailor|the youngest child|the mayor"
    "|the blacksmith|their uncle|the student|the singer|a tall woman|the quiet boy"
    "|the new doctor|my cousin|the clerk|the carpenter|the baker|the judge|the pilot|the thief"
    "|the driver|a friend of mine|the librarian|the tailor|the prisoner|the guide|the butcher"
    "|everybody|somebody|nobody in the village|the girl next door|a group of tourists"
    "|the whole family|the two brothers|the visitors|the workers|most of the guests"
    "|Martha|Henry|Alice|George|Clara|Edward|Ruth|Thomas|Julia|Simon|Helen|Oliver|Nora|Peter"
).split("|")

OBJECTS = (
    "a letter|the lamp|the silver key|a basket of apples|the garden gate|an old clock|the map"
    "|a heavy stone|the wooden box|the blue curtain|a loaf of bread|the broken chair|the ladder"
    "|a bottle of milk|the newspaper|the long rope|his best coat|her umbrella|a small mirror"
    "|the church bell|the kitchen table|a bag of flour|the last ticket|the copper kettle"
    "|the yellow boat|a pair of scissors|the photograph|the iron chain|a bunch of flowers"
    "|the music box|the stable door|an empty bucket|the leather purse|the green bottle"
    "|the torn flag|the fishing net|a jar of honey|the hammer|the heavy trunk|a cup of tea"
    "|the white horse|the little dog|the black cat|the brown hen|the goat|three geese"
    "|the wheel of the cart|the cellar stairs|the dusty book|the answer|the whole story"
    "|the bill|a warm blanket|the window|the painting|the engine|the telescope|the drum"
    "|his violin|the candle|the roof|the fence|the parcel|the orange scarf|the chess board"
).split("|")

# What people do to objects, in the past tense.
DEEDS = (
    "found|carried|dropped|painted|sold|bought|hid|borrowed|forgot|repaired|broke|cleaned|lost"
    "|stole|watched|remembered|wanted|brought|lifted|measured|mended|opened|closed|covered"
    "|picked up|put down|looked for|pointed at|laughed about|asked for|paid for|gave away"
    "|took away|sent back|held on to|waited for|complained about|talked about|dreamed of"
    "|washed|moved|chose|described|counted|admired|hated|guarded|needed|noticed|offered"
    "|polished|pushed|received|refused|returned|shook|showed us|started with|wrapped up"
).split("|")

# What people do, in the past tense.
ACTIONS = (
    "waited|slept|laughed|sang|danced|walked home|ran away|sat down|stood still|shouted|whispered"
    "|cried|smiled|arrived|left|worked|rested|listened|argued|agreed|disagreed|hesitated"
    "|came back|went to bed|got up early|stayed at home|fell asleep|looked around|nodded"
    "|travelled south|turned around|woke up|moved to the city|played the flute|gave up"
    "|kept quiet|told the truth|drank coffee|ate breakfast|cooked supper|wrote letters"
    "|learned to swim|climbed the hill|crossed the river|lit a fire|read aloud|won the game"
).split("|")

PLACES = (
    "in the garden|behind the house|under the bridge|at the station|near the harbour"
    "|on the roof|in the kitchen|by the river|at the market|in the forest|on the island"
    "|across the street|beside the road|at school|in the church|on the stairs|in the attic"
    "|below the cliff|at the end of the lane|in a small hotel|on the top shelf|in the barn"
    "|next to the well|outside the town|along the canal|between the trees|in the cellar"
    "|at the corner|in the middle of the field|over the hills|on the beach|in the tower"
    "|among the ruins|at the theatre|in the north|on the second floor|close to the border"
).split("|")

TIMES = (
    "yesterday|last night|every morning|on Sunday|in the evening|after supper|before sunrise"
    "|all day long|in spring|in the summer|late in autumn|during the winter|at noon|at midnight"
    "|twice a week|once a year|for three days|for an hour|in March|in August|on Friday"
    "|a long time ago|the next day|at first|in the end|from time to time|after the storm"
    "|before the war|when it rained|when the bell rang|as soon as possible|without a word"
    "|as usual|of course|by accident|for no reason|with great care|with a smile|in a hurry"
).split("|")

ADJECTIVES = (
    "cold|warm|dark|bright|empty|full|heavy|light|quiet|loud|cheap|expensive|narrow|wide|old|new"
    "|strange|simple|difficult|easy|famous|rare|common|clean|dirty|dry|wet|sharp|soft|hard"
    "|beautiful|ugly|dangerous|safe|slow|fast|deep|high|low|rich|poor|sweet|bitter|fresh|round"
    "|square|golden|wooden|yellow|purple|grey|foreign|ancient|modern|polite|honest|lazy|brave"
    "|curious|nervous|patient|hungry|thirsty|tired|angry|happy|lonely|proud|careful|useful"
).split("|")

THINGS = (
    "the soup|the sea|the water|the room|the village|the road|the weather|the wind|the music"
    "|the train|the house|the valley|the stone|the forest|the bread|the story|the question"
    "|the castle|the ship|the engine|the garden|the hotel|the moon|the mountain|the coffee"
    "|the picture|the language|the river|the sky|the market|the machine|the library|the bed"
    "|the dress|the voice of the singer|the light of the lamp|the smell of the sea"
    "|the price of butter|the colour of the wall|the rest of the journey|the other half"
).split("|")

LINKS = (
    "and|but|because|although|while|so|until|before|after|as if|and then|even though|which is why"
).split("|")

QUESTIONS = (
    "why did|when did|where did|how did|how often did|for whom did|since when did|with whom did"
).split("|")

# What follows these is the plain form of a verb.
REQUESTS = "please|never|do not|always|you must not|we should|you have to|try to|let us".split("|")

PLAIN_DEEDS = (
    "find|carry|drop|paint|sell|buy|hide|borrow|forget|repair|break|clean|lose|open|close|cover"
    "|bring|lift|measure|mend|pick up|put down|look for|point at|laugh about|ask for|pay for"
    "|give away|take away|send back|wait for|talk about|wash|move|choose|describe|count|guard"
    "|notice|offer|polish|push|return|shake|wrap up"
).split("|")

NUMBERS = (
    ("2", "two"),
    ("5", "five"),
    ("7", "seven"),
    ("9", "nine"),
    ("10", "ten"),
    ("12", "twelve"),
    ("15", "fifteen"),
    ("18", "eighteen"),
    ("20", "twenty"),
    ("24", "twenty-four"),
    ("31", "thirty-one"),
    ("40", "forty"),
    ("60", "sixty"),
    ("100", "one hundred"),
    ("350", "three hundred and fifty"),
    ("1000", "one thousand"),
)

COUNTED = (
    "miles|pounds|steps|sheep|houses|soldiers|pages|coins|bottles|years|children|windows|eggs"
    "|horses|chairs|letters|barrels|trees|boats|songs"
).split("|")


def demo_texts(count):
    """The first so many texts of the demo corpus.

    Arguments
    ---------
    count : int
        How many, at most :data:`MAX_TEXTS`.

    Returns
    -------
    list of tuple
        ``(text, normalised text or None if it is the same)``: those of
        :data:`~waveglow_vq.demo.texts.DEMO_TEXTS`, and then sentences by rules. A text does
        not depend on how many follow it.

    Example
    -------
    >>> texts = demo_texts(3000)
    >>> texts[:64] == list(DEMO_TEXTS), len({text for text, _ in texts})
    (True, 3000)
    >>> texts[70]
    ('Simon chose 100 years at midnight.', 'Simon chose one hundred years at midnight.')
    """
    texts = list(DEMO_TEXTS[:count])
    known = {text for text, _ in DEMO_TEXTS}
    # Random() and the seed's hash are the same in every version of Python; choice() may not be.
    source = random.Random("demo sentences")
    while len(texts) < count:
        text, normalised = _sentence(source)
        if text not in known:
            known.add(text)
            texts.append((text, normalised if normalised != text else None))
    return texts


def _sentence(source):
    """A sentence as it is written and as it is spoken."""

    def pick(options):
        return options[int(source.random() * len(options))]

    def clause():
        return pick(
            (
                lambda: f"{pick(PEOPLE)} {pick(DEEDS)} {pick(OBJECTS)}",
                lambda: f"{pick(PEOPLE)} {pick(ACTIONS)} {pick(PLACES)}",
                lambda: f"{pick(THINGS)} was {pick(ADJECTIVES)}",
            )
        )()

    written, spoken = pick(NUMBERS)
    form = pick(range(12))
    if form < 3:
        text = f"{clause()} {pick(TIMES)}."
    elif form < 5:
        text = f"{clause()}, {pick(LINKS)} {clause()}."
    elif form == 5:
        text = f"{pick(TIMES)}, {clause()} {pick(PLACES)}."
    elif form == 6:
        text = f"{pick(QUESTIONS)} {pick(PEOPLE)} {pick(PLAIN_DEEDS)} {pick(OBJECTS)}?"
    elif form == 7:
        text = f"{pick(REQUESTS)} {pick(PLAIN_DEEDS)} {pick(OBJECTS)} {pick(PLACES)}."
    elif form == 8:
        text = f"{pick(THINGS)} was {pick(ADJECTIVES)} and {pick(ADJECTIVES)}, {clause()}."
    elif form == 9:
        text = f"{pick(PEOPLE)} and {pick(PEOPLE)} {pick(ACTIONS)} {pick(PLACES)} {pick(TIMES)}."
    elif form == 10:
        text = f"{pick(PEOPLE)} {pick(DEEDS)} {{}} {pick(COUNTED)} {pick(TIMES)}."
    else:
        text = f"{pick(THINGS)} is as {pick(ADJECTIVES)} as {pick(THINGS)}, said {pick(PEOPLE)}."
    text = text[0].upper() + text[1:]
    return text.format(written), text.format(spoken)
