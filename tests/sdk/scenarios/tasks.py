"""`background_task`, `statistics`."""

from datetime import UTC, datetime, timedelta

from svix.api import AppUsageStatsIn, BackgroundTaskListOptions, BackgroundTaskStatus, BackgroundTaskType, RecoverIn

from tests.sdk.client import Sdk
from tests.sdk.operations import exercises

HOUR = timedelta(hours=1)


async def started(sdk: Sdk) -> str:
    """The id of a task that resends one message."""
    app, endpoint, message = await sdk.delivered()
    await sdk.message_attempt.resend(app, message, endpoint)
    task = await sdk.endpoint.recover(app, endpoint, RecoverIn(since=datetime.now(UTC) - HOUR))
    return str(task.id)


@exercises("background_task.get")
async def get(sdk: Sdk) -> None:
    task = await sdk.finished(await started(sdk))
    assert (task.status, task.task) == (BackgroundTaskStatus.FINISHED, BackgroundTaskType.ENDPOINT_RECOVER)
    assert task.data == {"messagesSent": 0}


@exercises("background_task.list")
async def listing(sdk: Sdk) -> None:
    task = await started(sdk)
    await sdk.finished(task)
    wanted = BackgroundTaskListOptions(
        task=BackgroundTaskType.ENDPOINT_RECOVER, status=BackgroundTaskStatus.FINISHED, limit=5
    )
    assert [found.id for found in (await sdk.background_task.list(wanted)).data] == [task]
    other = BackgroundTaskListOptions(task=BackgroundTaskType.APPLICATION_STATS)
    assert (await sdk.background_task.list(other)).data == []


@exercises("statistics.aggregate_event_types")
async def aggregate_event_types(sdk: Sdk) -> None:
    app = await sdk.app()
    await sdk.endpoint_of(app)
    task = await sdk.statistics.aggregate_event_types()
    assert task.task is BackgroundTaskType.EVENT_TYPE_AGGREGATE
    assert (await sdk.finished(task.id)).data == {
        "event_types": [{"appId": app, "explicitlySubscribedEventTypes": [], "hasCatchAllEndpoint": True}]
    }


@exercises("statistics.aggregate_app_stats")
async def aggregate_app_stats(sdk: Sdk) -> None:
    app, _, _ = await sdk.delivered()
    now = datetime.now(UTC)
    task = await sdk.statistics.aggregate_app_stats(
        AppUsageStatsIn(since=now - HOUR, until=now, app_ids=[app, "nobody"])
    )
    assert (task.task, task.unresolved_app_ids) == (BackgroundTaskType.APPLICATION_STATS, ["nobody"])
    (stats,) = (await sdk.finished(task.id)).data["appStats"]
    assert (stats["appId"], stats["messageDestinations"]) == (app, 1)
