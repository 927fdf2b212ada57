"""Configurations for `yard`: as Python values, written as TOML."""

import copy
import json
from pathlib import Path

# Short leases and quick loops, so that a takeover is a matter of two seconds.
BASE = {
    "server": {"drain_timeout_s": 10},
    "access": {"bootstrap_token_env": "YARD_TEST_OPERATOR"},
    "database": {"pool_max": 8, "acquire_timeout_ms": 2000},
    "intake": {"catalog_refresh_ms": 200},
    "scheduler": {"pass_interval_ms": 50, "lease_ttl_ms": 2000, "lease_margin_ms": 500, "sweep_interval_ms": 100},
    "dispatcher": {
        "lease_ttl_ms": 2000,
        "lease_margin_ms": 500,
        "poll_interval_ms": 50,
        "election_interval_ms": 200,
        "report_interval_s": 1,
        "unreachable_after_s": 2,
        "cluster_lost_grace_s": 8,
        "launch_backoff_max_s": 1,
        "breaker_pause_s": 1,
    },
    "retry": {"backoff_initial_ms": 50, "backoff_max_s": 1},
    "log": {"filter": "info,yard_engine=debug"},
}


def base(*, teams: list[dict], clusters: list[dict], queues: list[dict] = (), **sections: dict) -> dict:
    """A configuration with these teams, clusters and queues; `sections` go on top of the base."""
    config = copy.deepcopy(BASE)
    for name, values in sections.items():
        config.setdefault(name, {}).update(values)
    return {**config, "team": list(teams), "cluster": list(clusters), "queue": list(queues)}


def process_cluster(name: str, folder: Path, **keys) -> dict:
    """A cluster of child processes below `folder`."""
    cluster = {
        "id": name,
        "driver": "process",
        "dir": str(folder / name),
        "capacity": {"cpu": 8, "gpu": 2, "memory": "16GiB"},
        "labels": {"kind": "process"},
        "poll_interval_ms": 50,
        "stop_grace_s": 5,
        "launch_rate_per_s": 100,
        "launch_burst": 100,
    }
    return {**cluster, **keys}


def ray_cluster(name: str, address: str, token_env: str, **keys) -> dict:
    """A standing Ray cluster; its token is in the variable `token_env`."""
    cluster = {
        "id": name,
        "driver": "ray",
        "address": address,
        "token_env": token_env,
        "labels": {"kind": "ray"},
        "poll_interval_ms": 300,
        "call_timeout_s": 10,
    }
    return {**cluster, **keys}


def toml(config: dict) -> str:
    """The text of a configuration: tables, arrays of tables, and inline tables below them."""
    lines: list[str] = []
    for name, value in config.items():
        tables = value if isinstance(value, list) else [value]
        head = f"[[{name}]]" if isinstance(value, list) else f"[{name}]"
        for table in tables:
            lines += [head, *(f"{key} = {_inline(v)}" for key, v in table.items()), ""]
    return "\n".join(lines)


def _inline(value) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(k)} = {_inline(v)}" for k, v in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return json.dumps(value)  # the same spelling for texts, numbers and booleans


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() else json.dumps(key)
