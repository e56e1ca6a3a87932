"""The color of a family."""

from sweeper.text.colors import KIN, kin_of


def test_each_family_is_in_one_kin_and_has_its_own_place():
    names = [name for _, kin in KIN for name in kin]
    assert len(names) == len(set(names))
    assert len({kin_of(name) for name in names}) == len(names)
    assert kin_of("cosine") == ("#0072b2", 0)
    assert kin_of("default_lr") == ("#222222", 1)


def test_a_family_of_ones_own_has_the_last_place_and_always_the_same_color():
    assert kin_of("mine") == kin_of("mine")
    assert kin_of("mine")[1] == -1
    assert kin_of("mine")[0] in {color for color, _ in KIN}
    assert len({kin_of(f"mine{number}")[0] for number in range(50)}) > 1
