// eventType, environment

import assert from "node:assert/strict";

import { status } from "../world.mjs";

export default {
  "eventType.create": async (world) => {
    const name = world.name("made");
    const schemas = { 1: { type: "object" } };
    const wanted = { name, description: "d", schemas, featureFlags: ["beta"], groupName: "g" };
    const made = await world.svix.eventType.create(wanted);
    assert.deepEqual([made.name, made.schemas, made.featureFlags, made.groupName], [name, schemas, ["beta"], "g"]);
  },
  "eventType.get": async (world) => {
    const made = await world.svix.eventType.create({ name: world.name("got"), description: "d" });
    assert.deepEqual(await world.svix.eventType.get(made.name), made);
  },
  "eventType.list": async (world) => {
    const name = world.name("0"); // before all others
    await world.svix.eventType.create({ name, description: "d", schemas: { 1: {} } });
    const [listed] = (await world.svix.eventType.list({ withContent: true, limit: 1 })).data;
    assert.deepEqual([listed.name, listed.schemas], [name, { 1: {} }]);
  },
  "eventType.patch": async (world) => {
    const name = world.name("patched");
    await world.svix.eventType.create({ name, description: "d", groupName: "g" });
    const changed = await world.svix.eventType.patch(name, { deprecated: true, groupName: null });
    assert.deepEqual([changed.deprecated, changed.groupName ?? null, changed.description], [true, null, "d"]);
  },
  "eventType.upsert": async (world) => {
    const name = world.name("replaced");
    assert.equal((await world.svix.eventType.upsert(name, { description: "new" })).name, name);
    assert.equal((await world.svix.eventType.upsert(name, { description: "newer" })).description, "newer");
  },
  "eventType.delete": async (world) => {
    const name = world.name("deleted");
    await world.svix.eventType.create({ name, description: "d" });
    await world.svix.eventType.delete(name);
    assert.equal((await world.svix.eventType.get(name)).archived, true);
    await world.svix.eventType.delete(name, { expunge: true });
    await status(404, world.svix.eventType.get(name));
  },
  "eventType.importOpenapi": async (world) => {
    const name = world.name("imported");
    const content = { "application/json": { schema: { type: "object" } } };
    const spec = { openapi: "3.1.0", webhooks: { [name]: { post: { description: "d", requestBody: { content } } } } };
    const planned = (await world.svix.eventType.importOpenapi({ spec, dryRun: true })).data;
    assert.deepEqual(planned.toModify?.map((one) => one.name), [name]);
    await status(404, world.svix.eventType.get(name));
    const { modified } = (await world.svix.eventType.importOpenapi({ specRaw: JSON.stringify(spec) })).data;
    assert.deepEqual(modified, [name]);
    assert.deepEqual((await world.svix.eventType.get(name)).schemas, { 1: { type: "object" } });
  },
  "environment.export": async (world) => {
    const name = world.name("exported");
    await world.svix.eventType.create({ name, description: "d" });
    const environment = await world.svix.environment.export();
    assert.ok(environment.eventTypes.some((one) => one.name === name));
    assert.deepEqual([environment.settings ?? null, environment.connectors], [null, []]);
  },
  "environment.import": async (world) => {
    const name = world.name("moved");
    await world.svix.environment.import({ eventTypes: [{ name, description: "d", groupName: "g" }] });
    assert.equal((await world.svix.eventType.get(name)).groupName, "g");
  },
};
