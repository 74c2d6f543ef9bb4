// integration

import assert from "node:assert/strict";

import { ids, status } from "../world.mjs";

const integrated = async (world) => {
  const app = await world.app();
  return [app, (await world.svix.integration.create(app, { name: "CI", featureFlags: ["beta"] })).id];
};

export default {
  "integration.create": async (world) => {
    const made = await world.svix.integration.create(await world.app(), { name: "CI", featureFlags: ["beta"] });
    assert.deepEqual([made.name, made.featureFlags], ["CI", ["beta"]]);
  },
  "integration.get": async (world) => {
    assert.equal((await world.svix.integration.get(...(await integrated(world)))).name, "CI");
  },
  "integration.list": async (world) => {
    const [app, id] = await integrated(world);
    assert.deepEqual(ids(await world.svix.integration.list(app)), [id]);
  },
  "integration.update": async (world) => {
    const where = await integrated(world);
    assert.equal((await world.svix.integration.update(...where, { name: "New" })).name, "New");
  },
  "integration.delete": async (world) => {
    const where = await integrated(world);
    await world.svix.integration.delete(...where);
    await status(404, world.svix.integration.get(...where));
  },
  "integration.rotateKey": async (world) => {
    const [app, id] = await integrated(world);
    const { key } = await world.svix.integration.rotateKey(app, id);
    assert.deepEqual((await world.login(key).endpoint.list(app)).data, []);
  },
};
