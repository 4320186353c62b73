// One call to S3 or MinIO by the package minio, and what its end means. What the store and its uploads share.
//
// Invariants:
//   M1. One call is one attempt: minio-js would repeat 5xx by itself, and a conflict could then be our own success. (One
//       exception: idempotent calls go again when a kept-alive connection turned out to be dead.)
//   M2. A write whose request may have reached the store and whose answer is missing or ambiguous is `unknown`; a definite
//       refusal rejects.
//   M3. "Absent" is only what the store said about the key: a missing bucket, a 403 or a timeout is a Failure.
//   M4. Every call ends by its deadline or its signal; nothing of it runs on afterwards but dropped bytes.
//   M5. A call that `outlivesClient` is carried out to its end by MinIO also when this process is killed while it waits for the answer.
//   M6. A connection that gave an ambiguous answer serves no other call: whose answer it was is not known.
//
// M5, read in MinIO (cmd/erasure-multipart.go) and in Go (net/http/server.go): a request's context is cancelled when its connection
// breaks, and a completion that is cancelled has deleted the records of the parts and not made the object: the upload is destroyed (19 of
// 100 did so on a busy machine). Go notices by reading one byte ahead, and stops reading when it gets one; so bytes that follow the
// request, more than its buffer of 4 KiB takes, let it look no further. The connection serves that one call and is closed.
//
// Read in minio 8.0.7 (src/internal/request.ts, client.ts, xml-parser.ts): the statuses 408, 429, 499, 500, 502, 503, 504 and 520
// are thrown as a plain Error before the body is read, which loses the S3 code and leaks the connection; a custom
// `transport` sees every request, so ours renames such a status to 599, which minio then reports as any S3 error.
//
// Not here: which calls there are (s3-store.ts, s3-uploads.ts), what an error means (s3-errors.ts).

import { Agent as HttpAgent, request as httpRequest } from "node:http";
import type { ClientRequest, IncomingMessage, RequestOptions } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import type { Socket } from "node:net";

import { Client } from "minio";
import type { ClientOptions } from "minio";

import { throwIfAborted } from "../../async.ts";
import { Failure, isFailure } from "../../failure.ts";
import { checkPath } from "../paths.ts";
import { classify } from "./s3-errors.ts";
import type { CallTrace } from "./s3-errors.ts";

export const PART_BYTES = 64 * 1024 * 1024;
const CONNECTIONS_MAX = 64;
const DEADLINE_MS = 30_000;
/** Slowest transfer that still counts as working: each MiB adds a second to the deadline. */
const BYTES_PER_MS_MIN = (1024 * 1024) / 1000;
/** Not among the statuses that minio takes away from its callers. */
const STATUS_FOR_MINIO = 599;
/** M5. */
const BYTES_AHEAD = Buffer.alloc(16 * 1024, "\n");
const AMAZON = /\.amazonaws\.com(?:\.cn)?$/u;
const STATUSES_HIDDEN_BY_MINIO: ReadonlySet<number> = new Set([408, 429, 499, 500, 502, 503, 504, 520]);

export interface S3StoreOptions {
  /** `http://host:port` or `https://host`. */
  readonly endpoint: string;
  readonly accessKey: string;
  readonly secretKey: string;
  readonly sessionToken?: string;
  /** Default us-east-1, which MinIO accepts; Amazon needs the bucket's. */
  readonly region?: string;
  /** Bucket in the path (default, MinIO) or in the host name. */
  readonly pathStyle?: boolean;
  /** Per call, before the time that its bytes get; default 30 s. */
  readonly deadlineMs?: number;
}

export interface Call {
  readonly verb: string;
  readonly path: string;
  readonly signal: AbortSignal | undefined;
  /** Bytes that travel, for the deadline. */
  readonly sizeBytes: number;
  /** May be sent again when a kept-alive connection was dead (M1). */
  readonly idempotent: boolean;
  /** M5; not on Amazon, whose completions are atomic. */
  readonly outlivesClient?: boolean;
}

/** That served the last request of a call. */
interface Connection {
  socket: Socket | undefined;
}

/** The calls of one bucket and prefix. */
export class S3Calls {
  readonly uri: string;
  readonly bucket: string;
  readonly keyPrefix: string;
  readonly #clientOptions: ClientOptions;
  readonly #secure: boolean;
  readonly #endpoint: string;
  readonly #deadlineMs: number;

  /** `prefix`: without slashes around it, may be empty. Throws CONFIG_INVALID for an endpoint that is none. */
  constructor(target: { readonly bucket: string; readonly prefix: string }, options: S3StoreOptions) {
    const endpoint = parseEndpoint(options.endpoint);
    if (target.prefix !== "") checkPath(target.prefix);
    this.uri = `s3://${target.bucket}${target.prefix === "" ? "" : `/${target.prefix}`}`;
    this.bucket = target.bucket;
    this.keyPrefix = target.prefix === "" ? "" : `${target.prefix}/`;
    this.#secure = endpoint.protocol === "https:";
    this.#endpoint = options.endpoint;
    this.#deadlineMs = options.deadlineMs ?? DEADLINE_MS;
    const agentOptions = { keepAlive: true, maxSockets: CONNECTIONS_MAX, noDelay: true };
    this.#clientOptions = {
      endPoint: endpoint.hostname.replace(/^\[|\]$/g, ""),
      ...(endpoint.port === "" ? {} : { port: Number(endpoint.port) }),
      useSSL: this.#secure,
      accessKey: options.accessKey,
      secretKey: options.secretKey,
      ...(options.sessionToken === undefined ? {} : { sessionToken: options.sessionToken }),
      region: options.region ?? "us-east-1",
      pathStyle: options.pathStyle ?? true,
      partSize: PART_BYTES,
      transportAgent: this.#secure ? new HttpsAgent(agentOptions) : new HttpAgent(agentOptions),
      retryOptions: { disableRetry: true },
    };
  }

  async bucketMustExist(call: Call): Promise<void> {
    const exists = await this.call({ ...call, verb: "find the bucket of" }, (client) =>
      client.bucketExists(this.bucket),
    );
    if (exists.type === "failed") throw exists.failure;
    if (!exists.value) throw noSuchBucket(this.bucket, this.#endpoint);
  }

  /** A read: undefined when the store said that there is no such key. */
  async found<T>(call: Call, run: Run<T>): Promise<T | undefined> {
    const result = await this.call(call, run);
    if (result.type === "done") return result.value;
    if (result.reason === "absent") return undefined;
    throw result.failure;
  }

  /** A write: `unknown` when it may have happened (M2). */
  async write<T>(call: Call, run: Run<T>): Promise<T | "unknown"> {
    const result = await this.call(call, run);
    if (result.type === "done") return result.value;
    if (result.reason === "ambiguous") return "unknown";
    throw result.failure;
  }

  async call<T>(call: Call, run: Run<T>): Promise<CallResult<T>> {
    const { signal } = call;
    const what = `${call.verb} ${this.uri}/${call.path}`;
    if (call.verb !== "list" && call.verb !== "find the bucket of") checkPath(call.path);
    for (let attempt = 1; ; attempt += 1) {
      throwIfAborted(signal, what);
      const trace = newTrace();
      const result = await this.#once(call, trace, run);
      if (result.type === "done") return result;
      throwIfAborted(signal, what);
      const dead = call.idempotent && attempt === 1 && trace.reused && trace.status === undefined && !trace.expired;
      if (!dead) return result;
    }
  }

  async #once<T>(call: Call, trace: CallTrace, run: Run<T>): Promise<CallResult<T>> {
    const controller = new AbortController();
    const stop = Promise.withResolvers<never>();
    stop.promise.catch(() => {});
    const abort = (): void => {
      controller.abort();
      stop.reject(new Error(trace.expired ? "no answer within the deadline" : "canceled"));
    };
    const timer = setTimeout(
      () => {
        trace.expired = true;
        abort();
      },
      this.#deadlineMs + call.sizeBytes / BYTES_PER_MS_MIN,
    );
    call.signal?.addEventListener("abort", abort, { once: true });
    // A client per call costs microseconds and gives each call a transport with its own signal and trace.
    const connection: Connection = { socket: undefined };
    const transport = this.#transport(controller.signal, trace, call, connection);
    const client = new Client({ ...this.#clientOptions, transport });
    try {
      const running = run(client, this.keyPrefix + call.path, trace);
      running.catch(() => {}); // after the deadline nobody listens any more
      return { type: "done", value: await Promise.race([running, stop.promise]) };
    } catch (error) {
      if (isFailure(error)) throw error;
      const where = { verb: call.verb, path: call.path, uri: this.uri, bucket: this.bucket, endpoint: this.#endpoint };
      const classified = classify(error, trace, where);
      if (classified.reason === "ambiguous") connection.socket?.destroy(); // M6
      return { type: "failed", ...classified };
    } finally {
      clearTimeout(timer);
      call.signal?.removeEventListener("abort", abort);
    }
  }

  #transport(
    signal: AbortSignal,
    trace: CallTrace,
    call: Call,
    connection: Connection,
  ): NonNullable<ClientOptions["transport"]> {
    const request = this.#secure ? httpsRequest : httpRequest;
    const outlives = call.outlivesClient === true && !AMAZON.test(new URL(this.#endpoint).hostname);
    const traced = (options: RequestOptions, onResponse: (response: IncomingMessage) => void): ClientRequest => {
      trace.status = undefined;
      trace.method = options.method ?? "GET";
      const sent = request({ ...options, signal, ...(outlives && { agent: false }) }, (response) => {
        trace.status = response.statusCode;
        if (STATUSES_HIDDEN_BY_MINIO.has(response.statusCode ?? 0)) response.statusCode = STATUS_FOR_MINIO;
        onResponse(response);
      });
      sent.on("socket", (socket) => {
        connection.socket = socket;
        trace.reused = sent.reusedSocket;
        if (socket.connecting) socket.once(this.#secure ? "secureConnect" : "connect", () => (trace.connected = true));
        else trace.connected = true;
      });
      if (outlives) sent.once("finish", () => sent.socket?.write(BYTES_AHEAD)); // M5
      return sent;
    };
    return { request: traced as typeof httpRequest };
  }
}

export type Run<T> = (client: Client, key: string, trace: CallTrace) => Promise<T>;

export type CallResult<T> =
  | { readonly type: "done"; readonly value: T }
  | { readonly type: "failed"; readonly reason: "absent" | "ambiguous" | "definite"; readonly failure: Failure };

function newTrace(): CallTrace {
  return { method: undefined, status: undefined, connected: false, reused: false, expired: false };
}

/** The same memory. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function parseEndpoint(endpoint: string): URL {
  const url = URL.parse(endpoint);
  if (
    url === null ||
    (url.protocol !== "http:" && url.protocol !== "https:") ||
    (url.pathname !== "/" && url.pathname !== "")
  ) {
    throw new Failure("CONFIG_INVALID", {
      retry: "never",
      message: `the S3 endpoint ${JSON.stringify(endpoint)} is not an address of a server`,
      remedy: 'Write for example "http://minio:9000" or "https://s3.eu-central-1.amazonaws.com", without a path.',
    });
  }
  return url;
}

function noSuchBucket(bucket: string, endpoint: string): Failure {
  return new Failure("CONFIG_INVALID", {
    retry: "never",
    message: `the bucket "${bucket}" does not exist at ${endpoint}`,
    remedy: "Create the bucket, or correct its name in the configuration.",
  });
}
