// operationalWebhook.endpoint

import assert from "node:assert/strict";

import { ids, SECRET, status } from "../world.mjs";

const operated = async (world, more = {}) =>
  (await world.svix.operationalWebhook.endpoint.create({ url: world.receiver.url(), ...more })).id;

export default {
  "operationalWebhook.endpoint.create": async (world) => {
    const url = world.receiver.url();
    const wanted = { url, description: "d", eventTypes: ["endpoint.disabled"], metadata: { a: "b" } };
    const made = await world.svix.operationalWebhook.endpoint.create(wanted);
    assert.deepEqual([made.url, made.eventTypes, made.metadata], [url, ["endpoint.disabled"], { a: "b" }]);
  },
  "operationalWebhook.endpoint.get": async (world) => {
    const id = await operated(world);
    assert.equal((await world.svix.operationalWebhook.endpoint.get(id)).id, id);
  },
  "operationalWebhook.endpoint.list": async (world) => {
    const id = await operated(world);
    assert.ok(ids(await world.svix.operationalWebhook.endpoint.list({ limit: 250 })).includes(id));
  },
  "operationalWebhook.endpoint.upsert": async (world) => {
    const [id, url] = [await operated(world, { disabled: true }), world.receiver.url()];
    const replaced = await world.svix.operationalWebhook.endpoint.upsert(id, { url });
    assert.deepEqual([replaced.id, replaced.url, replaced.disabled], [id, url, false]);
  },
  "operationalWebhook.endpoint.delete": async (world) => {
    const id = await operated(world);
    await world.svix.operationalWebhook.endpoint.delete(id);
    await status(404, world.svix.operationalWebhook.endpoint.get(id));
  },
  "operationalWebhook.endpoint.getSecret": async (world) => {
    const id = await operated(world, { secret: SECRET });
    assert.equal((await world.svix.operationalWebhook.endpoint.getSecret(id)).key, SECRET);
  },
  "operationalWebhook.endpoint.rotateSecret": async (world) => {
    const id = await operated(world);
    await world.svix.operationalWebhook.endpoint.rotateSecret(id, { key: SECRET });
    assert.equal((await world.svix.operationalWebhook.endpoint.getSecret(id)).key, SECRET);
  },
  "operationalWebhook.endpoint.getHeaders": async (world) => {
    const id = await operated(world, { headers: { "X-A": "1" } });
    assert.deepEqual((await world.svix.operationalWebhook.endpoint.getHeaders(id)).headers, { "X-A": "1" });
  },
  "operationalWebhook.endpoint.setHeaders": async (world) => {
    const id = await operated(world, { headers: { "X-A": "1" } });
    await world.svix.operationalWebhook.endpoint.setHeaders(id, { headers: { "X-B": "2" } });
    assert.deepEqual((await world.svix.operationalWebhook.endpoint.getHeaders(id)).headers, { "X-B": "2" });
  },
};
