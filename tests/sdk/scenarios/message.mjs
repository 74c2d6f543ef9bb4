// message

import assert from "node:assert/strict";
import { Webhook as StandardWebhook } from "standardwebhooks";
import { Webhook } from "svix";

import { ids, SECRET } from "../world.mjs";

const expired = async (world, app, message) =>
  assert.deepEqual((await world.svix.message.get(app, message, { withContent: true })).payload, { expired: true });

export default {
  "message.create": async (world) => {
    const wanted = { eventType: "a.b", payload: { n: 1 }, eventId: "e1", channels: ["x"], tags: ["t"] };
    const made = await world.svix.message.create(await world.app(), wanted, { withContent: true });
    assert.deepEqual([made.payload, made.eventId, made.channels, made.tags], [{ n: 1 }, "e1", ["x"], ["t"]]);
  },
  "message.create with an application that is not there": async (world) => {
    const uid = world.name("acme");
    await world.svix.message.create(uid, { eventType: "a.b", payload: {}, application: { name: "Acme", uid } });
    assert.equal((await world.svix.application.get(uid)).name, "Acme");
  },
  "message.create that verifies at the receiver": async (world) => {
    const url = world.receiver.url();
    const app = await world.app();
    await world.endpoint(app, { url, secret: SECRET });
    const payload = { text: "žluťoučký kůň 🐴", n: 1.5 };
    await world.publish(app, { payload });
    const [{ headers, body }] = await world.receiver.deliveries(url, 1);
    assert.deepEqual(new StandardWebhook(SECRET).verify(body, headers), payload);
    new Webhook(SECRET).verify(body, headers);
    for (const kind of [StandardWebhook, Webhook]) {
      assert.throws(() => new kind(SECRET).verify(body + " ", headers), /No matching signature/);
    }
  },
  "message.get": async (world) => {
    const app = await world.app();
    await world.publish(app, { eventId: "e1" });
    assert.deepEqual((await world.svix.message.get(app, "e1", { withContent: true })).payload, { n: 1 });
  },
  "message.list": async (world) => {
    const app = await world.app();
    const first = await world.publish(app, { eventType: "a.b", channels: ["x"] });
    const second = await world.publish(app);
    assert.deepEqual(ids(await world.svix.message.list(app)), [second.id, first.id]);
    const wanted = { eventTypes: ["a.b", "c"], channel: "x", after: world.ago(1), before: world.ago(-1) };
    assert.deepEqual(ids(await world.svix.message.list(app, wanted)), [first.id]);
  },
  "message.precheck": async (world) => {
    const app = await world.app();
    await world.endpoint(app, { channels: ["x"] });
    const active = async (channel) =>
      (await world.svix.message.precheck(app, { eventType: "a.b", channels: [channel] })).active;
    assert.deepEqual([await active("x"), await active("y")], [true, false]);
  },
  "message.expungeContent": async (world) => {
    const { app, message } = await world.delivered();
    await world.svix.message.expungeContent(app, message);
    await expired(world, app, message);
  },
  "message.bulkExpungeContent": async (world) => {
    const app = await world.app();
    const { id } = await world.publish(app, { eventId: "e1" });
    const { results } = await world.svix.message.bulkExpungeContent(app, { ids: ["e1", "e2"] });
    assert.deepEqual(results, { e1: "expunged", e2: "not-found" });
    await expired(world, app, id);
  },
  "message.expungeAllContents": async (world) => {
    const app = await world.app();
    const { id } = await world.publish(app);
    const task = await world.svix.message.expungeAllContents(app);
    assert.equal(task.task, "application.purge_content");
    assert.deepEqual((await world.finished(task.id)).data, { messagesPurged: 1 });
    await expired(world, app, id);
  },
};
