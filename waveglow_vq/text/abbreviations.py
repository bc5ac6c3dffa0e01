"""Expands abbreviations, initials, acronyms and Roman numerals."""

import re

from waveglow_vq.text.number_words import NUMBER_WORDS, cardinal, ordinal, roman
from waveglow_vq.text.units import any_of

# Before a name: "Mr. Neild".
_TITLES = {
    "mr": "mister",
    "mrs": "missus",
    "ms": "miss",
    "messrs": "messieurs",
    "dr": "doctor",
    "drs": "doctors",
    "prof": "professor",
    "rev": "reverend",
    "hon": "honorable",
    "st": "saint",
    "mt": "mount",
    "ft": "fort",
    "gen": "general",
    "col": "colonel",
    "lt": "lieutenant",
    "capt": "captain",
    "maj": "major",
    "sgt": "sergeant",
    "cpl": "corporal",
    "pvt": "private",
    "cmdr": "commander",
    "adm": "admiral",
    "gov": "governor",
    "sen": "senator",
    "rep": "representative",
    "pres": "president",
    "supt": "superintendent",
    "insp": "inspector",
    "det": "detective",
}
# These are not words otherwise, so they are titles in lower case and at the end of a line, too.
_SURE_TITLES = {"mr", "mrs", "ms", "messrs", "drs", "prof", "lt", "capt", "sgt", "supt"}
# These often have no point, as in British English.
_BARE_TITLES = {"mr", "mrs", "messrs", "dr", "prof"}
# Anywhere; sentences may end with them.
_WORDS = {
    "st": "street",
    "ave": "avenue",
    "blvd": "boulevard",
    "rd": "road",
    "co": "company",
    "corp": "corporation",
    "inc": "incorporated",
    "ltd": "limited",
    "bros": "brothers",
    "dept": "department",
    "assn": "association",
    "jr": "junior",
    "sr": "senior",
    "esq": "esquire",
    "etc": "et cetera",
    "vs": "versus",
    "viz": "namely",
    "approx": "approximately",
    "govt": "government",
    "univ": "university",
}
# Before a number or the sign of one: "No. 5", "cap. 64".
_BEFORE_NUMBERS = {
    "no": "number",
    "nos": "numbers",
    "p": "page",
    "pp": "pages",
    "vol": "volume",
    "vols": "volumes",
    "ch": "chapter",
    "chap": "chapter",
    "cap": "chapter",
    "c": "chapter",
    "s": "section",
    "sec": "section",
    "fig": "figure",
    "figs": "figures",
    "art": "article",
    "tel": "telephone",
}
MONTHS = (
    "january february march april may june july august september october november december"
).split()
_SHORT_MONTHS = {month[:3]: month for month in MONTHS if month != "may"} | {"sept": "september"}
_LATIN = {"ie": "that is", "eg": "for example", "cf": "compare"}

# Words in capitals; all others of up to three letters are spelled.
_SHORT_WORDS = set(
    "i am an as at be by do go he if in is it me my no of oh on or so to up we act add age ago"
    " air all and any are arm art ask bad bed big box boy but can car cup cut day did die dog"
    " ear eat end eye far few for fun get god got guy had has hat her him his hot how its job"
    " key law leg let lie lot low man map may men mix net new not now off oil old one our out"
    " own pay per pop put ran raw red run sad sat saw say sea see set she sir six sky son sun"
    " tea ten the tie too top try two use via war was way who why win won yes yet you good".split()
)
# Always spelled, whatever they look like.
_SPELLED = set("FBI CIA USA UK EU USSR YMCA YWCA UCLA ESPN NAACP ACLU IEEE ISBN".split())
# The pairs of consonants that English words begin with.
_ONSETS = set(
    "bl br ch cl cr dr dw fl fr gh gl gn gr kl kn kr ll mc ph pl pn pr ps rh sc sh sk sl sm sn sp"
    " sq st sw th tr ts tw wh wr".split()
)
_KINGS = (
    "Albert Alexander Benedict Boniface Carlos Catherine Charles Christian Clement"
    " Constantine Darius Edward Elizabeth Ferdinand Francis Frederick George Gregory Gustav"
    " Gustavus Henry Innocent Ivan James John Julius Leo Leopold Louis Ludwig Mary Napoleon"
    " Nebuchadnezzar Nicholas Otto Paul Peter Philip Pius Ptolemy Rameses Ramses Richard"
    " Robert Sargon Sixtus Theodore Urban Victor Wilhelm William Xerxes"
).split()
# Numbered with single Roman digits, too; "Class C" and "Type V" have letters.
_CHAPTERS = "Act Article Book Canto Chapter Part Psalm Scene Section Volume War".split()
_NUMBERED_THINGS = (
    _CHAPTERS + "Appendix Apollo Class Figure Grade Phase Plate Stage Table Title Type".split()
)
# Capitalized, these words begin a sentence, since names do not begin with them.
_STARTERS = set(
    "a after all although an and another as at because before both but by did do during each even"
    " every few finally first for from had has have he her here his how however i if in instead is"
    " it its later many meanwhile more most my no nobody none nor not nothing now of on once one"
    " only or other others our perhaps she since so some someone soon still such than that the"
    " their then there these they this those though thus to today under until was we were what when"
    " where whether which while who whose why with without yes yet you your".split()
)


def ends_sentence(text, position):
    """Whether an abbreviation that ends at a position (its point included) ends a sentence too: the
    text ends there, or a word that begins sentences follows with a capital.

    Example
    -------
    >>> ends_sentence("He lives in the U.S. The", 20), ends_sentence("the U.S. Senate", 8)
    (True, False)
    """
    rest = _REST.match(text, position)
    if not rest or rest.end() == len(text):
        return bool(rest)
    word = _CAPITALIZED.match(text, rest.end())
    return bool(word) and word[0].lower() in _STARTERS


_REST = re.compile(r"[\"')\]]*(?:\s+[\"'(\[]*|$)")
_CAPITALIZED = re.compile(r"[A-Z][a-z]*(?![\w.])")


def point_ends_sentence(text, position):
    """Whether the point at a position ends a sentence, not only an abbreviation or an initial;
    white space follows it, or the end of the text.

    Example
    -------
    >>> text = "Mr. J. Lee of Rose & Co. came. No. 5 was free."
    >>> [i for i, character in enumerate(text) if character == "." and point_ends_sentence(text, i)]
    [29, 45]
    """
    word = _LAST_WORD.search(text, max(0, position - 20), position)[0]
    lower = word.lower()
    if lower in _BEFORE_NUMBERS or lower in _SHORT_MONTHS:
        return not _NUMBER.match(text, position + 1)
    initial = len(word) == 1 and word.isupper() and word != "I"
    dotted = "." in word and re.fullmatch(r"(?:[^\W\d_]{1,2}\.)+[^\W\d_]", word)
    if not (initial or dotted or lower in _WORDS or word.capitalize() == word and lower in _TITLES):
        return True
    return ends_sentence(text, position + 1)


_LAST_WORD = re.compile(r"[\w.]*$")
_NUMBER = re.compile(r"\s*[A-Z]?-?\d")


def expand_abbreviations(text):
    """Replaces abbreviations, initials and Roman numerals; spells acronyms.

    Example
    -------
    >>> expand_abbreviations("Dr. J. B. Lee of Rose & Co. met Henry VIII at 5 p.m. in No. 7.")
    'doctor J B Lee of Rose & company met Henry the eighth at 5 p m in number 7.'
    >>> expand_abbreviations("The FBI left the U.S. It was World War II, i.e. late.")
    'The F B I left the U S. It was World War two, that is late.'
    """
    for pattern, words in _RULES:
        text = pattern.sub(words, text)
    return _spell_acronyms(text)


def _keep_stop(words):
    """Removes the point of an abbreviation unless it ends the sentence as well."""

    def replace(found):
        spoken = words(found) if callable(words) else words[found[1].lower()]
        if found.string[found.end() : found.end() + 1].isalnum():
            return f"{spoken} "
        ends = found[0].endswith(".") and ends_sentence(found.string, found.end())
        return spoken + ("." if ends else "")

    return replace


def _title(found):
    """A title before a name; "St." and "Dr." may also end the name of a street."""
    title, after = found[1].lower(), found.end()
    ends = ends_sentence(found.string, after)
    if ends or found.string[after : after + 1] == ",":
        named = _NAME_BEFORE.search(found.string, max(0, found.start() - 20), found.start())
        if title in ("st", "dr") and named:
            return {"st": "street", "dr": "drive"}[title] + ("." if ends else "")
        if after == len(found.string.rstrip()):
            return found[0]
    return _TITLES[title]


_NAME_BEFORE = re.compile(r"\b(?:[A-Z]\w+|\d+(?:st|nd|rd|th)) $")


def _spell_dotted(found):
    letters = found[1].replace(".", "").replace(" ", "")
    return _LATIN.get(letters.lower()) or " ".join(letters)


def _initial(found):
    """The point after an initial goes, unless a new sentence follows."""
    return found[1] + ("." if ends_sentence(found.string, found.end()) else "")


def _roman_ordinal(found):
    value = roman(found[2])
    # "Charles V. Smith" has an initial.
    name = found[3] and re.match(r"\s+[A-Z]", found.string[found.end() : found.end() + 9])
    if not value or (name and len(found[2]) == 1 and not ends_sentence(found.string, found.end())):
        return found[0]
    # Old prints have a point after any Roman numeral: "Charles I. in the sixth year".
    stop = found[3] and ends_sentence(found.string, found.end())
    return f"{found[1]} the {ordinal(value)}{'.' if stop else ''}"


def _roman_cardinal(found):
    value = roman(found[2])
    stop = found[3] and re.match(r"\s*(?:[A-Z\"']|$)", found.string[found.end() : found.end() + 9])
    return f"{found[1]} {cardinal(value)}{'.' if stop else ''}" if value else found[0]


def _spell_acronyms(text):
    words = re.findall(r"[^\W\d_]{2,}", text)
    large = sum(word.isupper() for word in words)
    # In a text all in capitals they mean nothing.
    shouted = large >= 3 and large > len(words) // 2

    def spell(found):
        word = found[1]
        joined = "&" in text[max(0, found.start() - 1) : found.end() + 1]  # AT&T
        if not joined and not _is_spelled(word, shouted):
            return found[0]
        if word == "IT" and _sentence_begins(text, found.start()):
            return found[0]
        return " ".join(word) + ("'s" if found[2] else "")

    return re.sub(r"(?<![^\W\d_])([A-Z]{2,})('?s)?(?![^\W\d_])", spell, text)


def _is_spelled(word, shouted):
    lower = word.lower()
    no_word = not re.search("[aeiouy]", lower) or (
        re.match("[^aeiouy]{2}", lower) and lower[:2] not in _ONSETS
    )
    if word in _SPELLED or no_word:
        return True
    return len(word) <= 3 and not shouted and (lower not in _SHORT_WORDS or word == "IT")


def _sentence_begins(text, position):
    before = text[:position].rstrip(" \"'([")
    return not before or before[-1] in ".?!:;"


def _capitalize(words):
    return any_of(word.capitalize() for word in words)


_RULES = [
    (re.compile(pattern), words)
    for pattern, words in (
        # "Mr.Lee", "J.R.R.Tolkien", "the end.Next", but not "B.Sc."
        (r"(?<=[A-Za-z]\.)(?=[A-Z][a-z'])(?!(?:Sc|Phil|Ed|Eng|Com)\b)", " "),
        (rf"\b(?i:({any_of(_SURE_TITLES)})|{_capitalize(_TITLES)})\.(?=[A-Z])", r"\g<0> "),
        # 5 p.m., 5pm
        (
            r"(?<=\d)\s?([AaPp])(?:\.\s?[Mm]\b\.?|[Mm]\b\.?)",
            _keep_stop(lambda found: f" {found[1].lower()} m"),
        ),
        # U.S., i.e., LL.D., I. O. U.
        (
            r"(?<![\w.])((?:[A-Za-z]\.){2,}|(?:[A-Z]{1,2}\.){2,}|(?:[A-Z]\.)+[A-Z](?!\w)"
            r"|Ph\.\s?D\.|[ap]\.m(?!\w))",
            _keep_stop(_spell_dotted),
        ),
        (r"\bPhD", "P H D"),
        (r"(?<![\w.])(cf)\.", _keep_stop(_LATIN)),
        (r"\bi\. ?e\.", "that is"),
        # Titles, with a point or without.
        (
            rf"(?i:\b({any_of(_SURE_TITLES)})\.)",
            lambda found: _TITLES[found[1].lower()],
        ),
        (
            rf"\b({_capitalize(_BARE_TITLES)})(?=\s+[A-Z])",
            lambda found: _TITLES[found[1].lower()],
        ),
        (
            rf"\b({_capitalize(_TITLES)})\.(?=\s+[\"']?[A-Z])",
            _title,
        ),
        (r"(?i:\b(dr))\.", _title),
        (
            rf"(?<![\w'])(?i:({any_of(_BEFORE_NUMBERS)}))\.\s*(?=[A-Z]?-?\d|(?:[IVXL]{{2,}}|[VX])\b)",
            lambda found: _BEFORE_NUMBERS[found[1].lower()] + " ",
        ),
        (
            rf"\b(cap|c|s)\.\s(?=(?:{any_of(NUMBER_WORDS)})\b)",
            lambda found: _BEFORE_NUMBERS[found[1]] + " ",
        ),
        (
            rf"\b({_capitalize(_SHORT_MONTHS)})(?:\.(?=\s*\d)|(?=\s\d)|(?<=\d ...)(?!\w))",
            lambda found: _SHORT_MONTHS[found[1].lower()],
        ),
        (r"\bw/o\b", "without"),
        (r"\bw/(?=\s?[A-Za-z])", "with "),
        (rf"(?<![\w'.])(?i:({any_of(_WORDS)}))\.", _keep_stop(_WORDS)),
        # Roman numerals: kings, then chapters, then what cannot be a word.
        (rf"\b({any_of(_KINGS)}) ([IVXL]{{2,}}|[VX])\b(\.?)", _roman_ordinal),
        (
            rf"\b({any_of(_KINGS)}) (I)\b"
            r"(\.|(?=[,;:)?!']|$| (?:of|was|had|and|in|to|who|by|the)\b))",
            _roman_ordinal,
        ),
        (
            rf"\b((?i:{any_of(_NUMBERED_THINGS)})) ([IVXLC]{{2,}})\b(\.?)",
            _roman_cardinal,
        ),
        (
            rf"\b({any_of(_CHAPTERS)}) ([IVX])\b(\.?)(?! (?:am|do|have|think|will)\b)",
            _roman_cardinal,
        ),
        (r"\b([A-Z][a-z]+) ([VX]?I{2,3}|XI[VX]|XVI*|XXI*)\b(\.?)", _roman_cardinal),
        # J. Edgar Hoover; the pronoun I only between names.
        (r"(?<![\w.'])([A-HJ-Z]|I(?=\.\s[A-Z]\.))\.(?=\s+[A-Z])", _initial),
        (r"(?<=\b[A-Z] )([A-Z])\.(?=\s+[a-z\d])", r"\1"),
        (r"(?<=[A-Z][. ] )(I)\.(?= [A-Z])", _initial),
    )
]
