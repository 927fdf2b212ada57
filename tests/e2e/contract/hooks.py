"""What schemathesis must know beside the API's description: what would harm the machine, and what a schema can't say."""

import json
import re

import schemathesis

# Codes that are about this installation; every other code says that the document itself is wrong.
HERE = {"unknown_team", "unknown_class", "never_fits", "team_not_allowed"}
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
# Documents of one bulk submission that may become jobs.
RUN_MAX = 3
ON = (None, True, "true", "True", "1", "")


@schemathesis.serializer("application/toml")
def toml(_context, value):
    """A catalog is a text; what is not, is sent as it would be written."""
    return value if isinstance(value, bytes) else str(value).encode(errors="surrogatepass")


@schemathesis.deserializer("application/jsonl")
def jsonl(_context, response):
    """A list of what stands on the lines."""
    return [json.loads(line) for line in response.text.splitlines()]


@schemathesis.hook
def before_call(context, case, kwargs):
    """The last word on every request."""
    operation = case.operation.label
    if operation in ("POST /v1/jobs", "POST /v1/jobs/batch"):
        body = case.body if isinstance(case.body, dict) else {}
        documents = body.get("jobs") if operation.endswith("batch") else [body]
        documents = documents if isinstance(documents, list) else []
        for document in documents:
            _harmless(document)
        # At the limit there are a thousand: they would all be run. So most become documents that are refused.
        documents[RUN_MAX:] = [{} for _ in documents[RUN_MAX:]]
    if operation == "PUT /v1/catalog" and _query(case).get("dry_run") in (*ON, False, "false", "0"):
        # The catalog stays what the jobs of this test need; that it is put in force is other tests' part.
        case.query = {**_query(case), "dry_run": "true"}
    if operation in ("GET /v1/events", "GET /v1/jobs/{id}/events") and _query(case).get("follow") in ON:
        # Following does not end, so only what ends can be looked at whole.
        case.query = {**_query(case), "follow": "false"}
    if operation == "GET /v1/jobs/{id}/logs" and _query(case).get("follow") in ON[1:]:
        case.query = {**_query(case), "follow": "false"}


@schemathesis.hook
def filter_case(context, case):
    """OpenAPI can't say that two parameters exclude each other."""
    query = _query(case)
    if case.operation.label != "GET /v1/jobs/{id}/logs":
        return True
    of_one = [name for name in ("offset", "tail_bytes") if name in query]
    if len(of_one) == 2 or (of_one and query.get("attempt") == "all"):
        return False
    # Of pods there is no more than the end of what they printed.
    of_pods = query.get("source") in ("head", "workers", "submitter")
    return not (of_pods and ("offset" in query or query.get("attempt") == "all" or query.get("follow") in ON[1:]))


@schemathesis.check
def what_the_schema_allows_is_not_malformed(context, response, case):
    """A refusal of a document by its schema is about this installation, and nothing in it is malformed."""
    if case.operation.label != "POST /v1/jobs" or response.status_code != 422:
        return
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    # JSON Schema can't say that no name may be in both lists, and that a key beside the document must be the same.
    clusters = case.body.get("clusters") or {}
    beyond = {"clusters.avoid"} if set(clusters.get("only") or []) & set(clusters.get("avoid") or []) else set()
    beyond |= {"Idempotency-Key"} if case.body.get("key") else set()
    # Nor that a count excludes a range, and that a type of gpu needs gpus: what is asked of workers hangs together.
    beyond |= {f"ray_cluster.workers.{name}" for name in ("count", "min", "max", "gpu_type")}
    # Nor that head and workers together fit into what the job asks for.
    beyond |= {"ray_cluster.head", "ray_cluster.workers"} if case.body.get("resources") else set()
    wrong = [e for e in response.json()["errors"] if e["code"] not in HERE and e["field"] not in beyond]
    assert not wrong, f"the schema allows what is refused: {json.dumps(wrong)}"


@schemathesis.check
def a_wrong_document_has_a_verdict(context, response, case):
    """In a bulk submission whatever is wrong is refused, alone or with the whole."""
    if case.operation.label != "POST /v1/jobs/batch" or response.status_code != 200:
        return
    verdicts = [verdict["verdict"] for verdict in response.json()["verdicts"]]
    assert len(verdicts) == len(case.body["jobs"]), verdicts
    if case.meta is not None and not case.meta.generation.mode.is_positive:
        data = case.meta.phase.data
        location = getattr(data, "parameter_location", None)
        if location is not None and location.name == "BODY":
            assert not verdicts or set(verdicts) - {"accepted", "duplicate"}, verdicts


def _query(case):
    return case.query if isinstance(case.query, dict) else {}


def _harmless(document):
    """Jobs are really run here: each command becomes one that does nothing, as long as it was."""
    if not isinstance(document, dict):
        return
    command = document.get("entrypoint")
    if isinstance(command, str) and command.strip() and "\0" not in command:
        document["entrypoint"] = ":" + " " * (len(command) - 1)
    # A team that there is, so that there are jobs to go on with.
    if isinstance(document.get("team"), str) and LABEL.fullmatch(document["team"]):
        document["team"] = "ads"
