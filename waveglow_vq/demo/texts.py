"""The sentences of the demo corpus, written for it: (text, normalized text or None if the same).

They are ordinary English sentences of two to seven seconds when spoken.
"""

DEMO_TEXTS = (
    ("The old lighthouse keeper climbed the stairs twice every night.", None),
    ("She poured the coffee slowly, and said nothing at all.", None),
    (
        "In 1897 the village had 3 bakers and only one doctor.",
        "In eighteen ninety-seven the village had three bakers and only one doctor.",
    ),
    ("Why would anybody leave a bicycle in the middle of the road?", None),
    (
        "When the river froze in January, the children walked to school across the ice,"
        " which saved them nearly an hour.",
        None,
    ),
    ("Rain again, and then more rain.", None),
    ("Please close the window before the papers blow away.", None),
    (
        "Dr. Hughes arrived at 6 o'clock with a bag of oranges.",
        "Doctor Hughes arrived at six o'clock with a bag of oranges.",
    ),
    ("The measure of a good joiner is the drawer that nobody notices.", None),
    ("Two foxes crossed the yard, stopped, and looked straight at us.", None),
    (
        "The committee met on Thursday, argued until midnight, and agreed to meet again"
        " on the following Thursday.",
        None,
    ),
    ("My uncle could whistle and hum at the same time.", None),
    (
        "About 40% of the seeds will sprout within a week.",
        "About forty percent of the seeds will sprout within a week.",
    ),
    ("Both brothers thought the other had paid for the boat.", None),
    ("A thin layer of dust covered the piano, the books, and even the clock.", None),
    ("Turn left at the mill, and follow the hedge as far as the gate.", None),
    (
        "The ship carried wool, copper, beeswax, and a very unhappy goat.",
        None,
    ),
    ("Nobody had ever asked him for his opinion, so he kept it fresh.", None),
    (
        "The bridge is 212 metres long and carries 2 lanes.",
        "The bridge is two hundred and twelve metres long and carries two lanes.",
    ),
    ("Honey keeps for centuries if the jar is closed properly.", None),
    ("He laughed, but his eyes stayed serious.", None),
    (
        "Geologists believe that the valley was once the bed of a shallow lake,"
        " since shells are found in every field.",
        None,
    ),
    ("The jury took less than an hour to reach its verdict.", None),
    ("Could you fetch me the yellow envelope from the upper shelf?", None),
    (
        "Mrs. Young sold the farm for $9 and a promise.",
        "Missus Young sold the farm for nine dollars and a promise.",
    ),
    ("Swallows fly low when the air is heavy before a storm.", None),
    ("Every garden has a corner where nothing wants to grow.", None),
    (
        "The printer explained, with great patience, why the letters had to be set"
        " from right to left.",
        None,
    ),
    ("Push the lever, wait for the click, and pull gently.", None),
    ("Her voice was the first thing that I recognised.", None),
    (
        "The train leaves at 7:45 from platform 11.",
        "The train leaves at seven forty-five from platform eleven.",
    ),
    ("We should have brought warmer gloves and a better map.", None),
    ("An orchestra tunes to the oboe, because the oboe cannot tune to anybody.", None),
    ("The cheese was so strong that the dog left the room.", None),
    (
        "Through the thick fog they heard a bell, then oars, and at last a familiar voice.",
        None,
    ),
    ("It is easier to ask for forgiveness than for permission.", None),
    (
        "Chapter 5 is shorter, but much harder to read.",
        "Chapter five is shorter, but much harder to read.",
    ),
    ("The judge enjoys gardening, jazz, and large jugs of ginger beer.", None),
    ("What a strange noise that engine makes!", None),
    ("The museum was closed for repairs, as it had been the year before.", None),
    (
        "They measured the field with a rope, and quarrelled about the length of the rope"
        " for the rest of the day.",
        None,
    ),
    ("Some stories are better when the ending is left out.", None),
    ("A hundred paces further on, the path divided.", None),
    (
        "On May 2nd the first tram ran from the harbour to the hill.",
        "On May second the first tram ran from the harbour to the hill.",
    ),
    ("The usual treasure is a rusty spoon and half a button.", None),
    ("Keep the matches dry, and keep your temper cool.", None),
    (
        "He owned a watch, a violin, a pair of very good boots, and nothing else in the world.",
        None,
    ),
    ("Oil floats upon water, but good advice usually sinks.", None),
    ("Did the boy with the red scarf ever find his way home?", None),
    ("The weather vane points north, whatever the wind does.", None),
    (
        "The recipe asks for 250 grams of flour and 4 eggs.",
        "The recipe asks for two hundred and fifty grams of flour and four eggs.",
    ),
    ("Behind the theatre there was a narrow street that smelled of fresh bread.", None),
    ("I shall write to you as soon as we reach the other shore.", None),
    ("Their choir sang three songs, and then the same three songs once more.", None),
    (
        "Although the king had ordered silence, somebody near the door was quietly"
        " eating an apple.",
        None,
    ),
    ("Glass is cut with a wheel, a steady hand, and a single stroke.", None),
    ("This is the voice of a machine that has never seen the sea.", None),
    (
        "St. John's tower was raised by 12 feet after the fire.",
        "Saint John's tower was raised by twelve feet after the fire.",
    ),
    ("The pilot checked both gauges, nodded, and opened the throttle.", None),
    ("Bees know the way home by the angle of the sun.", None),
    ("Nothing sounds as loud as a whisper in a library.", None),
    ("Few people noticed the change, and fewer still complained about it.", None),
    (
        "The snow began at noon; by evening the fences were gone, and the road was only"
        " a guess between two rows of trees.",
        None,
    ),
    ("Good night, and thank you for listening.", None),
)
