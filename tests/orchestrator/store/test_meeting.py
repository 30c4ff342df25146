"""Where nodes find the head of a sweep's Ray, and whom they believe."""

from __future__ import annotations

import os
import stat

import pytest

from orchestrator.store.layout import Layout
from orchestrator.store.meeting import Meeting, announce_meeting, read_meeting
from sweeps.spec.errors import UserError


@pytest.fixture
def layout(tmp_path):
    before = os.umask(0o002)  # as sites have it where each user has a group
    yield Layout(tmp_path)
    os.umask(before)


def test_a_meeting_is_announced_with_a_secret_that_only_its_owner_reads(layout):
    announce_meeting(layout)
    assert read_meeting(layout).state == "awaited"
    for path in (layout.meeting, layout.ray_token):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    first = layout.ray_token.read_text()
    assert len(first) == 64
    announce_meeting(layout)
    assert layout.ray_token.read_text() != first


def test_what_the_job_writes_is_read(layout):
    announce_meeting(layout)
    layout.meeting.write_text('{"version": 1, "state": "open", "address": "10.0.0.1:20001"}\n')
    read = read_meeting(layout)
    assert (read.state, read.address) == ("open", "10.0.0.1:20001")
    assert read.since == layout.meeting.stat().st_mtime


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]"),
        *('{"version": 2, "state": "open", "address": ""}', '{"version": 1, "state": "closed"}'),
        *(
            '{"version": 1, "state": "open", "address": 7}',
            '{"version": "1", "state": "open", "address": ""}',
        ),
    ],
)
def test_what_cannot_be_read_is_no_meeting(layout, text):
    layout.meeting.write_text(text)
    layout.meeting.chmod(0o600)
    assert read_meeting(layout) is None


def test_nothing_said_is_no_meeting(layout):
    assert read_meeting(layout) is None
    assert Meeting(state="awaited").address == ""


@pytest.mark.parametrize("name", ["meeting", "ray_token"])
def test_files_that_others_may_write_are_refused(layout, name):
    announce_meeting(layout)
    getattr(layout, name).chmod(0o660)
    with pytest.raises(UserError, match="this user's alone"):
        read_meeting(layout)


def test_a_link_is_refused(layout, tmp_path):
    announce_meeting(layout)
    elsewhere = tmp_path / "theirs.json"
    layout.meeting.rename(elsewhere)
    layout.meeting.symlink_to(elsewhere)
    with pytest.raises(UserError, match="this user's alone"):
        read_meeting(layout)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_is_refused(layout):
    announce_meeting(layout)
    os.chown(layout.meeting, 65534, 65534)
    with pytest.raises(UserError, match="this user's alone"):
        read_meeting(layout)
