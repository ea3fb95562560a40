/**
 * The real service over a PostgreSQL of its own, and a proxy in front of it that loses what it is told to
 * lose.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const COMMAND = fileURLToPath(new URL("../../../.venv/bin/mai-sessions", import.meta.url));

export class Service {
  #process!: ChildProcess;
  #port = "0";
  origin!: string;

  private constructor(
    readonly dataDir: string,
    readonly settings: Record<string, string>,
  ) {}

  /** `settings` are variables of the environment. */
  static async start(settings: Record<string, string> = {}): Promise<Service> {
    const dataDir = await mkdtemp(join(tmpdir(), "mai-sessions-client-"));
    // PostgreSQL runs as another user when this is root.
    await chmod(dataDir, 0o755);
    const service = new Service(dataDir, settings);
    await service.restart();
    return service;
  }

  /** Start it over the same data, on the same port. */
  async restart(): Promise<void> {
    const kept = Object.entries(process.env).filter(([name]) => !/^(MAI_SESSIONS_|DATABASE_URL)/.test(name));
    this.#process = spawn(
      COMMAND,
      ["serve", "--port", this.#port, "--data-dir", join(this.dataDir, "data")],
      {
        env: { ...Object.fromEntries(kept), ...this.settings },
        stdio: ["ignore", "pipe", "ignore"],
        // A process group of its own, so that a kill takes the workers along.
        detached: true,
      },
    );
    const lines = createInterface(this.#process.stdout!);
    for await (const line of lines) {
      const found = /The API is at (http:\/\/[^/]+:(\d+))/.exec(line);
      if (found) {
        [this.origin, this.#port] = [found[1]!, found[2]!];
        this.#process.stdout!.resume();
        return;
      }
    }
    throw new Error("the service did not start");
  }

  /** End it in the middle of whatever it does. */
  async kill(): Promise<void> {
    await this.#end(() => process.kill(-this.#process.pid!, "SIGKILL"));
  }

  async stop(): Promise<void> {
    // What is killed leaves its PostgreSQL behind, and the next one takes it over.
    if (this.#process.signalCode) await this.restart();
    await this.#end(() => this.#process.kill());
    await rm(this.dataDir, { recursive: true });
  }

  async #end(kill: () => void): Promise<void> {
    const ended = once(this.#process, "exit");
    kill();
    await ended;
  }
}

/**
 * What becomes of an answer: it is passed on, or the connection breaks before it arrives, or the proxy
 * answers with a status.
 */
export type Fate = "pass" | "cut" | number;

export class Proxy {
  readonly requests: IncomingMessage[] = [];
  /** Decides when the service has answered. */
  fate: (request: IncomingMessage) => Fate | Promise<Fate> = () => "pass";
  // Where the service is away, the proxy is too.
  /** A status instead of passing the request on. */
  refusal: (request: IncomingMessage) => number | null | Promise<number | null> = () => null;
  /** Milliseconds that each piece of a request's body takes. */
  uploadDelay = 0;
  readonly #server = createServer((incoming, outgoing) =>
    this.#forward(incoming, outgoing).catch(() => incoming.socket.destroy()),
  );

  private constructor(readonly target: string) {}

  static async start(target: string): Promise<Proxy> {
    const proxy = new Proxy(target);
    proxy.#server.listen(0, "127.0.0.1");
    await once(proxy.#server, "listening");
    return proxy;
  }

  get origin(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  of(method: string): IncomingMessage[] {
    return this.requests.filter((request) => request.method === method);
  }

  async stop(): Promise<void> {
    const closed = once(this.#server, "close");
    this.#server.close();
    this.#server.closeAllConnections();
    await closed;
  }

  async #forward(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    this.requests.push(incoming);
    const refusal = await this.refusal(incoming);
    if (refusal) return void outgoing.writeHead(refusal, { "Retry-After": "0" }).end();
    const { method, headers } = incoming;
    const onward = request(this.target + incoming.url, {
      method: method!,
      headers: { ...headers, connection: "close" },
    });
    const replied = once(onward, "response") as Promise<[IncomingMessage]>;
    replied.catch(() => undefined);
    for await (const chunk of incoming) {
      onward.write(chunk);
      if (this.uploadDelay) await new Promise((resolve) => setTimeout(resolve, this.uploadDelay));
    }
    onward.end();
    const [reply] = await replied;
    const body = Buffer.concat(await reply.toArray());
    const fate = await this.fate(incoming);
    if (fate === "cut") incoming.socket.destroy();
    else if (fate === "pass") outgoing.writeHead(reply.statusCode!, reply.headers).end(body);
    else outgoing.writeHead(fate, { "Retry-After": "0" }).end();
  }
}

/** Whatever happens, for the first `times` requests of `method`; the others pass. */
export function first(times: number, method: string, fate: Fate): Proxy["fate"] {
  return (request) => (request.method === method && times-- > 0 ? fate : "pass");
}

/** A red pixel. */
export const PNG =
  "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ" +
  "AAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==";
