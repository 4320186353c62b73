// A reverse proxy in front of MinIO that answers wrongly on demand; for acceptance tests, on real sockets.
//
// Control, at run time: GET /__faults gives {faults, struck}; PUT /__faults with a JSON object changes some of the faults.
//
// Invariants:
//   FP1. A write that fails "before" never reaches the store; one that fails "after" was answered by the store first.
//   FP2. The Host header is passed on unchanged: it is part of the S3 signature.
//   FP3. Every fault that struck is counted, so that a test can prove it.
//
// Bodies are held in memory: a test's objects, not production traffic.

import { Agent, createServer, request } from "node:http";
import type { IncomingMessage, ServerResponse } from "node:http";

import { assert } from "../../assert.ts";
import { SeededRng } from "../../rng.ts";
import type { Rng } from "../time.ts";

const CONTROL_PATH = "/__faults";

/** How a failed write looks to the client. */
export type WriteFault = "reset" | "500" | "503";

export interface ProxyFaults {
  /** PUT and POST are answered 507 XMinioStorageFull. */
  readonly full: boolean;
  /** Every request is cut off: the store is down. */
  readonly down: boolean;
  /** PUT and POST wait until this is false again; then they reach the store, also those whose client has gone meanwhile. */
  readonly held: boolean;
  /** Share of PUT, POST and DELETE that fail, within [0, 1]. */
  readonly writeFailureRate: number;
  readonly when: "before" | "after" | "both";
  readonly kinds: readonly WriteFault[];
  /** Only requests whose path (with the bucket) contains this text are disturbed; "" for all. */
  readonly only: string;
}

const NO_FAULTS: ProxyFaults = {
  full: false,
  down: false,
  held: false,
  writeFailureRate: 0,
  when: "both",
  kinds: ["reset", "500", "503"],
  only: "",
};

export interface StruckProxyFaults {
  readonly full: number;
  readonly down: number;
  readonly held: number;
  readonly before: number;
  readonly after: number;
}

export interface FaultProxy {
  /** `http://127.0.0.1:port`: the S3 endpoint to configure. */
  readonly endpoint: string;
  readonly faults: ProxyFaults;
  readonly struck: StruckProxyFaults;
  set(faults: Partial<ProxyFaults>): void;
  close(): Promise<void>;
}

export interface FaultProxyOptions {
  /** The real store, `http://host:port`. */
  readonly target: string;
  readonly seed: number;
  /** Default 0: any free port. */
  readonly port?: number;
  readonly faults?: Partial<ProxyFaults>;
}

/** Starts the proxy on the loopback interface. */
export async function startFaultProxy(options: FaultProxyOptions): Promise<FaultProxy> {
  const target = new URL(options.target);
  assert(target.protocol === "http:", "the proxied store speaks plain http");
  const rng: Rng = new SeededRng(options.seed);
  const agent = new Agent({ keepAlive: true });
  const struck = { full: 0, down: 0, held: 0, before: 0, after: 0 };
  let faults: ProxyFaults = { ...NO_FAULTS, ...options.faults };
  let release = Promise.withResolvers<void>();
  const set = (changes: Partial<ProxyFaults>): void => {
    faults = { ...faults, ...changes };
    if (faults.held) return;
    release.resolve();
    release = Promise.withResolvers<void>();
  };

  const handle = async (incoming: IncomingMessage, response: ServerResponse): Promise<void> => {
    const path = incoming.url ?? "/";
    const method = incoming.method ?? "GET";
    const body = await readBody(incoming);
    if (path.startsWith(CONTROL_PATH)) {
      if (method === "PUT" || method === "POST") set(parseFaults(body));
      response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify({ faults, struck }));
      return;
    }
    const disturbed = faults.only === "" || decodeURIComponent(path).includes(faults.only);
    if (disturbed && faults.down) {
      struck.down += 1;
      incoming.socket.destroy();
      return;
    }
    if (disturbed && faults.full && (method === "PUT" || method === "POST")) {
      struck.full += 1;
      answerXml(response, 507, "XMinioStorageFull", "Storage backend has reached its minimum free drive threshold.");
      return;
    }
    if (disturbed && faults.held && (method === "PUT" || method === "POST")) {
      struck.held += 1;
      await release.promise;
    }
    const write = method === "PUT" || method === "POST" || method === "DELETE";
    if (!(disturbed && write && rng.chance(faults.writeFailureRate))) {
      answer(response, await forward(target, agent, incoming, body));
      return;
    }
    const kind = faults.kinds[rng.below(faults.kinds.length)]!;
    const after = faults.when === "after" || (faults.when === "both" && rng.chance(0.5));
    if (after) await forward(target, agent, incoming, body);
    struck[after ? "after" : "before"] += 1;
    if (kind === "reset") incoming.socket.destroy();
    else if (kind === "500")
      answerXml(response, 500, "InternalError", "We encountered an internal error, please try again.");
    else response.writeHead(503, { "content-type": "text/plain" }).end("no healthy upstream"); // a load balancer, not S3
  };

  const server = createServer((incoming, response) => {
    handle(incoming, response).catch(() => incoming.socket.destroy()); // the real store is gone: so are we
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject).listen(options.port ?? 0, "127.0.0.1", resolve);
  });
  const bound = server.address();
  assert(bound !== null && typeof bound === "object", "a listening TCP server has an address");
  return {
    endpoint: `http://127.0.0.1:${bound.port}`,
    get faults() {
      return faults;
    },
    get struck() {
      return { ...struck };
    },
    set,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
        agent.destroy();
      }),
  };
}

interface Upstream {
  readonly status: number;
  readonly rawHeaders: readonly string[];
  readonly body: Buffer;
}

async function forward(target: URL, agent: Agent, incoming: IncomingMessage, body: Buffer): Promise<Upstream> {
  return await new Promise((resolve, reject) => {
    const sent = request(
      {
        agent,
        host: target.hostname,
        port: target.port,
        method: incoming.method,
        path: incoming.url,
        headers: withoutHopByHop(incoming.rawHeaders),
      },
      (response) => {
        readBody(response).then(
          (answered) =>
            resolve({ status: response.statusCode ?? 502, rawHeaders: response.rawHeaders, body: answered }),
          reject,
        );
      },
    );
    sent.once("error", reject);
    sent.end(body);
  });
}

function answer(response: ServerResponse, upstream: Upstream): void {
  response.writeHead(upstream.status, withoutHopByHop(upstream.rawHeaders)).end(upstream.body);
}

function answerXml(response: ServerResponse, status: number, code: string, message: string): void {
  const xml = `<?xml version="1.0" encoding="UTF-8"?><Error><Code>${code}</Code><Message>${message}</Message></Error>`;
  response.writeHead(status, { "content-type": "application/xml" }).end(xml);
}

/** Headers as sent (FP2), without those that belong to one connection. */
function withoutHopByHop(rawHeaders: readonly string[]): string[] {
  const kept: string[] = [];
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    if (/^(connection|keep-alive|transfer-encoding|expect)$/i.test(rawHeaders[i]!)) continue;
    kept.push(rawHeaders[i]!, rawHeaders[i + 1]!);
  }
  return kept;
}

async function readBody(message: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of message as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function parseFaults(body: Buffer): Partial<ProxyFaults> {
  const value: unknown = JSON.parse(body.toString("utf8"));
  assert(typeof value === "object" && value !== null && !Array.isArray(value), "the faults are a JSON object");
  for (const key of Object.keys(value)) assert(Object.hasOwn(NO_FAULTS, key), `the fault ${key} exists`);
  return value as Partial<ProxyFaults>;
}
