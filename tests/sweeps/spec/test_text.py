from sweeps.spec.text import duration, label, size


def test_a_duration_is_told_in_its_two_largest_units():
    assert [duration(s) for s in (0.4, 42, 59.6, 200, 3600, 18_725, 1_050_000)] == [
        "0 s",
        "42 s",
        "1 min 0 s",
        "3 min 20 s",
        "1 h 0 min",
        "5 h 12 min",
        "12 d 3 h",
    ]


def test_a_size_is_told_in_its_largest_unit():
    assert [size(n) for n in (512, 2048, 1.5 * 2**30)] == ["512 bytes", "2.0 KiB", "1.5 GiB"]


def test_a_number_is_told_as_people_write_it():
    assert [label(v) for v in (1e-4, 0.5, 2e5, 3, "x y", None)] == ["1e-4", "0.5", "2e5", "3", "x y", "None"]
