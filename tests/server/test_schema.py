"""The OpenAPI document against the service, by schemathesis: whatever it makes up is answered as the document says.

The document cannot say that bytes are audio, so what schemathesis takes for good data may be refused. A longer search:
`schemathesis run http://127.0.0.1:8000/openapi.json --exclude-checks positive_data_acceptance`.
"""

import pytest
from hypothesis import HealthCheck, Phase, given, settings

schemathesis = pytest.importorskip("schemathesis")


def test_made_up_requests_are_answered_as_the_document_says(judge, serving):
    from schemathesis.checks import positive_data_acceptance

    with serving.running(judge) as service:
        document = schemathesis.openapi.from_url(f"{service.url}/openapi.json")
        operations = [found.ok() for found in document.get_all_operations()]
        statuses: dict[str, set[int]] = {operation.path: set() for operation in operations}
        for operation in operations:

            @settings(
                max_examples=8,
                database=None,
                derandomize=True,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy())
            def answered(case):
                answer = case.call_and_validate(excluded_checks=[positive_data_acceptance])
                statuses[case.path].add(answer.status_code)

            answered()
    assert set(statuses) == {"/v1/score", "/v1/compare", "/v1/rank", "/v1/models", "/healthz", "/metrics"}
    assert all(statuses[path] == {200} for path in ("/v1/models", "/healthz", "/metrics"))
    assert all(seen and seen <= {200, 400, 413, 415, 422} for seen in statuses.values())


def test_good_answers_are_as_the_document_says(judge, serving):
    """Real audio, which nothing that is made up hits."""
    import requests

    sounds = [serving.sound(i, level=0.05 * (i + 1)) for i in range(4)]
    sent = {
        "/v1/score": [("files", ("a.wav", sounds[0])), ("files", ("b.wav", b"no"))],
        "/v1/compare": [("a", ("a.wav", sounds[0])), ("b", ("b.wav", sounds[1]))],
        "/v1/rank": [("files", (f"{system}/{u}.wav", sounds[2 * i + u])) for i, system in enumerate("xy") for u in range(2)],
    }
    with serving.running(judge) as service:
        document = schemathesis.openapi.from_url(f"{service.url}/openapi.json")
        for path, files in sent.items():
            for query in ("", "?timeline=true") if path == "/v1/score" else ("",):
                answer = requests.post(f"{service.url}{path}{query}", files=files, timeout=60)
                assert answer.status_code == 200
                document[path]["POST"].validate_response(answer)
