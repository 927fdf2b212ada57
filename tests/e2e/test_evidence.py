"""The checks themselves: each finds what it is there to find, on made-up runs."""

from support.evidence import Run, exceeded, launched_twice, overlaps, peaks

JOB = "a" * 32


def run(job: str, attempt: int, start: int, end: int | None, cluster: str = "east", tag: str = "ads/x") -> Run:
    return Run(f"yard-{job}-{attempt}", tag, cluster, start, end)


def test_a_second_start_of_one_attempt_is_found():
    once = [run(JOB, 1, 0, 5), run(JOB, 2, 6, 9), run("b" * 32, 1, 0, 5)]
    assert launched_twice(once) == []
    assert launched_twice([*once, run(JOB, 2, 10, 11)]) == [f"yard-{JOB}-2"]


def test_two_attempts_of_one_job_alive_at_once_are_found():
    assert overlaps([run(JOB, 1, 0, 5), run(JOB, 2, 5, 9), run("b" * 32, 1, 1, 8)]) == []
    assert overlaps([run(JOB, 1, 0, 5), run(JOB, 2, 4, 9)]) == [(f"yard-{JOB}-1", f"yard-{JOB}-2")]
    assert overlaps([run(JOB, 1, 0, None), run(JOB, 2, 99, 100)]) == [(f"yard-{JOB}-1", f"yard-{JOB}-2")]


def test_peaks_count_what_is_alive_at_once_and_bounds_are_held_against_them():
    use = {"ads/x": {"cpu": 2}, "ads/y": {"cpu": 0.5, "gpu": 1}}
    runs = [run(JOB, 1, 0, 5), run("b" * 32, 1, 5, 9), run("c" * 32, 1, 4, 6, "west", "ads/y")]
    assert peaks(runs, "team", use) == {"ads": {"cpu": 2.5, "jobs": 2, "gpu": 1}}
    found = peaks(runs, "cluster", use)
    assert found == {"east": {"cpu": 2, "jobs": 1}, "west": {"cpu": 0.5, "gpu": 1, "jobs": 1}}
    assert exceeded(found, {"east": {"cpu": 2}, "west": {"jobs": 1}}) == []
    assert exceeded(found, {"east": {"cpu": 1.5}}) == ["east: 2 of cpu, bound 1.5"]
