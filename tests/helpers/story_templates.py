"""Stories for small children from templates: a stand-in for TinyStories, of any size, from a seed.

What they share with it: some 150 words each, sentences of about nine, a small vocabulary, a named
child with its pronouns all the way through, talk in quotes, a thing that comes back in the end,
and ``<|endoftext|>`` on a line of its own between two stories.
"""

import random
from collections.abc import Iterator
from pathlib import Path

END_OF_STORY = "<|endoftext|>"


def _words(text: str) -> list[str]:
    return text.split()


_GIRLS = _words("Lily Mia Anna Rosie Ella Zoe Nora Ivy Clara Ruby Tess Maya Hazel Wendy June")
_BOYS = _words("Tom Ben Max Leo Sam Finn Jack Noah Theo Owen Hugo Milo Oscar Peter Ned")
_PRONOUNS = {True: ("she", "her", "her", "girl"), False: ("he", "him", "his", "boy")}
_ANIMALS = _words("dog cat bird frog rabbit duck mouse fox bear squirrel owl turtle pony lamb bee")
_THINGS = _words(
    "ball kite book hat boat drum bell lamp box cup stone shell ring basket blanket doll truck "
    "train puzzle ladder spoon key flute scarf wagon bucket pencil candle button mirror"
)
_COLOURS = _words("red blue green yellow purple black pink white brown golden silver")
_SIZES = _words("big small little tiny huge long round heavy soft")
_MOODS = _words("kind funny quiet brave clever gentle curious cheerful shy friendly patient busy")
_PLACES = _words(
    "park garden forest beach river hill farm market school kitchen barn meadow pond playground"
)
_WEATHER = _words("sunny windy rainy cold warm cloudy snowy foggy")
_GLAD = _words("happy proud glad excited surprised thankful pleased")
_SORRY = _words("sad scared worried angry tired lonely upset sorry")
_GAMES = _words("run jump hide sing dance swim climb draw read dig bake paint build count")
_FOODS = _words("plum cake soup bread cookie pear banana carrot pie sandwich berry muffin")
_GROWN_UPS = _words("mom dad grandma grandpa teacher aunt uncle neighbor")
_PAST = {
    **{verb: verb + "ed" for verb in ("jump", "climb", "paint", "count")},
    **{"run": "ran", "hide": "hid", "sing": "sang", "dance": "danced", "swim": "swam"},
    **{"draw": "drew", "read": "read", "dig": "dug", "bake": "baked", "build": "built"},
}


class _Story:
    """Who and what one story is about."""

    def __init__(self, generator: random.Random) -> None:
        self._any = generator
        is_girl = generator.random() < 0.5
        self.name = generator.choice(_GIRLS if is_girl else _BOYS)
        self.they, self.them, self.their, self.child = _PRONOUNS[is_girl]
        self.animal, self.thing, self.place = map(generator.choice, (_ANIMALS, _THINGS, _PLACES))
        self.colour, self.size, self.mood = map(generator.choice, (_COLOURS, _SIZES, _MOODS))
        self.game, self.food, self.grown_up = map(generator.choice, (_GAMES, _FOODS, _GROWN_UPS))
        self.weather, self.glad, self.sorry = map(generator.choice, (_WEATHER, _GLAD, _SORRY))
        others = [name for name in _GIRLS + _BOYS if name != self.name]
        self.friend = generator.choice(others)

    def one_of(self, *sentences: str) -> str:
        """One of several sentences, with this story's words in it."""
        chosen = self._any.choice(sentences)
        words = {key: value for key, value in vars(self).items() if not key.startswith("_")}
        words |= {"They": self.they.capitalize(), "Their": self.their.capitalize()}
        words["played"] = _PAST[self.game]
        return chosen.format_map(words)

    def beginning(self) -> list[str]:
        """Who, where, and what they love."""
        return [
            self.one_of(
                "Once upon a time, there was a {mood} little {child} named {name}.",
                "Once upon a time, in a {size} house near the {place}, there lived a {child} "
                "named {name}.",
                "One day, a {mood} {child} named {name} went to the {place}.",
                "There was once a {child} called {name} who was very {mood}.",
            ),
            self.one_of(
                "{name} loved to {game} with {their} {animal} all day long.",
                "{They} had a {colour} {thing} that {they} took everywhere.",
                "Every morning {they} liked to {game} in the {place}.",
                "{Their} best friend was a {size} {animal}, and they did everything together.",
            ),
            self.one_of(
                "It was a {weather} day, and {name} wanted to {game}.",
                "One {weather} morning, {name} said to {their} {grown_up}, "
                '"Can we go to the {place} today?"',
                "One {weather} day, {name} could not find the {colour} {thing}.",
            ),
        ]

    def lost(self) -> list[str]:
        """A thing is lost and found."""
        return [
            self.one_of(
                "{name} looked under the bed, but the {thing} was not there.",
                "{They} looked in the {place} and behind the door, but there was no {thing}.",
            ),
            self.one_of(
                '"Where is my {thing}?" asked {name}. {They} felt very {sorry}.',
                '{name} began to cry. "I lost my {colour} {thing}," {they} said.',
            ),
            self.one_of(
                'A {size} {animal} heard {them}. "I can help you look," said the {animal}.',
                'The {animal} came to {them} and said, "Do not be {sorry}. We will find it."',
            ),
            self.one_of(
                "They walked to the {place} and looked behind every tree.",
                "Together they looked high and low until it was almost dark.",
            ),
            self.one_of(
                "At last the {animal} saw something {colour}. It was the {thing}!",
                "Then {name} saw the {thing} under a {size} leaf. It was wet, but not broken.",
            ),
            self.one_of(
                '"Thank you!" said {name}, and {they} gave the {animal} a {food}.',
                "{name} hugged the {animal}, and {they} {played} all the way home.",
            ),
        ]

    def shared(self) -> list[str]:
        """Two want the same, and share it."""
        return [
            self.one_of(
                "At the {place}, {name} met {friend}. {friend} wanted the {thing} too.",
                "{friend} came to the {place} and saw the {colour} {thing}.",
            ),
            self.one_of(
                '"It is mine!" said {name}, and {they} held the {thing} very tight.',
                '"Can I have a turn?" asked {friend}. "No," said {name}. "I had it first."',
            ),
            self.one_of(
                "{friend} felt {sorry} and sat down alone on a {size} stone.",
                "{friend} did not say a word and walked away, very {sorry}.",
            ),
            self.one_of(
                'The {grown_up} saw this and said, "It is more fun when we share."',
                '"How would you feel?" asked {their} {grown_up}. {name} thought about it.',
            ),
            self.one_of(
                'So {name} went to {friend} and said, "I am sorry. You have the {thing} first."',
                "{name} took the {thing} to {friend}, and they {played} with it together.",
            ),
            self.one_of(
                "{friend} smiled, and soon they were both {glad}.",
                "After that they ate a {food} and {played} until the sun went down.",
            ),
        ]

    def tried(self) -> list[str]:
        """Something is hard at first."""
        return [
            self.one_of(
                "{name} wanted to learn how to {game}, but it was very hard.",
                "All the other children could {game}, but {name} could not.",
            ),
            self.one_of(
                'The first time, {they} fell and felt {sorry}. "I can not do it," {they} said.',
                "{They} tried once, and {they} tried again, but it did not work.",
            ),
            self.one_of(
                '"Do not give up," said the {animal}. "I was {sorry} too when I was small."',
                '{Their} {grown_up} said, "Go slowly, and try one more time."',
            ),
            self.one_of(
                "So {name} went to the {place} every day, even when it was {weather}.",
                "{name} took a deep breath and held {their} {grown_up}'s hand.",
            ),
            self.one_of(
                "And then, one day, {they} {played} without any help!",
                "This time it worked, and everyone at the {place} clapped.",
            ),
            self.one_of(
                '"Look at me!" said {name}. {They} had never been so {glad}.',
                "{name} was {glad}, and the {animal} danced around {them}.",
            ),
        ]

    def ending(self) -> list[str]:
        """What was learned."""
        return [
            self.one_of(
                "From that day on, {name} and the {animal} were the best of friends.",
                "From then on, {name} always took good care of {their} {thing}.",
                "That night, {name} told {their} {grown_up} all about it and went to sleep.",
                "When {they} came home, {their} {grown_up} made a {food} for everyone.",
            ),
            self.one_of(
                "{name} learned that it is good to be {mood}.",
                "And they all lived happily ever after.",
                "{name} was {glad}, and so was the {animal}.",
                "It was the best day ever.",
            ),
        ]

    def text(self) -> str:
        """The story in paragraphs."""
        middle = self._any.sample([self.lost, self.shared, self.tried], self._any.choice((1, 2)))
        parts = [self.beginning(), *(part() for part in middle), self.ending()]
        return "\n".join(" ".join(part) for part in parts)


def stories(count: int, seed: int = 1) -> Iterator[str]:
    """So many stories, the same for the same seed."""
    generator = random.Random(seed)
    return (_Story(generator).text() for _ in range(count))


def write_stories(path: Path, size_bytes: int, seed: int = 1) -> None:
    """Write stories up to a size."""
    with path.open("w", encoding="utf-8") as file:
        for story in stories(size_bytes, seed):
            file.write(f"{story}\n{END_OF_STORY}\n")
            if file.tell() >= size_bytes:
                return
