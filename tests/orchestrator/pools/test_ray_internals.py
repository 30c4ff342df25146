"""Ray still has inside what the Ray pool uses of it."""

from __future__ import annotations

import inspect
import logging
from importlib.metadata import version
from pathlib import Path

import ray
from ray._private import services, state, worker
from ray.job_config import JobConfig

from orchestrator.pools import ray_internals


def test_the_version_installed_is_the_one_that_was_read():
    installed = version("ray")
    assert installed == ray_internals.CHECKED_VERSION, (
        f"read orchestrator/pools/ray_internals.py against Ray {installed}, then name it there"
    )


def test_an_address_is_resolved_to_host_and_port_without_asking_it():
    assert ray_internals.resolve_address("127.0.0.1:9").rpartition(":")[2] == "9"


def test_init_still_takes_the_options_that_are_not_in_its_signature():
    """Ray refuses options that it does not know, so their names stand in its source."""
    source = inspect.getsource(ray.init)
    assert all(f'"{name}"' in source for name in ray_internals.local_options("127.0.0.1", Path()))


def test_the_logger_that_is_silenced_is_the_one_of_its_services():
    from ray._private import services

    assert services.logger.name == "ray._private.services"
    ray_internals.silence_services()
    assert not services.logger.isEnabledFor(logging.ERROR)


def test_the_names_by_which_ray_stays_on_loopback_and_off_the_current_folder_are_there():
    assert "ENABLE_RAY_CLUSTER" in inspect.getsource(services.get_node_ip_address)
    assert "_runtime_env_has_working_dir()" in inspect.getsource(worker.connect)
    assert callable(JobConfig._runtime_env_has_working_dir)


def test_a_node_is_found_and_told_to_leave_by_ways_that_ray_still_has():
    from ray._private.services import start_raylet
    from ray.scripts import scripts

    source = inspect.getsource(start_raylet)
    assert f'"{ray_internals.NODE_ID}' in source.replace("'", '"')
    words = [
        *ray_internals.drain_command("127.0.0.1:9", "ab", if_idle=True, within_s=0),
        *ray_internals.drain_command("127.0.0.1:9", "ab", if_idle=False, within_s=5),
    ]
    options = {option for parameter in scripts.drain_node.params for option in parameter.opts}
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= options
    reasons = next(p for p in scripts.drain_node.params if p.name == "reason").type.choices
    assert {word.partition("=")[2] for word in words if word.startswith("--reason=")} <= set(reasons)
    assert callable(state.state.get_draining_nodes)


def test_what_an_autoscaler_says_still_has_the_fields_that_are_read():
    from ray.autoscaler._private import autoscaler, monitor
    from ray.core.generated import autoscaler_pb2

    told = autoscaler_pb2.GetClusterStatusReply()
    assert told.autoscaling_state.last_seen_cluster_resource_state_version == 0
    assert told.cluster_resource_state.cluster_resource_state_version == 0
    assert not told.autoscaling_state.infeasible_cluster_resource_constraints
    assert "DEBUG_AUTOSCALING_STATUS" in inspect.getsource(monitor)
    assert "node_type_mapping" in inspect.getsource(autoscaler)
