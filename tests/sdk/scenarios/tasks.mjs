// backgroundTask, statistics

import assert from "node:assert/strict";

import { ids } from "../world.mjs";

export default {
  "backgroundTask.get": async (world) => {
    const { app, endpoint } = await world.delivered();
    const { id } = await world.svix.endpoint.recover(app, endpoint, { since: world.ago(1) });
    const found = await world.finished(id);
    assert.deepEqual([found.status, found.task, found.data], ["finished", "endpoint.recover", { messagesSent: 0 }]);
  },
  "backgroundTask.list": async (world) => {
    const { app, endpoint } = await world.delivered();
    const { id } = await world.svix.endpoint.recover(app, endpoint, { since: world.ago(1) });
    await world.finished(id);
    const page = await world.svix.backgroundTask.list({ task: "endpoint.recover", status: "finished", limit: 250 });
    assert.ok(ids(page).includes(id));
  },
  "statistics.aggregateEventTypes": async (world) => {
    const app = await world.app();
    await world.endpoint(app);
    const { id } = await world.svix.statistics.aggregateEventTypes();
    const found = (await world.finished(id)).data.event_types.find((one) => one.appId === app);
    assert.equal(found.hasCatchAllEndpoint, true);
  },
  "statistics.aggregateAppStats": async (world) => {
    const { app } = await world.delivered();
    const wanted = { since: world.ago(1), until: new Date(), appIds: [app, "nobody"] };
    const task = await world.svix.statistics.aggregateAppStats(wanted);
    assert.deepEqual(task.unresolvedAppIds, ["nobody"]);
    assert.equal((await world.finished(task.id)).data.appStats[0].appId, app);
  },
};
