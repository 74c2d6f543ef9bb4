// application, health

import assert from "node:assert/strict";

import { ids, status } from "../world.mjs";

export default {
  "application.create": async ({ svix, name }) => {
    const uid = name("acme");
    const made = await svix.application.create({ name: "Acme", uid, throttleRate: 5, metadata: { a: "b" } });
    assert.deepEqual([made.name, made.uid, made.throttleRate, made.metadata], ["Acme", uid, 5, { a: "b" }]);
    assert.ok(made.createdAt instanceof Date);
  },
  "application.getOrCreate": async ({ svix, name }) => {
    const uid = name("acme");
    const made = await svix.application.getOrCreate({ name: "Acme", uid });
    assert.deepEqual(await svix.application.getOrCreate({ name: "Other", uid }), made);
  },
  "application.get": async ({ svix, name }) => {
    const made = await svix.application.create({ name: "Acme", uid: name("acme") });
    assert.deepEqual(await svix.application.get(made.uid), made);
  },
  "application.list": async (world) => {
    const [first, second] = [await world.app(), await world.app()];
    const page = await world.svix.application.list({ limit: 1, order: "descending" });
    assert.deepEqual([ids(page), page.done], [[second], false]);
    const next = await world.svix.application.list({ limit: 1, order: "descending", iterator: page.iterator });
    assert.deepEqual(ids(next), [first]);
  },
  "application.patch": async (world) => {
    const app = await world.app({ throttleRate: 5 });
    const changed = await world.svix.application.patch(app, { name: "New", throttleRate: null });
    assert.deepEqual([changed.name, changed.throttleRate ?? null], ["New", null]);
  },
  "application.upsert": async (world) => {
    const app = await world.app({ metadata: { a: "b" } });
    const replaced = await world.svix.application.upsert(app, { name: "Newer" });
    assert.deepEqual([replaced.id, replaced.name, replaced.metadata], [app, "Newer", {}]);
  },
  "application.delete": async (world) => {
    const app = await world.app();
    await world.svix.application.delete(app);
    await status(404, world.svix.application.get(app));
  },
  "health.get": async (world) => {
    await world.login("nobody").health.get();
  },
};
