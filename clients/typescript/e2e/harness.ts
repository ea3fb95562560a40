/** A browser, and pages that it gets through nginx together with the service's API. */

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import { type AddressInfo, connect, createServer as createSocket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test as plainTest } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { type Browser, type BrowserContext, chromium } from "playwright-core";

const CHROMIUM = "/usr/bin/chromium";
const NGINX = "/usr/sbin/nginx";
/** Another name for this machine. Unlike `localhost` it makes no secure context. */
export const LAN_NAME = "nas.test";

const missing = [CHROMIUM, NGINX].filter((path) => !existsSync(path));
export const skip = missing.length
  ? `skipped: there is no ${missing.join(" and no ")}; apt-get install chromium nginx-light`
  : false;
export const test = (name: string, run: () => Promise<void>) => plainTest(name, { skip }, run);

export const launch = (): Promise<Browser> =>
  chromium.launch({
    executablePath: CHROMIUM,
    args: [
      "--no-sandbox",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-gpu",
      "--disable-quic",
      "--disable-sync",
      "--no-first-run",
      `--host-resolver-rules=MAP ${LAN_NAME} 127.0.0.1`,
    ],
  });

/** What a test waits for may take a minute on a busy machine. */
const TIMEOUT = 60_000;

export async function newContext(browser: Browser): Promise<BrowserContext> {
  const context = await browser.newContext();
  context.setDefaultTimeout(TIMEOUT);
  return context;
}

/** Wait until `condition` resolves to true. Playwright's waitForFunction takes any promise for true. */
export async function until(condition: () => Promise<boolean>, what: string): Promise<void> {
  const deadline = Date.now() + TIMEOUT;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`not reached in a minute: ${what}`);
    await sleep(50);
  }
}

const HTML = `<!doctype html>
<meta charset="utf-8">
<title>Chats</title>
<ul></ul>
<main></main>
<script type="module" src="/page.js"></script>`;

/** Serves one page: its script, bundled. */
export class Pages {
  private constructor(private readonly server: Server) {}

  static async start(entry: string): Promise<Pages> {
    const bundle = await build({
      entryPoints: [fileURLToPath(new URL(entry, import.meta.url))],
      bundle: true,
      format: "esm",
      jsx: "automatic",
      define: { "process.env.NODE_ENV": '"production"' },
      write: false,
    });
    const server = createServer((request, response) => {
      const isScript = request.url === "/page.js";
      response.setHeader("Content-Type", isScript ? "text/javascript" : "text/html");
      response.end(isScript ? bundle.outputFiles[0]!.contents : HTML);
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return new Pages(server);
  }

  get origin(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  stop(): void {
    this.server.close();
    this.server.closeAllConnections();
  }
}

/** nginx in front of the service and of the pages, so that both have one origin. */
export class Nginx {
  private constructor(
    private readonly process: ChildProcess,
    private readonly directory: string,
    readonly port: number,
  ) {}

  /** `pages` is an origin, or a folder of files. */
  static async start(service: string, pages: string): Promise<Nginx> {
    const directory = await mkdtemp(join(tmpdir(), "mai-sessions-nginx-"));
    const port = await freePort();
    const root = pages.startsWith("http")
      ? `proxy_pass ${pages};`
      : `root ${pages}; include /etc/nginx/mime.types;`;
    const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
      .map((name) => `${name}_temp_path ${directory}/${name};`)
      .join(" ");
    const user = process.getuid?.() === 0 ? "user root;" : "";
    await writeFile(
      join(directory, "nginx.conf"),
      `${user} daemon off; pid ${directory}/pid; error_log stderr; worker_processes 1;
      events {}
      http {
        access_log off;
        client_max_body_size 64m;
        ${temporary}
        server {
          listen 127.0.0.1:${port};
          location /api/ { proxy_pass ${service}; }
          location / { ${root} }
        }
      }`,
    );
    const child = spawn(NGINX, ["-c", join(directory, "nginx.conf"), "-e", "stderr"], { stdio: "ignore" });
    await listening(port);
    return new Nginx(child, directory, port);
  }

  get origin(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  async stop(): Promise<void> {
    const ended = once(this.process, "exit");
    this.process.kill();
    await ended;
    await rm(this.directory, { recursive: true });
  }
}

/** Build a folder with Vite, and return where the files are. */
export async function viteBuild(folder: string): Promise<string> {
  const out = await mkdtemp(join(tmpdir(), "mai-sessions-example-"));
  const vite = fileURLToPath(new URL("../node_modules/.bin/vite", import.meta.url));
  execFileSync(vite, ["build", "--outDir", out, "--logLevel", "error"], {
    cwd: fileURLToPath(new URL(folder, import.meta.url)),
  });
  return out;
}

async function freePort(): Promise<number> {
  const server = createSocket().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

async function listening(port: number): Promise<void> {
  for (;;) {
    const socket = connect(port, "127.0.0.1");
    const isOpen = await Promise.race([
      once(socket, "connect").then(() => true),
      once(socket, "error").then(() => false),
    ]).catch(() => false);
    socket.destroy();
    if (isOpen) return;
    await sleep(50);
  }
}
