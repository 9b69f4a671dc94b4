"""The kinds of streets that whole images are told apart by: what stands on the road, between houses drawn as ever.

Houses, trees, light, weather and colours are those of any street and say nothing of the kind. Where things stand does,
and how many there are: buses come in ones to threes, people in dozens.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from demo.street.placing import Placing
from demo.street.scenery import Side
from demo.street.street import Street

Place = Callable[[Placing, Side, Side], None]
"""Puts the objects of a kind on a street with a left and a right side."""


def _buses(placing: Placing, left: Side, right: Side) -> None:
    """Place buses and trucks in the lanes."""
    generator = placing.generator
    for lane in (0.2, -left.kerb / 2 - 0.4)[: int(generator.integers(1, 3))]:
        ahead = generator.uniform(9, 20)
        for _ in range(generator.integers(1, 3)):
            placing.heavy(lane, ahead, "bus" if generator.random() < 0.5 else "truck")
            ahead += generator.uniform(14, 24)


def _cars(placing: Placing, left: Side, right: Side) -> None:
    """Park cars along both kerbs, closely on one and with gaps on the other."""
    generator = placing.generator
    for side, gap in zip((left, right), generator.permutation((6.0, 12.0)).tolist(), strict=True):
        ahead = generator.uniform(7, 11)
        for _ in range(generator.integers(2, 6)):
            placing.car(side.sign * (side.kerb - 1.1), ahead, side.sign < 0)
            ahead += generator.uniform(5, gap)


def _people(placing: Placing, left: Side, right: Side) -> None:
    """Spread people over the road and both pavements."""
    generator = placing.generator
    for _ in range(generator.integers(6, 22)):
        across = generator.uniform(-left.front + 0.5, right.front - 0.5)
        placing.person(across, generator.uniform(6, 26), walks=False)


def _cyclists(placing: Placing, left: Side, right: Side) -> None:
    """Place cyclists on the road, from behind and from the side."""
    generator = placing.generator
    for _ in range(generator.integers(3, 9)):
        across = generator.uniform(-left.kerb + 0.5, right.kerb - 0.5)
        placing.cyclist(across, generator.uniform(6, 20), along=generator.random() < 0.5)


def _nothing(placing: Placing, left: Side, right: Side) -> None:
    """Leave the street to its trees, posts and signs."""


KINDS: Mapping[str, Place] = {
    "buses": _buses,
    "cars": _cars,
    "cyclists": _cyclists,
    "empty": _nothing,
    "people": _people,
}
"""Puts the objects of a kind on a street, by name of the kind."""


def rearranged(kind: str, street: Street, generator: np.random.Generator) -> Street:
    """Return the street with the objects of a kind in place of its own; trees, posts and signs stay.

    Args:
        kind: Name in `KINDS`.
        street: Any street of a picture.
        generator: Source of random numbers.
    """
    placing = Placing(generator, moving=False)
    KINDS[kind](placing, *street.sides)
    scenery = [thing for thing in street.things if not thing.instances]
    return replace(street, things=[*scenery, *placing.things])
