// What an endpoint's URL leads to: keeps each delivery, and answers 500 below /fail, 200 elsewhere.

import { once, EventEmitter } from "node:events";
import { createServer } from "node:http";

export class Receiver {
  #server = createServer((request, response) => this.#received(request, response));
  #arrived = new EventEmitter();
  #deliveries = new Map();
  #paths = 0;

  static async start() {
    const receiver = new Receiver();
    receiver.#server.listen(0, "127.0.0.1");
    await once(receiver.#server, "listening");
    return receiver;
  }

  /** A URL of its own for an endpoint. */
  url(kind = "ok") {
    return `http://127.0.0.1:${this.#server.address().port}/${kind}/${++this.#paths}`;
  }

  /** The deliveries to a URL, when there are at least so many: {headers, body}. */
  async deliveries(url, count) {
    const signal = AbortSignal.timeout(60_000); // a failure, never a pace
    const found = () => this.#deliveries.get(new URL(url).pathname) ?? [];
    while (found().length < count) await once(this.#arrived, "delivery", { signal });
    return found();
  }

  close() {
    this.#server.closeAllConnections();
    this.#server.close();
  }

  async #received(request, response) {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const delivery = { headers: request.headers, body: Buffer.concat(chunks).toString("utf8") };
    this.#deliveries.set(request.url, [...(this.#deliveries.get(request.url) ?? []), delivery]);
    response.writeHead(request.url.startsWith("/fail") ? 500 : 200).end("thanks");
    this.#arrived.emit("delivery");
  }
}
