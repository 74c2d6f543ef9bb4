"""Every operation of the official SDKs that this server answers, or will: what each asks for, and which are yet to come."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from tests.sdk.client import Sdk

OPERATIONS = {
    "application.list": "GET /api/v1/app",
    "application.create": "POST /api/v1/app",
    "application.get_or_create": "POST /api/v1/app",
    "application.get": "GET /api/v1/app/{app_id}",
    "application.upsert": "PUT /api/v1/app/{app_id}",
    "application.delete": "DELETE /api/v1/app/{app_id}",
    "application.patch": "PATCH /api/v1/app/{app_id}",
    "authentication.app_portal_access": "POST /api/v1/auth/app-portal-access/{app_id}",
    "authentication.logout": "POST /api/v1/auth/logout",
    "authentication.expire_all": "POST /api/v1/auth/app/{app_id}/expire-all",
    "background_task.list": "GET /api/v1/background-task",
    "background_task.get": "GET /api/v1/background-task/{task_id}",
    "endpoint.list": "GET /api/v1/app/{app_id}/endpoint",
    "endpoint.create": "POST /api/v1/app/{app_id}/endpoint",
    "endpoint.get": "GET /api/v1/app/{app_id}/endpoint/{endpoint_id}",
    "endpoint.upsert": "PUT /api/v1/app/{app_id}/endpoint/{endpoint_id}",
    "endpoint.delete": "DELETE /api/v1/app/{app_id}/endpoint/{endpoint_id}",
    "endpoint.patch": "PATCH /api/v1/app/{app_id}/endpoint/{endpoint_id}",
    "endpoint.get_secret": "GET /api/v1/app/{app_id}/endpoint/{endpoint_id}/secret",
    "endpoint.rotate_secret": "POST /api/v1/app/{app_id}/endpoint/{endpoint_id}/secret/rotate",
    "endpoint.get_headers": "GET /api/v1/app/{app_id}/endpoint/{endpoint_id}/headers",
    "endpoint.set_headers": "PUT /api/v1/app/{app_id}/endpoint/{endpoint_id}/headers",
    "endpoint.patch_headers": "PATCH /api/v1/app/{app_id}/endpoint/{endpoint_id}/headers",
    "endpoint.replay_missing": "POST /api/v1/app/{app_id}/endpoint/{endpoint_id}/replay-missing",
    "endpoint.bulk_replay": "POST /api/v1/app/{app_id}/endpoint/{endpoint_id}/bulk-replay",
    "endpoint.get_stats": "GET /api/v1/app/{app_id}/endpoint/{endpoint_id}/stats",
    "endpoint.get_attempt_stats": "GET /api/v1/app/{app_id}/endpoint/{endpoint_id}/attempt-stats",
    "endpoint.recover": "POST /api/v1/app/{app_id}/endpoint/{endpoint_id}/recover",
    "endpoint.send_example": "POST /api/v1/app/{app_id}/endpoint/{endpoint_id}/send-example",
    "endpoint.transformation.get": "GET /api/v1/app/{app_id}/endpoint/{endpoint_id}/transformation",
    "endpoint.transformation.patch": "PATCH /api/v1/app/{app_id}/endpoint/{endpoint_id}/transformation",
    "endpoint.transformation_partial_update": "PATCH /api/v1/app/{app_id}/endpoint/{endpoint_id}/transformation",
    "environment.export": "POST /api/v1/environment/export",
    "environment.import_": "POST /api/v1/environment/import",
    "event_type.list": "GET /api/v1/event-type",
    "event_type.create": "POST /api/v1/event-type",
    "event_type.import_openapi": "POST /api/v1/event-type/import/openapi",
    "event_type.get": "GET /api/v1/event-type/{event_type_name}",
    "event_type.upsert": "PUT /api/v1/event-type/{event_type_name}",
    "event_type.delete": "DELETE /api/v1/event-type/{event_type_name}",
    "event_type.patch": "PATCH /api/v1/event-type/{event_type_name}",
    "health.get": "GET /api/v1/health",
    "integration.list": "GET /api/v1/app/{app_id}/integration",
    "integration.create": "POST /api/v1/app/{app_id}/integration",
    "integration.get": "GET /api/v1/app/{app_id}/integration/{integ_id}",
    "integration.update": "PUT /api/v1/app/{app_id}/integration/{integ_id}",
    "integration.delete": "DELETE /api/v1/app/{app_id}/integration/{integ_id}",
    "integration.rotate_key": "POST /api/v1/app/{app_id}/integration/{integ_id}/key/rotate",
    "message.list": "GET /api/v1/app/{app_id}/msg",
    "message.create": "POST /api/v1/app/{app_id}/msg",
    "message.get": "GET /api/v1/app/{app_id}/msg/{msg_id}",
    "message.precheck": "POST /api/v1/app/{app_id}/msg/precheck/active",
    "message.expunge_content": "DELETE /api/v1/app/{app_id}/msg/{msg_id}/content",
    "message.bulk_expunge_content": "POST /api/v1/app/{app_id}/msg/bulk-expunge",
    "message.expunge_all_contents": "POST /api/v1/app/{app_id}/msg/expunge-all-contents",
    "message.poller.poll": "GET /api/v1/app/{app_id}/poller/{sink_id}",
    "message.poller.consumer_seek": "POST /api/v1/app/{app_id}/poller/{sink_id}/consumer/{consumer_id}/seek",
    "message.poller.consumer_poll": "GET /api/v1/app/{app_id}/poller/{sink_id}/consumer/{consumer_id}",
    "message_attempt.list_by_endpoint": "GET /api/v1/app/{app_id}/attempt/endpoint/{endpoint_id}",
    "message_attempt.list_by_msg": "GET /api/v1/app/{app_id}/attempt/msg/{msg_id}",
    "message_attempt.list_attempted_messages": "GET /api/v1/app/{app_id}/endpoint/{endpoint_id}/msg",
    "message_attempt.list_attempted_destinations": "GET /api/v1/app/{app_id}/msg/{msg_id}/endpoint",
    "message_attempt.get": "GET /api/v1/app/{app_id}/msg/{msg_id}/attempt/{attempt_id}",
    "message_attempt.expunge_content": "DELETE /api/v1/app/{app_id}/msg/{msg_id}/attempt/{attempt_id}/content",
    "message_attempt.resend": "POST /api/v1/app/{app_id}/msg/{msg_id}/endpoint/{endpoint_id}/resend",
    "operational_webhook.endpoint.list": "GET /api/v1/operational-webhook/endpoint",
    "operational_webhook.endpoint.create": "POST /api/v1/operational-webhook/endpoint",
    "operational_webhook.endpoint.get": "GET /api/v1/operational-webhook/endpoint/{endpoint_id}",
    "operational_webhook.endpoint.upsert": "PUT /api/v1/operational-webhook/endpoint/{endpoint_id}",
    "operational_webhook.endpoint.delete": "DELETE /api/v1/operational-webhook/endpoint/{endpoint_id}",
    "operational_webhook.endpoint.get_secret": "GET /api/v1/operational-webhook/endpoint/{endpoint_id}/secret",
    "operational_webhook.endpoint.rotate_secret": "POST /api/v1/operational-webhook/endpoint/{endpoint_id}/secret/rotate",
    "operational_webhook.endpoint.get_headers": "GET /api/v1/operational-webhook/endpoint/{endpoint_id}/headers",
    "operational_webhook.endpoint.set_headers": "PUT /api/v1/operational-webhook/endpoint/{endpoint_id}/headers",
    "statistics.aggregate_event_types": "PUT /api/v1/stats/usage/event-types",
    "statistics.aggregate_app_stats": "POST /api/v1/stats/usage/app",
}
"""The method of the SDK → the request that it sends."""

ELSEWHERE = (
    "autoconfig_subscription.", "connector.", "destination.", "ingest.", "streaming.", "authentication.stream_",
    "authentication.rotate_stream_poller_token", "authentication.get_stream_poller_token",
)  # fmt: skip
"""Operations of products beside webhooks for applications: streams, destinations, ingest and the like."""

NOT_YET = frozenset[str]()
"""Scenarios that the server still refuses. One that works must be deleted here, or its test fails."""

SCENARIOS: dict[str, "Scenario"] = {}
"""What calls an operation and looks at what came of it, by the operation's name; more than one says what is different."""

Scenario = Callable[[Sdk], Awaitable[None]]
S = TypeVar("S", bound=Scenario)


def exercises(operation: str, difference: str = "") -> Callable[[S], S]:
    """Register a scenario of an operation of the table."""
    name = f"{operation} {difference}".strip()
    assert operation in OPERATIONS and name not in SCENARIOS, name

    def register(scenario: S) -> S:
        SCENARIOS[name] = scenario
        return scenario

    return register
