"""The description of the API and its page."""

import re

from tests.api.conftest import Api


async def test_every_operation_has_an_example_of_its_answer_and_body(api: Api) -> None:
    schema = (await api.client.get("/openapi.json")).json()
    lacking = []
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            answers = [answer for code, answer in operation["responses"].items() if code.startswith("2")]
            if (
                not any(c.get("example") for a in answers for c in a.get("content", {}).values())
                and "204" not in operation["responses"]
            ):
                lacking.append(f"{method} {path}: answer")
            assert "422" not in operation["responses"]
            bodies = operation.get("requestBody", {}).get("content", {})
            lacking += [
                f"{method} {path}: {kind}"
                for kind in set(bodies) - {"application/json"}
                if not bodies[kind].get("example")
            ]
            body = bodies.get("application/json")
            if body is not None:
                options = body["schema"].get("anyOf", [body["schema"]])
                name = next(option["$ref"].rpartition("/")[2] for option in options if "$ref" in option)
                if not schema["components"]["schemas"][name].get("examples"):
                    lacking.append(f"{method} {path}: body")
    assert lacking == []


async def test_the_documentation_is_one_page_without_any_outside_host(api: Api) -> None:
    page = (await api.client.get("/docs")).text
    assert "/v3/certificate-issuers" in page
    assert "HMAC Hex key" in page
    assert not re.findall(r"(?:src|href)=\"(?:https?:)?//", page)
    assert "<script" not in page
