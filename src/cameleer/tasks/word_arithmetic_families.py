"""The templates of word arithmetic: families of everyday situations, each with questions and their worked answers.

A template's shape draws the numbers `a`, `b`, `c` and solves for `x` (an intermediate result), `y` (a further number
of the question) and `n` (the answer). All are at least 2, so that every noun beside them is plural. The other fields
are the names `A` and `B`, the pronouns of A (`he`, `He`, `his`), and `thing`, `things` from the family's bank.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shape:
    """Inclusive ranges of a, b, c, and what follows from them. A draw with a number below 2 is drawn again."""

    a: tuple[int, int]
    b: tuple[int, int]
    c: tuple[int, int]
    solve: Callable[[int, int, int], dict[str, int]]


_UNUSED = (2, 2)

SHAPES: dict[str, Shape] = {
    "add": Shape((4, 60), (3, 40), _UNUSED, lambda a, b, c: {"n": a + b}),
    "add3": Shape((2, 30), (2, 30), (2, 30), lambda a, b, c: {"x": a + b, "n": a + b + c}),
    "subtract": Shape((10, 99), (3, 60), _UNUSED, lambda a, b, c: {"n": a - b}),
    "subtract2": Shape((20, 99), (3, 40), (2, 30), lambda a, b, c: {"x": a - b, "n": a - b - c}),
    "add_subtract": Shape((5, 50), (3, 40), (2, 40), lambda a, b, c: {"x": a + b, "n": a + b - c}),
    "subtract_add": Shape((10, 80), (3, 50), (2, 40), lambda a, b, c: {"x": a - b, "n": a - b + c}),
    "multiply": Shape((3, 12), (2, 12), _UNUSED, lambda a, b, c: {"n": a * b}),
    "multiply3": Shape((2, 6), (2, 6), (2, 9), lambda a, b, c: {"x": a * b, "n": a * b * c}),
    "divide": Shape((2, 10), (2, 12), _UNUSED, lambda a, b, c: {"x": a * b, "n": b}),
    "divide_large": Shape((6, 20), (4, 12), _UNUSED, lambda a, b, c: {"x": a * b, "n": b}),
    "multiply_add": Shape((2, 10), (2, 9), (2, 30), lambda a, b, c: {"x": a * b, "n": a * b + c}),
    "multiply_subtract": Shape((3, 10), (2, 10), (2, 40), lambda a, b, c: {"x": a * b, "n": a * b - c}),
    "add_multiply": Shape((2, 9), (2, 9), (2, 9), lambda a, b, c: {"x": a + b, "n": (a + b) * c}),
    "subtract_divide": Shape((2, 8), (2, 10), (2, 20), lambda a, b, c: {"x": a * b, "y": a * b + c, "n": b}),
    "add_divide": Shape((2, 8), (3, 10), (4, 30), lambda a, b, c: {"x": a * b, "y": a * b - c, "n": b}),
    "change": Shape((2, 9), (2, 9), _UNUSED, lambda a, b, c: {"x": a * b, **_change(a * b)}),
    "remainder": Shape((4, 12), (2, 9), (2, 10), lambda a, b, c: {"x": a * b, "y": a * b + c, "n": c, "gap": a - c}),
    "more_together": Shape((4, 40), (2, 30), _UNUSED, lambda a, b, c: {"x": a + b, "n": a + a + b}),
    "fewer_together": Shape((8, 50), (2, 30), _UNUSED, lambda a, b, c: {"x": a - b, "n": a + a - b}),
    "times_together": Shape((3, 25), (2, 4), _UNUSED, lambda a, b, c: {"x": a * b, "n": a + a * b}),
    "speed": Shape((3, 9), (2, 9), _UNUSED, lambda a, b, c: {"s": 10 * a, "x": 10 * a * b, "n": 10 * a * b}),
    "younger": Shape((9, 60), (2, 20), _UNUSED, lambda a, b, c: {"n": a - b}),
    "hundreds": Shape((12, 60), (4, 40), _UNUSED, lambda a, b, c: {"x": 10 * a, "y": 10 * b, "n": 10 * a - 10 * b}),
    "rectangle": Shape((3, 30), (2, 20), _UNUSED, lambda a, b, c: {"x": a + b, "n": 2 * (a + b), "gap": a - b}),
    "square": Shape((3, 25), _UNUSED, _UNUSED, lambda a, b, c: {"n": 4 * a}),
    "triangle": Shape((4, 20), (4, 20), (4, 20), lambda a, b, c: {"x": a + b, "n": a + b + c, **_gaps(a, b, c)}),
    "sides": Shape((3, 15), (5, 8), _UNUSED, lambda a, b, c: {"n": a * b}),
    "degrees": Shape((8, 30), (2, 12), (2, 12), lambda a, b, c: {"x": a - b, "n": a - b + c}),
    "hours": Shape((2, 5), (5, 55), _UNUSED, lambda a, b, c: {"x": 60 * a, "n": 60 * a + b}),
    "ages": Shape((4, 15), (20, 40), (2, 12), lambda a, b, c: {"x": a + b, "n": a + b + c}),
    "area": Shape((3, 12), (2, 12), _UNUSED, lambda a, b, c: {"n": a * b, "gap": a - b}),
    "border": Shape((4, 12), (3, 10), (2, 20), lambda a, b, c: {"x": a * b, "n": a * b - c, "gap": a - b}),
    "legs": Shape((2, 10), (2, 10), _UNUSED, lambda a, b, c: {"x": 4 * a, "y": 2 * b, "n": 4 * a + 2 * b}),
    "wheels": Shape((2, 9), (2, 9), _UNUSED, lambda a, b, c: {"x": 3 * a, "y": 4 * b, "n": 3 * a + 4 * b}),
    "average2": Shape((4, 30), (4, 30), _UNUSED, lambda a, b, c: {"x": a + b, "n": _share(a + b, 2)}),
    "average3": Shape((2, 20), (2, 20), (2, 20), lambda a, b, c: {"x": a + b + c, "n": _share(a + b + c, 3)}),
    "tank": Shape((3, 12), (2, 9), (2, 10), lambda a, b, c: {"x": a - c, "n": (a - c) * b}),
    "double2": Shape((2, 40), _UNUSED, _UNUSED, lambda a, b, c: {"x": 2 * a, "n": 4 * a}),
    "halve2": Shape((3, 25), _UNUSED, _UNUSED, lambda a, b, c: {"y": 4 * a, "x": 2 * a, "n": a}),
    "double_add": Shape((3, 40), (2, 15), _UNUSED, lambda a, b, c: {"x": 2 * a, "n": 2 * a + b}),
}


def _change(price: int) -> dict[str, int]:
    """The banknote that pays a price below 99, and the change."""
    note = 50 if price < 48 else 100
    return {"y": note, "n": note - price}


def _gaps(a: int, b: int, c: int) -> dict[str, int]:
    """By how much each two sides exceed the third: positive where they make a triangle."""
    return {"gap_a": b + c - a, "gap_b": a + c - b, "gap_c": a + b - c}


def _share(total: int, number: int) -> int:
    """An equal share of a total, or 0 where it is not whole, which makes the draw invalid."""
    return total // number if total % number == 0 else 0


@dataclass(frozen=True, slots=True)
class Template:
    """A question and the sentence that works it out, as format strings, with the shape of their numbers."""

    shape: str
    question: str
    work: str


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of situation. `things` are singular nouns with a consonant in front and a plural in -s."""

    name: str
    things: tuple[str, ...]
    templates: tuple[Template, ...]


T = Template

SHOPPING = Family("shopping", ("notebook", "pen", "mug", "candle", "cap", "plant", "puzzle", "lamp"), (
    T("multiply", "A {thing} costs {a} dollars. How many dollars do {b} {things} cost?",
      "The {things} cost {b} * {a} = {n} dollars."),
    T("multiply_add",
      "{A} buys {a} {things} for {b} dollars each and a bag for {c} dollars. How many dollars does {he} spend?",
      "The {things} cost {a} * {b} = {x} dollars and with the bag it is {x} + {c} = {n}."),
    T("change", "{A} buys {a} {things} at {b} dollars each and pays with {y} dollars. How much change does {he} get?",
      "The {things} cost {a} * {b} = {x} dollars and the change is {y} - {x} = {n}."),
    T("subtract2",
      "{A} has {a} dollars. {He} buys a {thing} for {b} dollars and a snack for {c} dollars. How many dollars are "
      "left?",
      "After the {thing} {a} - {b} = {x} dollars are left and then {x} - {c} = {n}."),
    T("divide", "{A} pays {x} dollars for {a} {things} of the same price. How many dollars does one {thing} cost?",
      "One {thing} costs {x} / {a} = {n} dollars."),
))  # fmt: skip

SHARING = Family("sharing", ("sticker", "cookie", "marble", "grape", "balloon", "card", "pretzel", "seashell"), (
    T("divide", "{A} shares {x} {things} equally among {a} friends. How many {things} does each friend get?",
      "Each friend gets {x} / {a} = {n} {things}."),
    T("subtract_divide",
      "{A} has {y} {things}. {He} keeps {c} and shares the rest equally among {a} children. How many {things} does "
      "each child get?",
      "The rest is {y} - {c} = {x} {things} and each child gets {x} / {a} = {n}."),
    T("add_divide",
      "{A} brings {y} {things} and {B} brings {c}. They put all of them into {a} equal piles. How many {things} are "
      "in each pile?",
      "There are {y} + {c} = {x} {things} and each pile has {x} / {a} = {n}."),
    T("divide", "A teacher hands out {x} {things} so that every student gets {a}. How many students are there?",
      "There are {x} / {a} = {n} students."),
))  # fmt: skip

TRAVEL = Family("travel", ("train", "boat", "steamer", "shuttle"), (
    T("speed", "A {thing} travels {s} kilometers every hour. How many kilometers does it travel in {b} hours?",
      "It travels {b} * {s} = {n} kilometers."),
    T("divide", "{A} cycles {a} kilometers every day. How many days does {he} need for {x} kilometers?",
      "The trip takes {x} / {a} = {n} days."),
    T("hundreds", "A {thing} has to go {x} kilometers and has gone {y} so far. How many kilometers are left?",
      "There are {x} - {y} = {n} kilometers left."),
    T("add3",
      "{A} walks {a} kilometers on Monday, {b} on Tuesday and {c} on Wednesday. How many kilometers is that in all?",
      "The first two days make {a} + {b} = {x} kilometers and all three make {x} + {c} = {n}."),
    T("add_subtract",
      "A {thing} carries {a} people. At the next stop {b} get on and {c} get off. How many people are on it now?",
      "With those who get on there are {a} + {b} = {x} people and then {x} - {c} = {n}."),
))  # fmt: skip

COOKING = Family("cooking", ("cake", "pie", "pudding", "tart", "cheesecake"), (
    T("multiply", "One {thing} needs {a} spoons of sugar. How many spoons of sugar do {b} {things} need?",
      "The {things} need {b} * {a} = {n} spoons of sugar."),
    T("multiply_subtract",
      "{A} wants to bake {a} {things} and needs {b} eggs for each. {He} already has {c} eggs. How many more eggs "
      "does {he} need?",
      "{A} needs {a} * {b} = {x} eggs and {x} - {c} = {n} more."),
    T("divide", "One pot of soup serves {a} people. How many pots serve {x} people?",
      "The people need {x} / {a} = {n} pots."),
    T("subtract_add",
      "{A} bakes {a} {things} and sells {b} of them. Then {he} bakes {c} more. How many {things} are there now?",
      "After the sale there are {a} - {b} = {x} {things} and then {x} + {c} = {n}."),
))  # fmt: skip

SAVINGS = Family("savings", ("bicycle", "guitar", "camera", "skateboard", "telescope", "tent"), (
    T("multiply", "{A} saves {a} dollars every week. How many dollars does {he} have after {b} weeks?",
      "After {b} weeks {he} has {b} * {a} = {n} dollars."),
    T("multiply_add",
      "{A} has {c} dollars and saves {a} dollars a week for a {thing}. How many dollars does {he} have after {b} "
      "weeks?",
      "{A} saves {b} * {a} = {x} dollars and then has {x} + {c} = {n}."),
    T("divide_large",
      "A {thing} costs {x} dollars. {A} saves {a} dollars each month. After how many months can {he} buy it?",
      "The saving takes {x} / {a} = {n} months."),
    T("multiply_subtract",
      "{A} saves {a} dollars a day for {b} days and then spends {c} dollars. How many dollars are left?",
      "{A} saves {a} * {b} = {x} dollars and {x} - {c} = {n} are left."),
))  # fmt: skip

GIVING = Family("giving", ("shell", "book", "coin", "pencil", "ribbon", "stamp", "toy car", "postcard"), (
    T("add", "{A} has {a} {things} and gets {b} more from {B}. How many {things} does {A} have now?",
      "Now {A} has {a} + {b} = {n} {things}."),
    T("subtract", "{A} has {a} {things} and gives {b} of them to {B}. How many {things} does {A} have left?",
      "{A} has {a} - {b} = {n} {things} left."),
    T("subtract_add", "{A} has {a} {things}. {He} loses {b} and then finds {c}. How many {things} does {he} have now?",
      "After losing some {he} has {a} - {b} = {x} {things} and then {x} + {c} = {n}."),
    T("add_subtract",
      "{A} has {a} {things}. {B} gives {him} {b} more and later {A} gives away {c}. How many {things} does {A} have?",
      "With the gift {A} has {a} + {b} = {x} {things} and then {x} - {c} = {n}."),
))  # fmt: skip

COMPARING = Family("comparing", ("badge", "poster", "crayon", "button", "photo", "rock", "model plane", "comic"), (
    T("subtract", "{A} owns {a} {things} and {B} owns {b}. How many more {things} does {A} own than {B}?",
      "{A} owns {a} - {b} = {n} more {things}."),
    T("more_together", "{A} has {a} {things}. {B} has {b} more than {A}. How many {things} do they have together?",
      "{B} has {a} + {b} = {x} {things} and together they have {a} + {x} = {n}."),
    T("fewer_together", "{A} has {a} {things}. {B} has {b} fewer than {A}. How many {things} do they have together?",
      "{B} has {a} - {b} = {x} {things} and together they have {a} + {x} = {n}."),
    T("multiply", "{A} has {a} {things} and {B} has {b} times as many. How many {things} does {B} have?",
      "{B} has {b} * {a} = {n} {things}."),
    T("times_together", "{A} has {a} {things} and {B} has {b} times as many. How many {things} do they have in all?",
      "{B} has {b} * {a} = {x} {things} and in all they have {a} + {x} = {n}."),
))  # fmt: skip

GROUPS = Family("groups", ("book", "jar", "vase", "basket", "folder", "toy", "picture", "lantern"), (
    T("multiply", "A room has {a} shelves with {b} {things} on each. How many {things} are in the room?",
      "The shelves hold {a} * {b} = {n} {things}."),
    T("multiply_add",
      "There are {a} tables with {b} {things} on each and {c} more {things} on the floor. How many {things} are "
      "there?",
      "The tables hold {a} * {b} = {x} {things} and with the others there are {x} + {c} = {n}."),
    T("multiply3",
      "A shop has {a} rooms. Each room has {b} shelves and each shelf holds {c} {things}. How many {things} are "
      "there?",
      "There are {a} * {b} = {x} shelves and they hold {x} * {c} = {n} {things}."),
    T("add_multiply", "Each box holds {a} red {things} and {b} blue {things}. How many {things} are in {c} boxes?",
      "One box holds {a} + {b} = {x} {things} and {c} boxes hold {c} * {x} = {n}."),
))  # fmt: skip

LEFTOVERS = Family("leftovers", ("peanut", "roll", "bead", "plum", "flower", "bottle", "brick", "lemon"), (
    T("remainder",
      "{A} packs {y} {things} into boxes of {a} and fills as many as possible. How many {things} are left over?",
      "The {b} full boxes hold {b} * {a} = {x} {things} and {y} - {x} = {c} are left."),
    T("remainder",
      "{y} students form teams of {a}. As many teams as possible are made. How many students have no team?",
      "The {b} teams have {b} * {a} = {x} students and {y} - {x} = {c} have no team."),
    T("remainder",
      "{A} shares {y} {things} equally among {a} friends and keeps what is left over. How many {things} does {he} "
      "keep?",
      "Each friend gets {b}, so {b} * {a} = {x} are given and {he} keeps {y} - {x} = {c}."),
))  # fmt: skip

PERIMETER = Family("perimeter", ("garden", "field", "yard", "playground", "park", "pool"), (
    T("rectangle",
      "A rectangular {thing} is {a} meters long and {b} meters wide. How many meters is it around the outside?",
      "A long and a short side make {a} + {b} = {x} meters and all the way around is 2 * {x} = {n}."),
    T("square", "A square {thing} has sides of {a} meters. How many meters of fence go around it?",
      "The fence is 4 * {a} = {n} meters long."),
    T("triangle",
      "The three sides of a {thing} are {a}, {b} and {c} meters long. How many meters is it around the {thing}?",
      "Two sides make {a} + {b} = {x} meters and all three make {x} + {c} = {n}."),
    T("sides", "A {thing} has {b} equal sides of {a} meters. How many meters is it around the {thing}?",
      "The way around is {b} * {a} = {n} meters."),
))  # fmt: skip

AGES = Family("ages", ("mother", "father", "neighbor", "teacher", "coach"), (
    T("add", "{A} is {a} years old. How old will {he} be in {b} years?",
      "{A} will be {a} + {b} = {n} years old."),
    T("younger", "{A} is {a} years old and {B} is {b} years younger. How old is {B}?",
      "{B} is {a} - {b} = {n} years old."),
    T("ages", "{A} is {a} years old. {His} {thing} is {b} years older. How old will the {thing} be in {c} years?",
      "The {thing} is {a} + {b} = {x} now and will be {x} + {c} = {n}."),
    T("more_together", "{A} is {a} years old and {B} is {b} years older. What is the sum of their ages?",
      "{B} is {a} + {b} = {x} years old and the sum is {a} + {x} = {n}."),
))  # fmt: skip

TEMPERATURE = Family("temperature", ("garden", "town", "kitchen", "cellar", "greenhouse", "valley"), (
    T("degrees",
      "At noon it was {a} degrees in the {thing}. By night it was {b} degrees colder and the next day it rose by "
      "{c}. How many degrees was it then?",
      "At night it was {a} - {b} = {x} degrees and then {x} + {c} = {n}."),
    T("degrees",
      "The temperature in the {thing} was {a} degrees. It fell by {b} degrees and then rose by {c}. How many degrees "
      "was it at the end?",
      "After the fall it was {a} - {b} = {x} degrees and at the end {x} + {c} = {n}."),
    T("multiply_add",
      "A stove at {c} degrees gets {a} degrees warmer every minute. How many degrees does it have after {b} minutes?",
      "It warms by {b} * {a} = {x} degrees and then has {c} + {x} = {n}."),
))  # fmt: skip

TIME = Family("time", ("movie", "lesson", "concert", "meeting", "game", "show"), (
    T("hours", "A {thing} lasts {a} hours and {b} minutes. How many minutes is that?",
      "The hours make {a} * 60 = {x} minutes and in all it is {x} + {b} = {n}."),
    T("multiply", "{A} practices {a} minutes every day. How many minutes does {he} practice in {b} days?",
      "{A} practices {b} * {a} = {n} minutes."),
    T("subtract", "A {thing} lasts {a} minutes and {b} minutes have passed. How many minutes remain?",
      "There are {a} - {b} = {n} minutes left."),
    T("add_multiply",
      "A {thing} takes {a} minutes and the break after it takes {b}. How many minutes do {c} rounds of both take?",
      "One round takes {a} + {b} = {x} minutes and {c} rounds take {c} * {x} = {n}."),
))  # fmt: skip

READING = Family("reading", ("novel", "story book", "magazine", "mystery", "textbook", "comic book"), (
    T("multiply", "{A} reads {a} pages of a {thing} every evening. How many pages does {he} read in {b} evenings?",
      "{A} reads {b} * {a} = {n} pages."),
    T("divide_large", "A {thing} has {x} pages and {A} reads {a} pages a day. How many days does {he} need?",
      "{A} needs {x} / {a} = {n} days."),
    T("subtract2",
      "A {thing} has {a} pages. {A} reads {b} pages in the morning and {c} at night. How many pages are left?",
      "After the morning {a} - {b} = {x} pages are left and then {x} - {c} = {n}."),
    T("add3", "{A} reads {a} pages of a {thing} on Friday, {b} on Saturday and {c} on Sunday. How many pages is that?",
      "Friday and Saturday make {a} + {b} = {x} pages and with Sunday {x} + {c} = {n}."),
))  # fmt: skip

TRAINED_FAMILIES = (
    SHOPPING, SHARING, TRAVEL, COOKING, SAVINGS, GIVING, COMPARING, GROUPS, LEFTOVERS, PERIMETER, AGES, TEMPERATURE,
    TIME, READING,
)  # fmt: skip

AREA = Family("area", ("floor", "stage", "terrace", "deck", "platform", "wall"), (
    T("area", "A rectangular {thing} is {a} meters long and {b} meters wide. How many square meters does it cover?",
      "It covers {a} * {b} = {n} square meters."),
    T("border",
      "A {thing} of {a} by {b} meters is painted except for {c} square meters. How many square meters are painted?",
      "The {thing} has {a} * {b} = {x} square meters and {x} - {c} = {n} are painted."),
    T("multiply_add", "A {thing} is covered with {a} rows of {b} tiles and {c} single tiles. How many tiles is that?",
      "The rows have {a} * {b} = {x} tiles and in all there are {x} + {c} = {n}."),
))  # fmt: skip

LEGS = Family("legs", ("cow", "horse", "dog", "cat", "pig", "goat"), (
    T("legs", "A farm has {a} {things} and {b} ducks. How many legs do the animals have in all?",
      "There are {a} * 4 = {x} and {b} * 2 = {y} legs, so {x} + {y} = {n}."),
    T("wheels", "A garage holds {a} tricycles and {b} cars. How many wheels are in the garage?",
      "There are {a} * 3 = {x} and {b} * 4 = {y} wheels, so {x} + {y} = {n}."),
    T("square", "How many legs do {a} {things} have?",
      "They have {a} * 4 = {n} legs."),
))  # fmt: skip

AVERAGE = Family("average", ("game", "test", "round", "contest"), (
    T("average2", "{A} scores {a} points in one {thing} and {b} in the next. What is {his} average score?",
      "The sum is {a} + {b} = {x} and half of it is {x} / 2 = {n}."),
    T("average3", "In three {things} {A} scores {a}, {b} and {c} points. What is {his} average score?",
      "The sum is {a} + {b} + {c} = {x} and a third of it is {x} / 3 = {n}."),
    T("average2", "{A} picks {a} apples and {B} picks {b}. How many apples is that per person on average?",
      "Together they pick {a} + {b} = {x} apples and on average {x} / 2 = {n}."),
))  # fmt: skip

TANK = Family("tank", ("tank", "bathtub", "barrel", "pond", "basin"), (
    T("tank",
      "Every minute {a} liters flow into a {thing} and {c} liters leak out. How many liters does it gain in {b} "
      "minutes?",
      "It gains {a} - {c} = {x} liters a minute and {b} * {x} = {n} in all."),
    T("divide", "A pump fills {a} liters a minute into a {thing} of {x} liters. In how many minutes is it full?",
      "It is full in {x} / {a} = {n} minutes."),
    T("multiply_subtract",
      "{a} buckets of {b} liters are poured into a {thing} and {c} liters are taken out. How many liters remain?",
      "The buckets bring {a} * {b} = {x} liters and {x} - {c} = {n} remain."),
))  # fmt: skip

DOUBLING = Family("doubling", ("frog", "beetle", "snail", "turtle", "duck", "rabbit"), (
    T("double2",
      "{A} counts {a} {things}. Every year their number doubles. How many {things} are there after two years?",
      "After one year there are 2 * {a} = {x} {things} and after two 2 * {x} = {n}."),
    T("halve2", "{A} counts {y} {things}. Every year half of them leave. How many {things} are there after two years?",
      "After one year there are {y} / 2 = {x} {things} and after two {x} / 2 = {n}."),
    T("double_add",
      "{A} sees {a} {things} in May. In June there are twice as many and in July {b} more than in June. How many are "
      "there in July?",
      "In June there are 2 * {a} = {x} {things} and in July {x} + {b} = {n}."),
))  # fmt: skip

HELD_OUT_FAMILIES = (AREA, LEGS, AVERAGE, TANK, DOUBLING)
