// The KubeApi seam over HTTPS.
//
// Invariants:
//   HA1. A request that failed before its connection stood was not sent: "refused". From then on its outcome is "unknown"
//        until an answer is complete.
//   HA2. Connections are kept and used again; those of watches send TCP keepalives every 30 s.
//   HA3. Nothing stays behind: whatever way a call or a watch ends, its request is destroyed or complete, its timer gone.
//   HA4. An answer is bounded: ANSWER_BYTES_MAX.
//
// Not here: paths and errors (api/http-request.ts), lines (api/watch-lines.ts), who we are (credentials.ts).

import { Agent as HttpAgent, request as httpRequest } from "node:http";
import type { ClientRequest, IncomingMessage } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";

import { canceled, isFailure, toFailure } from "@sluice/kit";
import { ApiError, NO_STATUS } from "../api/api-error.ts";
import { apiErrorOf, httpRequestOf } from "../api/http-request.ts";
import { CALL_TIMEOUT_MS } from "../api/kube-api.ts";
import type { HttpRequest } from "../api/http-request.ts";
import type { Answers, CallOptions, KubeApi, KubeRequest, WatchEvent, WatchRequest } from "../api/kube-api.ts";
import { WatchLines } from "../api/watch-lines.ts";
import type { Credentials, CredentialSource } from "./credentials.ts";

const TCP_KEEPALIVE_MS = 30_000;
/** Idle connections are closed before servers and load balancers do: a write into a closed one would be of unknown outcome. */
const IDLE_MS = 45_000;
const ANSWER_BYTES_MAX = 256 * 1024 * 1024;

export interface HttpKubeApiOptions {
  readonly credentials: CredentialSource;
  /** "sluice-controller/0.1.0": shown in audit logs. */
  readonly userAgent: string;
}

export class HttpKubeApi implements KubeApi {
  readonly #options: HttpKubeApiOptions;
  #agent: HttpAgent | undefined;
  #agentFor: Credentials["tls"] | undefined;

  constructor(options: HttpKubeApiOptions) {
    this.#options = options;
  }

  async request<R extends KubeRequest>(request: R, options: CallOptions = {}): Promise<Answers[R["verb"]]> {
    const call = this.#call(httpRequestOf(request), options);
    try {
      const response = await call.response();
      const body = await call.body(response);
      const status = response.statusCode ?? 0;
      if (status >= 400) throw apiErrorOf(status, body, response.headers["retry-after"]);
      return JSON.parse(body) as Answers[R["verb"]];
    } catch (thrown) {
      throw call.failure(thrown);
    } finally {
      call.end();
    }
  }

  async *watch(request: WatchRequest, options: CallOptions = {}): AsyncGenerator<WatchEvent> {
    const call = this.#call(httpRequestOf(request), options);
    try {
      const response = await call.response();
      const status = response.statusCode ?? 0;
      if (status >= 400) throw apiErrorOf(status, await call.body(response), response.headers["retry-after"]);
      call.untimed();
      response.socket.setKeepAlive(true, TCP_KEEPALIVE_MS); // HA2
      yield { type: "OPENED" };
      const lines = new WatchLines();
      for await (const bytes of response) {
        for (const event of lines.push(bytes as Uint8Array)) yield event;
      }
    } catch (thrown) {
      throw call.failure(thrown);
    } finally {
      call.destroy();
      call.end();
    }
  }

  /** Closes idle connections; those in use end with their calls. */
  close(): void {
    this.#agent?.destroy();
    this.#agent = undefined;
  }

  #call(request: HttpRequest, options: CallOptions): HttpCall {
    return new HttpCall(options, async () => {
      const { credentials, userAgent } = this.#options;
      const current = await credentials.current();
      const isHttps = credentials.server.startsWith("https:");
      const sent = (isHttps ? httpsRequest : httpRequest)(credentials.server + request.path, {
        method: request.method,
        agent: current.agent ?? this.#agentOf(current, isHttps),
        headers: {
          accept: "application/json",
          "user-agent": userAgent,
          ...current.headers,
          ...(request.body !== undefined && {
            "content-type": request.contentType,
            "content-length": Buffer.byteLength(request.body),
          }),
        },
      });
      return { sent, begin: () => void sent.end(request.body) };
    });
  }

  /** One agent until certificates change: new ones need new connections; the old ones end with their calls. */
  #agentOf({ tls }: Credentials, isHttps: boolean): HttpAgent {
    const known = this.#agentFor;
    if (this.#agent !== undefined && known !== undefined && sameTls(known, tls)) return this.#agent;
    this.#agentFor = tls;
    const common = { keepAlive: true, keepAliveMsecs: TCP_KEEPALIVE_MS, maxFreeSockets: 8, timeout: IDLE_MS };
    this.#agent = isHttps ? new HttpsAgent({ ...common, ...tls }) : new HttpAgent(common);
    return this.#agent;
  }
}

interface Begun {
  readonly sent: ClientRequest;
  readonly begin: () => void;
}

/** One exchange, its timer and its abort. */
class HttpCall {
  readonly #options: CallOptions;
  readonly #start: () => Promise<Begun>;
  readonly #onAbort = (): void => this.destroy();
  readonly #timeoutMs: number;
  #request: ClientRequest | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isConnected = false;
  #isLate = false;

  constructor(options: CallOptions, start: () => Promise<Begun>) {
    this.#options = options;
    this.#start = start;
    this.#timeoutMs = options.timeoutMs ?? CALL_TIMEOUT_MS;
  }

  /** Sends it; resolves with the head of the answer. */
  async response(): Promise<IncomingMessage> {
    const { signal } = this.#options;
    if (this.#isCanceled()) throw canceled("the request");
    const { sent, begin } = await this.#start();
    if (this.#isCanceled()) {
      sent.on("error", () => {}).destroy();
      throw canceled("the request");
    }
    this.#request = sent;
    signal?.addEventListener("abort", this.#onAbort, { once: true });
    this.#timer = setTimeout(() => {
      this.#isLate = true;
      this.destroy();
    }, this.#timeoutMs);
    this.#timer.unref();
    return await new Promise((resolve, reject) => {
      sent.on("socket", (socket) => {
        const event = "encrypted" in socket ? "secureConnect" : "connect";
        if (sent.reusedSocket || !socket.connecting) this.#isConnected = true;
        else socket.once(event, () => (this.#isConnected = true));
      });
      sent.on("response", resolve);
      sent.on("error", reject);
      begin();
    });
  }

  async body(response: IncomingMessage): Promise<string> {
    const pieces: Buffer[] = [];
    let bytes = 0;
    for await (const piece of response as AsyncIterable<Buffer>) {
      bytes += piece.length;
      if (bytes > ANSWER_BYTES_MAX) throw new Error(`an answer of more than ${ANSWER_BYTES_MAX} bytes`); // HA4
      pieces.push(piece);
    }
    return Buffer.concat(pieces).toString("utf8");
  }

  /** A watch may take as long as it likes once it has begun. */
  untimed(): void {
    clearTimeout(this.#timer);
  }

  destroy(): void {
    this.#request?.destroy();
  }

  end(): void {
    clearTimeout(this.#timer);
    this.#options.signal?.removeEventListener("abort", this.#onAbort);
  }

  #isCanceled(): boolean {
    return this.#options.signal?.aborted === true;
  }

  /** What the seam promises to throw (KA1). */
  failure(thrown: unknown): unknown {
    if (thrown instanceof ApiError || isFailure(thrown)) return thrown;
    if (this.#isCanceled()) return canceled("the request");
    const outcome = this.#isConnected ? "unknown" : "refused";
    if (this.#isLate) {
      const message = `no answer within ${this.#timeoutMs} ms`;
      return new ApiError({ status: NO_STATUS, reason: "ClientTimeout", message, outcome });
    }
    const reason = this.#isConnected ? "ConnectionLost" : "ConnectionFailed";
    return new ApiError({ status: NO_STATUS, reason, message: toFailure(thrown).message, outcome, cause: thrown });
  }
}

function sameTls(a: Credentials["tls"], b: Credentials["tls"]): boolean {
  return (["ca", "cert", "key", "servername", "rejectUnauthorized"] as const).every((name) => {
    const [left, right] = [a[name], b[name]];
    if (left === right) return true;
    return left !== undefined && right !== undefined && String(left) === String(right);
  });
}
