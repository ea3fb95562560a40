/**
 * One attempt of a request, with `fetch` or XMLHttpRequest. It has no limit but one for silence: the time
 * without progress.
 */

export interface Outgoing {
  method: string;
  headers: Headers;
  body: string | null;
  signal: AbortSignal | undefined;
  /** The longest silence, in milliseconds. */
  timeout: number;
}

export interface Reply {
  status: number;
  statusText: string;
  headers: Headers;
  bytes: Uint8Array<ArrayBuffer>;
}

/** Bytes that exceed the buffers of a connection: only then does sending show progress. */
const LARGE_BODY = 65_536;
/** The slowest accepted upload if there is no progress to see, in bytes per millisecond (64 kbit/s). */
const SLOWEST = 8;

/** Rejects when the connection breaks, is silent for too long, or `signal` aborts. */
export function attempt(url: string, outgoing: Outgoing): Promise<Reply> {
  const isLarge = (outgoing.body?.length ?? 0) > LARGE_BODY;
  // Only XMLHttpRequest reports the progress of an upload. Node.js does not have it.
  return isLarge && typeof XMLHttpRequest !== "undefined" ? viaXhr(url, outgoing) : viaFetch(url, outgoing);
}

async function viaFetch(url: string, { method, headers, body, signal, timeout }: Outgoing): Promise<Reply> {
  const silence = new Silence();
  try {
    silence.restart(timeout + (body?.length ?? 0) / SLOWEST);
    const either = signal ? AbortSignal.any([signal, silence.signal]) : silence.signal;
    const response = await fetch(url, { method, headers, body, signal: either });
    const chunks: Uint8Array<ArrayBuffer>[] = [];
    const reader = response.body?.getReader();
    // The body is read here, because a response that breaks off is no response either.
    for (let chunk; reader && !(chunk = await reader.read()).done; chunks.push(chunk.value))
      silence.restart(timeout);
    const bytes = new Uint8Array(await new Blob(chunks).arrayBuffer());
    return { status: response.status, statusText: response.statusText, headers: response.headers, bytes };
  } finally {
    silence.end();
  }
}

function viaXhr(url: string, { method, headers, body, signal, timeout }: Outgoing): Promise<Reply> {
  const silence = new Silence();
  const request = new XMLHttpRequest();
  const abort = () => request.abort();
  const ended = new Promise<Reply>((resolve, reject) => {
    request.open(method, url);
    request.responseType = "arraybuffer";
    headers.forEach((value, name) => request.setRequestHeader(name, value));
    request.upload.onprogress = request.onprogress = () => silence.restart(timeout);
    request.onload = () => {
      const lines = request.getAllResponseHeaders().trim().split("\r\n");
      resolve({
        status: request.status,
        statusText: request.statusText,
        headers: new Headers(lines.map((line) => line.split(/: (.*)/s).slice(0, 2) as [string, string])),
        bytes: new Uint8Array(request.response as ArrayBuffer),
      });
    };
    request.onerror = () => reject(new TypeError("The connection broke"));
    request.onabort = () => reject(signal?.reason ?? silence.signal.reason);
    for (const either of [signal, silence.signal]) either?.addEventListener("abort", abort);
    silence.restart(timeout);
    request.send(body);
  });
  return ended.finally(() => {
    silence.end();
    signal?.removeEventListener("abort", abort);
  });
}

/** A signal that aborts unless it is restarted in time. */
class Silence {
  readonly #controller = new AbortController();
  #timer: ReturnType<typeof setTimeout> | undefined;

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  restart(milliseconds: number): void {
    this.end();
    this.#timer = setTimeout(
      () => this.#controller.abort(new DOMException("Nothing came", "TimeoutError")),
      milliseconds,
    );
  }

  end(): void {
    clearTimeout(this.#timer);
  }
}
