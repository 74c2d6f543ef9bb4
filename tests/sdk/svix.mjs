// Runs every scenario with the official JavaScript SDK against a running server, and prints one JSON line for each.
// Standard input: {"url", "token"}. The lines: {"offered": [operation…]}, then {"scenario", "requests", "error"}.

import { readFileSync } from "node:fs";
import { ApiException, Svix } from "svix";

import { Receiver } from "./receiver.mjs";
import { scenarios } from "./scenarios.mjs";
import { World } from "./world.mjs";

const { url, token } = JSON.parse(readFileSync(0, "utf8"));

/** The names of all methods that make a request, such as message.poller.poll. */
function* operations(resource, prefix = "") {
  const members = Object.getOwnPropertyDescriptors(Object.getPrototypeOf(resource));
  for (const [name, { get, value }] of Object.entries(members)) {
    if (get) yield* operations(resource[name], `${prefix}${name}.`);
    else if (name !== "constructor" && typeof value === "function") yield prefix + name;
  }
}

const print = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const refused = (error) => error instanceof ApiException && error.code < 500;

print({ offered: [...operations(new Svix(token, { serverUrl: url }))] });
const receiver = await Receiver.start();
for (const [scenario, play] of Object.entries(scenarios)) {
  const world = new World(url, token, receiver);
  let error = null;
  try {
    await play(world);
  } catch (thrown) {
    const body = thrown instanceof ApiException ? JSON.stringify(thrown.body) : "";
    error = { refused: refused(thrown), message: `${thrown.stack} ${body}` };
  }
  print({ scenario, requests: world.requests, error });
}
receiver.close();
