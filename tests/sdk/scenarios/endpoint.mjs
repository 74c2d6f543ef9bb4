// endpoint

import assert from "node:assert/strict";
import { Webhook } from "standardwebhooks";

import { ids, one, SECRET, status } from "../world.mjs";

const CODE = "function handler(webhook) { return webhook; }";

export default {
  "endpoint.create": async (world) => {
    const app = await world.app();
    const url = world.receiver.url();
    const wanted = { url, uid: "main", channels: ["x"], headers: { "X-A": "1" }, metadata: { a: "b" }, description: "d" };
    const made = await world.svix.endpoint.create(app, wanted);
    assert.deepEqual([made.url, made.uid, made.channels, made.metadata], [url, "main", ["x"], { a: "b" }]);
  },
  "endpoint.get": async (world) => {
    const [app, id] = await one(world, { uid: "main" });
    assert.equal((await world.svix.endpoint.get(app, "main")).id, id);
  },
  "endpoint.list": async (world) => {
    const [app, first] = await one(world);
    const second = await world.endpoint(app);
    assert.deepEqual(ids(await world.svix.endpoint.list(app)), [second, first]);
    assert.deepEqual(ids(await world.svix.endpoint.list(app, { limit: 1, order: "ascending" })), [first]);
  },
  "endpoint.patch": async (world) => {
    const where = await one(world, { channels: ["x"] });
    const changed = await world.svix.endpoint.patch(...where, { disabled: true, channels: null });
    assert.deepEqual([changed.disabled, changed.channels ?? null], [true, null]);
  },
  "endpoint.upsert": async (world) => {
    const where = await one(world, { disabled: true });
    const url = world.receiver.url();
    const replaced = await world.svix.endpoint.upsert(...where, { url });
    assert.deepEqual([replaced.id, replaced.disabled, replaced.url], [where[1], false, url]);
  },
  "endpoint.delete": async (world) => {
    const where = await one(world);
    await world.svix.endpoint.delete(...where);
    await status(404, world.svix.endpoint.get(...where));
  },
  "endpoint.getSecret": async (world) => {
    const found = await world.svix.endpoint.getSecret(...(await one(world, { secret: SECRET })));
    assert.equal(found.key, SECRET);
  },
  "endpoint.rotateSecret": async (world) => {
    const where = await one(world);
    await world.svix.endpoint.rotateSecret(...where, { key: SECRET, gracePeriodSeconds: 60 });
    assert.equal((await world.svix.endpoint.getSecret(...where)).key, SECRET);
  },
  "endpoint.getHeaders": async (world) => {
    const where = await one(world, { headers: { "X-A": "1", Authorization: "x" } });
    assert.deepEqual(await world.svix.endpoint.getHeaders(...where), {
      headers: { "X-A": "1" },
      sensitive: ["Authorization"],
    });
  },
  "endpoint.setHeaders": async (world) => {
    const where = await one(world, { headers: { "X-A": "1" } });
    await world.svix.endpoint.setHeaders(...where, { headers: { "X-B": "2" } });
    assert.deepEqual((await world.svix.endpoint.getHeaders(...where)).headers, { "X-B": "2" });
  },
  "endpoint.patchHeaders": async (world) => {
    const where = await one(world, { headers: { "X-A": "1", "X-C": "3" } });
    await world.svix.endpoint.patchHeaders(...where, { headers: { "X-B": "2" }, deleteHeaders: ["X-A"] });
    assert.deepEqual((await world.svix.endpoint.getHeaders(...where)).headers, { "X-B": "2", "X-C": "3" });
  },
  "endpoint.transformation.get": async (world) => {
    const found = await world.svix.endpoint.transformation.get(...(await one(world)));
    assert.deepEqual([found.code ?? null, found.enabled ?? false], [null, false]);
  },
  "endpoint.transformation.patch": async (world) => {
    const where = await one(world);
    await world.svix.endpoint.transformation.patch(...where, { code: CODE, enabled: true, variables: { a: "b" } });
    const found = await world.svix.endpoint.transformation.get(...where);
    assert.deepEqual([found.code, found.enabled, found.variables], [CODE, true, { a: "b" }]);
  },
  "endpoint.transformation.patch that changes and cancels what is sent": async (world) => {
    const url = world.receiver.url();
    const where = await one(world, { url, secret: SECRET });
    const code = `function handler(webhook) {
      webhook.cancel = webhook.payload.n > 1;
      webhook.payload = { text: webhook.eventType + webhook.variables.mark };
      return webhook;
    }`;
    await world.svix.endpoint.transformation.patch(...where, { code, enabled: true, variables: { mark: "!" } });
    await world.publish(where[0]);
    const [{ headers, body }] = await world.receiver.deliveries(url, 1);
    assert.deepEqual(new Webhook(SECRET).verify(body, headers), { text: "invoice.paid!" });
    const cancelled = await world.publish(where[0], { payload: { n: 2 } });
    const [attempt] = await world.attempts(where[0], cancelled.id, 1);
    assert.deepEqual([attempt.status, attempt.statusText, attempt.responseStatusCode], [4, "canceled", 0]);
    await world.svix.endpoint.transformation.patch(...where, { code: null });
    assert.equal((await world.svix.endpoint.transformation.get(...where)).code, null);
  },
  "endpoint.transformation.patch that cannot run": async (world) => {
    const where = await one(world);
    const change = world.svix.endpoint.transformation.patch(...where, { code: "function handler(webhook) {" });
    await assert.rejects(change, (error) => error.code === 422 && /SyntaxError.*line 2/.test(JSON.stringify(error.body)));
  },
  "endpoint.transformationPartialUpdate": async (world) => {
    const where = await one(world);
    await world.svix.endpoint.transformationPartialUpdate(...where, { code: CODE });
    assert.equal((await world.svix.endpoint.transformation.get(...where)).code, CODE);
  },
  "endpoint.getStats": async (world) => {
    const { app, endpoint } = await world.delivered();
    const since = world.ago(1);
    const stats = await world.svix.endpoint.getStats(app, endpoint, { since });
    assert.deepEqual(stats, { success: 1, fail: 0, pending: 0, sending: 0, canceled: 0 });
  },
  "endpoint.recover": async (world) => {
    const { app, endpoint, message, url } = await world.delivered("fail");
    const task = await world.svix.endpoint.recover(app, endpoint, { since: world.ago(1) });
    assert.equal(task.task, "endpoint.recover");
    const deliveries = await world.receiver.deliveries(url, 2);
    assert.equal(deliveries[1].headers["webhook-id"], message);
  },
  "endpoint.replayMissing": async (world) => {
    const app = await world.app();
    const message = await world.publish(app);
    const url = world.receiver.url();
    const task = await world.svix.endpoint.replayMissing(app, await world.endpoint(app, { url }), { since: world.ago(1) });
    assert.equal(task.task, "endpoint.replay");
    assert.equal((await world.receiver.deliveries(url, 1))[0].headers["webhook-id"], message.id);
  },
  "endpoint.bulkReplay": async (world) => {
    const { app, endpoint, message, url } = await world.delivered("ok", { tags: ["wanted"] });
    const task = await world.svix.endpoint.bulkReplay(app, endpoint, { since: world.ago(1), tag: "wanted" });
    assert.equal(task.task, "endpoint.bulk-replay");
    assert.equal((await world.receiver.deliveries(url, 2))[1].headers["webhook-id"], message);
  },
  "endpoint.sendExample": async (world) => {
    const eventType = world.name("example");
    const schemas = { 1: { type: "object", examples: [{ n: 1 }, { n: 2 }] } };
    await world.svix.eventType.create({ name: eventType, description: "", schemas });
    const app = await world.app();
    const url = world.receiver.url();
    const id = await world.endpoint(app, { url });
    const message = await world.svix.endpoint.sendExample(app, id, { eventType, exampleIndex: 1 });
    assert.equal(message.eventType, eventType);
    assert.deepEqual(JSON.parse((await world.receiver.deliveries(url, 1))[0].body), { n: 2 });
  },
};
