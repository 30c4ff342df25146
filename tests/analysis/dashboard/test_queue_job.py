"""What a page says of the job of a queue that a sweep was handed to."""

from __future__ import annotations

from starlette.testclient import TestClient

from analysis.dashboard.app import build_app
from analysis.dashboard.queue_job import JobTold, QueueJob
from analysis.dashboard.snapshot import Store
from analysis.dashboard.sweep_progress import progress_of
from tests.analysis.dashboard.conftest import BASE

WAITS = JobTold(words="Slurm (job 17, Priority)", state="waiting", lines=("nodes, job 18: 2 pending",))
ENDED = JobTold(words="Slurm (job 17, FAILED)", lines=("Slurm (job 17, FAILED): it has ended",))


def test_a_sweep_without_a_driver_is_in_the_state_of_its_job():
    assert progress_of({"pending": 3}, None, WAITS).state == "waiting"
    assert progress_of({"pending": 3}, None, ENDED).state == "stopped"
    assert progress_of({"pending": 3}, None).state == "stopped"


def test_of_a_finished_sweep_no_job_is_told():
    told = progress_of({"done": 3, "pending": 0}, None, ENDED)
    assert (told.state, told.job) == ("finished", None)


def test_the_queue_is_asked_now_and_then_whatever_many_pages_ask(tmp_path):
    asked = []
    job = QueueJob(tmp_path, lambda directory: asked.append(directory) or WAITS)
    assert [job.told() for _ in range(50)] == [WAITS] * 50
    assert asked == [tmp_path]
    assert QueueJob(tmp_path, None).told() is None


def test_the_first_page_and_its_live_part_say_what_the_sweep_waits_for(ragged):
    app = build_app(Store(ragged, ask_queue=lambda _: WAITS))
    client = TestClient(app, base_url=BASE)
    for path in ("/", "/live"):
        text = client.get(path).text
        assert 'data-state="waiting"' in text
        assert "Slurm (job 17, Priority)" in text
        assert "nodes, job 18: 2 pending" in text
