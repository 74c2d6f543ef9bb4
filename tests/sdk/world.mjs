// What a scenario has: the SDK, which remembers what it asked for, and short ways to what most scenarios begin with.

import assert from "node:assert/strict";
import { ApiException, Svix } from "svix";

export const HOUR = 3_600_000;

export class World {
  requests = [];
  #url;
  #calling = "";

  constructor(url, token, receiver) {
    this.#url = url;
    this.receiver = receiver;
    this.svix = this.login(token);
  }

  /** The SDK with a token. */
  login(token) {
    const request = async (input, init) => {
      const operation = this.#calling;
      const response = await fetch(input, init);
      const { method } = init;
      this.requests.push({ operation, method, path: new URL(input).pathname, status: response.status });
      return response;
    };
    return this.#watched(new Svix(token, { serverUrl: this.#url, fetch: request, numRetries: 0 }));
  }

  #watched(resource, prefix = "") {
    const get = (target, name) => {
      const member = target[name];
      if (typeof member === "object") return this.#watched(member, `${prefix}${name}.`);
      if (member === undefined) return undefined; // a promise asks for `then`
      return (...args) => {
        this.#calling = prefix + name;
        return member.apply(target, args);
      };
    };
    return new Proxy(resource, { get });
  }

  ago(hours) {
    return new Date(Date.now() - hours * HOUR);
  }

  async app(more = {}) {
    return (await this.svix.application.create({ name: "Acme", ...more })).id;
  }

  async endpoint(app, more = {}) {
    return (await this.svix.endpoint.create(app, { url: this.receiver.url(), ...more })).id;
  }

  async publish(app, more = {}) {
    return await this.svix.message.create(app, { eventType: "invoice.paid", payload: { n: 1 }, ...more });
  }

  /** The newest attempts of a message first, when there are at least so many; each question is a round trip. */
  async attempts(app, message, count) {
    for (const end = Date.now() + 60_000; Date.now() < end; ) {
      const { data } = await this.svix.messageAttempt.listByMsg(app, message);
      if (data.length >= count) return data;
    }
    throw new Error(`${message} has less than ${count} attempts`);
  }

  /** A new application, its endpoint, and a message that was attempted there. */
  async delivered(kind = "ok", more = {}) {
    const url = this.receiver.url(kind);
    const app = await this.app();
    const endpoint = await this.endpoint(app, { url });
    const message = (await this.publish(app, more)).id;
    await this.attempts(app, message, 1);
    return { app, endpoint, message, url };
  }

  /** A background task when it has ended. */
  async finished(task) {
    for (const end = Date.now() + 60_000; Date.now() < end; ) {
      const found = await this.svix.backgroundTask.get(task);
      if (found.status !== "running") return found;
    }
    throw new Error(`${task} does not end`);
  }

  /** A name that no other scenario has: event types are shared by all. */
  name(prefix) {
    return `${prefix}.${crypto.randomUUID()}`;
  }
}

/** The call is answered with this status. */
export async function status(expected, call) {
  await assert.rejects(call, (error) => {
    assert.ok(error instanceof ApiException, String(error));
    assert.equal(error.code, expected);
    return true;
  });
}

export const SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

export const ids = (page) => page.data.map((one) => one.id);

/** An application and an endpoint, for the calls about one endpoint. */
export async function one(world, more) {
  const app = await world.app();
  return [app, await world.endpoint(app, more)];
}
