"""The OpenAPI document, from the bodies that requests may have."""

from typing import Any

from pydantic.json_schema import models_json_schema

from shakespeare_tui.serve import bodies

_POSTS: dict[str, tuple[type[bodies.Body], str]] = {
    "/generate": (bodies.GenerateBody, "Continue a prompt."),
    "/score": (bodies.ScoreBody, "How surprising a text is, token by token."),
    "/v1/completions": (bodies.CompletionBody, "Continue prompts, as OpenAI's clients ask."),
    "/v1/chat/completions": (bodies.ChatBody, "Answer a chat, where the model has a template."),
}
_GETS = {
    "/v1/models": "The models that are served.",
    "/v1/models/{model}": "One of them.",
    "/health": "Whether the server works, and how busy it is.",
    "/metrics": "Counters for Prometheus.",
    "/openapi.json": "This document.",
}
_ERRORS = {
    "400": "Something in the request is wrong; error.param says what.",
    "401": "The API key is missing or wrong.",
    "404": "There is no such model.",
    "408": "The request, or its body, took too long.",
    "413": "The body is too long.",
    "415": "The body is not declared as JSON.",
    "429": "Too many texts wait; try again.",
    "503": "The model cannot be loaded now.",
}


def openapi_document(version: str) -> dict[str, Any]:
    """All routes and what they take."""
    pairs, schema = models_json_schema(
        [(body, "validation") for body, _ in _POSTS.values()],
        ref_template="#/components/schemas/{model}",
    )
    error = {"type": "object", "properties": {"error": {"type": "object"}}}
    schemas = {**schema["$defs"], "Error": error}
    refused = {
        status: {
            "description": text,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
        for status, text in _ERRORS.items()
    }
    done = {"200": {"description": "Done."}}
    paths: dict[str, Any] = {}
    for path, (body, summary) in _POSTS.items():
        content = {"application/json": {"schema": pairs[(body, "validation")]}}
        paths[path] = {
            "post": {
                "summary": summary,
                "requestBody": {"required": True, "content": content},
                "responses": {**done, **refused},
            }
        }
    for path, summary in _GETS.items():
        operation: dict[str, Any] = {"summary": summary, "responses": done}
        if "{model}" in path:
            operation["parameters"] = [
                {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
            ]
        paths[path] = {"get": operation}
    return {
        "openapi": "3.1.0",
        "info": {"title": "shakespeare-tui", "version": version},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }
