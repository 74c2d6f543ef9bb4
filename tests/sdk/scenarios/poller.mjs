// message.poller: messages that a consumer fetches by itself

import assert from "node:assert/strict";

import { ids } from "../world.mjs";

const polled = async (world) => {
  const app = await world.app();
  return [app, await world.endpoint(app, { disabled: true })];
};

export default {
  "message.poller.poll": async (world) => {
    const where = await polled(world);
    const [first, second] = [await world.publish(where[0]), await world.publish(where[0])];
    const page = await world.svix.message.poller.poll(...where, { limit: 1 });
    assert.deepEqual([ids(page), page.done], [[first.id], false]);
    assert.deepEqual(ids(await world.svix.message.poller.poll(...where, { iterator: page.iterator })), [second.id]);
  },
  "message.poller.consumerPoll": async (world) => {
    const where = await polled(world);
    const { id } = await world.publish(where[0]);
    assert.deepEqual(ids(await world.svix.message.poller.consumerPoll(...where, "me")), [id]);
  },
  "message.poller.consumerSeek": async (world) => {
    const where = await polled(world);
    const { id } = await world.publish(where[0]);
    await world.svix.message.poller.consumerPoll(...where, "me");
    const { iterator } = await world.svix.message.poller.consumerSeek(...where, "me", { after: world.ago(1) });
    assert.deepEqual(ids(await world.svix.message.poller.consumerPoll(...where, "me", { iterator })), [id]);
  },
};
