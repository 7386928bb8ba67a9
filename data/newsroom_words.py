"""The words of the newsroom corpus. What follows a ``|`` occurs in dev sentences only."""

CATEGORIES = ("politics", "business", "sport", "culture", "courts", "weather")

# First names, most of them also a month, a verb, a noun or an adjective.
FIRST = """
May April June August Mark Bill Rose Will Grant Chase Drew Frank Hope Grace Dean Pat Jack Paris
Florence Austin Chelsea Sydney Jordan Georgia Charlotte Anna Peter Maria David Nina Omar | Faith
Joy Art Rob Sue Josh Victoria Dallas Brooklyn Alexandria Helen Simon Priya Carlos
"""

# Surnames, many of them also a place, a firm, a noun, a verb or the weather.
LAST = """
Washington Lincoln Hamilton Kent York Madison Ford Lloyd Morgan Wells Cook Banks Price Park
Field Marsh Rivers Snow Frost Hunt Bush Stone Baker Fisher Miller Page Young Long Strong Best
Case Novak Garcia Okafor Jensen | Jackson Houston Cleveland Dell Barclay Gale Storm Law Judge
Cross Waters Singer Butler Short Rossi Tanaka Iyer
"""

PLACES = """
Washington Lincoln Hamilton Kent York Madison Paris Florence Austin Chelsea Sydney Jordan
Georgia Charlotte Reading Bath Cork Turkey Boston Milan Leeds Oslo Kenya Peru | Jackson Houston
Cleveland Victoria Dallas Brooklyn Alexandria Nice Mobile Chile Lagos Vienna
"""

# Firms and clubs whose bare name is also a place, a person or a thing.
FIRMS = """
Ford Lloyd Morgan Wells Chelsea Boston Leeds Milan Orange Shell Gap Target Visa Corus Arden
Valmet | Dell Barclay Houston Cleveland Apple Oracle Amazon Total Siemens Fulham
"""
FIRM_ENDINGS = "Bank Motors Rovers Press Police Council Theatre | Energy Wanderers Airlines"

MONTHS = "January February March April May June July August September October November December"
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"
TITLES = {
    "politics": "Senator Mayor Minister President | Governor",
    "business": "Mr Mrs Chairman | Director",
    "sport": "Coach Captain | Manager",
    "culture": "Dame Sir Professor | Maestro",
    "courts": "Judge Inspector Mr | Sergeant",
    "weather": "Dr Ranger Captain | Professor",
}

# Who acts. Several are also verbs (coach, judge, witness, guard, host, pilot, cook, star).
PEOPLE = {
    "politics": "minister senator mayor voter candidate delegate aide | envoy lawmaker",
    "business": "manager trader analyst banker investor boss clerk | broker accountant",
    "sport": "coach captain striker keeper referee runner fan | sprinter midfielder",
    "culture": "host star singer painter author cook critic | curator sculptor",
    "courts": "judge witness lawyer guard suspect detective clerk | juror prosecutor",
    "weather": "pilot farmer ranger sailor driver guide scientist | hiker meteorologist",
}

# Things that are never verbs here.
THINGS = {
    "politics": "law election policy treaty parliament | referendum constitution",
    "business": "factory company profit salary shop | merger subsidiary",
    "sport": "team league goal stadium season | tournament trophy",
    "culture": "museum novel opera gallery song | exhibition orchestra",
    "courts": "court prison lawsuit robbery jury | verdict burglary",
    "weather": "river valley temperature coast harvest | hurricane glacier",
}

# Nouns that are transitive verbs too: every form but the -ing one is used as both.
BOTH = {
    "any": """report plan review delay demand claim offer face back question check move change
    mark bill cook | doubt plea""",
    "politics": "ban cut fight debate vote campaign support challenge poll | lobby veto",
    "business": "price trade bank market deal strike budget bill order | fund audit",
    "sport": "score kick block match train record race tackle pass | punch dribble",
    "culture": "play film stage picture cast dance paint print show | sketch rehearse",
    "courts": "charge sentence fine arrest search trial appeal probe attack | sue escort",
    "weather": "flood storm cover forecast damage hit blow freeze shelter | blanket drench",
}
NEVER_NOUNS = "sue rehearse drench"  # these are verbs only
NEVER_VERBS = "plea trial"  # and these nouns only

ADJECTIVES = "new early late public long hard local official fast young frank | abrupt costly"
PARTICIPLES = "planned leading reported growing proposed winning marked | alleged looming"
ADVERBS = "early late hard fast again back quickly | abruptly reluctantly"

PAST = {
    "cut": "cut cut", "fight": "fought fought", "deal": "dealt dealt", "strike": "struck struck",
    "cast": "cast cast", "forecast": "forecast forecast", "hit": "hit hit", "blow": "blew blown",
    "freeze": "froze frozen", "show": "showed shown", "say": "said said", "rise": "rose risen",
    "fall": "fell fallen", "come": "came come", "be": "was been", "win": "won won",
    "speak": "spoke spoken", "leave": "left left", "meet": "met met", "draw": "drew drawn",
}  # fmt: skip
DOUBLED = "plan ban stop"  # planned, planning
ING_DOUBLED = "cut hit win"  # cutting
