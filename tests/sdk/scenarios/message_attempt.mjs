// messageAttempt

import assert from "node:assert/strict";

export default {
  "messageAttempt.listByEndpoint": async (world) => {
    const { app, endpoint, message, url } = await world.delivered();
    const wanted = { withContent: true, withMsg: true, status: 0, statusCodeClass: 200 };
    const [attempt] = (await world.svix.messageAttempt.listByEndpoint(app, endpoint, wanted)).data;
    assert.deepEqual([attempt.url, attempt.response, attempt.responseStatusCode], [url, "thanks", 200]);
    assert.deepEqual([attempt.statusText, attempt.msg.id], ["success", message]);
  },
  "messageAttempt.listByMsg": async (world) => {
    const { app, endpoint, message } = await world.delivered("fail");
    const [attempt] = (await world.svix.messageAttempt.listByMsg(app, message, { endpointId: endpoint })).data;
    assert.deepEqual([attempt.status, attempt.responseStatusCode, attempt.response], [2, 500, "{}"]);
  },
  "messageAttempt.listAttemptedMessages": async (world) => {
    const { app, endpoint, message } = await world.delivered();
    const [found] = (await world.svix.messageAttempt.listAttemptedMessages(app, endpoint, { withContent: true })).data;
    assert.deepEqual([found.id, found.status, found.payload], [message, 0, { n: 1 }]);
  },
  "messageAttempt.listAttemptedDestinations": async (world) => {
    const { app, endpoint, message } = await world.delivered();
    const [found] = (await world.svix.messageAttempt.listAttemptedDestinations(app, message)).data;
    assert.deepEqual([found.id, found.status, found.nextAttempt ?? null], [endpoint, 0, null]);
  },
  "messageAttempt.get": async (world) => {
    const { app, message } = await world.delivered();
    const [{ id }] = await world.attempts(app, message, 1);
    assert.equal((await world.svix.messageAttempt.get(app, message, id)).response, "thanks");
  },
  "messageAttempt.expungeContent": async (world) => {
    const { app, message } = await world.delivered();
    const [{ id }] = await world.attempts(app, message, 1);
    await world.svix.messageAttempt.expungeContent(app, message, id);
    assert.equal((await world.svix.messageAttempt.get(app, message, id)).response, "EXPUNGED");
  },
  "messageAttempt.resend": async (world) => {
    const { app, endpoint, message } = await world.delivered();
    await world.svix.messageAttempt.resend(app, message, endpoint);
    assert.equal((await world.attempts(app, message, 2))[0].triggerType, 1);
  },
};
