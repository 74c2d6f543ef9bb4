// authentication

import assert from "node:assert/strict";

import { status } from "../world.mjs";

export default {
  "authentication.appPortalAccess": async (world) => {
    const [app, other] = [await world.app(), await world.app()];
    const access = await world.svix.authentication.appPortalAccess(app, { capabilities: ["ViewBase"], expiry: 3_600 });
    assert.ok(access.url.includes(access.token));
    const visitor = world.login(access.token);
    assert.deepEqual((await visitor.endpoint.list(app)).data, []);
    await status(403, visitor.endpoint.create(app, { url: world.receiver.url() }));
    await status(404, visitor.endpoint.list(other));
  },
  "authentication.logout": async (world) => {
    const app = await world.app();
    const visitor = world.login((await world.svix.authentication.appPortalAccess(app, {})).token);
    await visitor.authentication.logout();
    await status(401, visitor.endpoint.list(app));
  },
  "authentication.expireAll": async (world) => {
    const app = await world.app();
    const enter = async (sessionId) =>
      world.login((await world.svix.authentication.appPortalAccess(app, { sessionId })).token);
    const [ann, bob] = [await enter("ann"), await enter("bob")];
    await world.svix.authentication.expireAll(app, { expiry: 0, sessionIds: ["ann"] });
    await status(401, ann.endpoint.list(app));
    assert.equal((await bob.endpoint.list(app)).done, true);
  },
};
