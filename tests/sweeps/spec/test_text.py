from sweeps.spec.text import duration


def test_a_duration_is_told_in_its_two_largest_units():
    assert [duration(s) for s in (0.4, 42, 59.6, 200, 3600, 18_725)] == [
        "0 s",
        "42 s",
        "1 min 0 s",
        "3 min 20 s",
        "1 h 0 min",
        "5 h 12 min",
    ]
