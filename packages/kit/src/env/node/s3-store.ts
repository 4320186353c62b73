// Object store on S3 or MinIO, by the package minio.
//
// Invariants (besides S1-S3 of ../storage.ts):
//   M1. One call is one attempt: minio-js would repeat 5xx by itself, and a conflict could then be our own success. (One
//       exception: idempotent calls go again when a kept-alive connection turned out to be dead.)
//   M2. A write whose request may have reached the store and whose answer is missing or ambiguous is `unknown`; a definite
//       refusal rejects.
//   M3. "Absent" is only what the store said about the key: a missing bucket, a 403 or a timeout is a Failure.
//   M4. Every call ends by its deadline or its signal; nothing of it runs on afterwards but dropped bytes.
//
// Read in minio 8.0.7 (src/internal/request.ts, client.ts, xml-parser.ts): the statuses 408, 429, 499, 500, 502, 503, 504 and 520
// are thrown as a plain Error before the body is read, which loses the S3 code and leaks the connection; a custom
// `transport` sees every request, so ours renames such a status to 599, which minio then reports as any S3 error.
// Above `partSize` it goes multipart, where If-None-Match does not hold; hence the limit of putIfAbsent.
//
// It hashes the whole body synchronously (SHA-256 over http, MD5 over https): large uploads belong into a worker.

import { Agent as HttpAgent, request as httpRequest } from "node:http";
import type { ClientRequest, IncomingMessage, RequestOptions } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import type { Readable } from "node:stream";

import { Client } from "minio";
import type { ClientOptions } from "minio";

import { assert } from "../../assert.ts";
import { throwIfAborted } from "../../async.ts";
import { Failure, isFailure } from "../../failure.ts";
import { checkPath } from "../paths.ts";
import { CONDITIONAL_BYTES_MAX } from "../storage.ts";
import type { ObjectInfo, ObjectStore, PutIfAbsentOutcome, PutOutcome } from "../storage.ts";
import { classify } from "./s3-errors.ts";
import type { CallTrace } from "./s3-errors.ts";

const PART_BYTES = 64 * 1024 * 1024;
const CONNECTIONS_MAX = 64;
const DEADLINE_MS = 30_000;
/** Slowest transfer that still counts as working: each MiB adds a second to the deadline. */
const BYTES_PER_MS_MIN = (1024 * 1024) / 1000;
/** Not among the statuses that minio takes away from its callers. */
const STATUS_FOR_MINIO = 599;
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

interface Call {
  readonly verb: string;
  readonly path: string;
  readonly signal: AbortSignal | undefined;
  /** Bytes that travel, for the deadline. */
  readonly sizeBytes: number;
  /** May be sent again when a kept-alive connection was dead (M1). */
  readonly idempotent: boolean;
}

export class S3ObjectStore implements ObjectStore {
  readonly uri: string;
  readonly #bucket: string;
  readonly #keyPrefix: string;
  readonly #clientOptions: ClientOptions;
  readonly #secure: boolean;
  readonly #endpoint: string;
  readonly #deadlineMs: number;

  /** `prefix`: without slashes around it, may be empty. Throws CONFIG_INVALID for an endpoint that is none. */
  constructor(target: { readonly bucket: string; readonly prefix: string }, options: S3StoreOptions) {
    const endpoint = parseEndpoint(options.endpoint);
    if (target.prefix !== "") checkPath(target.prefix);
    this.uri = `s3://${target.bucket}${target.prefix === "" ? "" : `/${target.prefix}`}`;
    this.#bucket = target.bucket;
    this.#keyPrefix = target.prefix === "" ? "" : `${target.prefix}/`;
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

  async get(path: string, signal?: AbortSignal): Promise<Uint8Array | undefined> {
    return await this.#found(
      { verb: "read", path, signal, sizeBytes: PART_BYTES, idempotent: true },
      async (client, key) => readAll(await client.getObject(this.#bucket, key)),
    );
  }

  async getRange(
    path: string,
    range: { readonly offset: number; readonly lengthBytes: number },
    signal?: AbortSignal,
  ): Promise<Uint8Array | undefined> {
    const { offset, lengthBytes } = range;
    assert(Number.isSafeInteger(offset) && offset >= 0, "the offset of a range is not negative");
    assert(Number.isSafeInteger(lengthBytes) && lengthBytes >= 0, "the length of a range is not negative");
    if (lengthBytes === 0) return (await this.stat(path, signal)) === undefined ? undefined : new Uint8Array(0);
    const call: Call = { verb: "read", path, signal, sizeBytes: Math.min(lengthBytes, PART_BYTES), idempotent: true };
    return await this.#found(call, async (client, key, trace) => {
      try {
        return await readAll(await client.getPartialObject(this.#bucket, key, offset, lengthBytes));
      } catch (error) {
        if (trace.status === 416) return new Uint8Array(0); // the object ends before the range begins
        throw error;
      }
    });
  }

  async put(path: string, bytes: Uint8Array, signal?: AbortSignal): Promise<PutOutcome> {
    const call: Call = { verb: "write", path, signal, sizeBytes: bytes.length, idempotent: true };
    const outcome = await this.#write(call, async (client, key) => {
      await client.putObject(this.#bucket, key, asBuffer(bytes), bytes.length);
      return "stored" as const;
    });
    return outcome;
  }

  async putIfAbsent(path: string, bytes: Uint8Array, signal?: AbortSignal): Promise<PutIfAbsentOutcome> {
    assert(bytes.length <= CONDITIONAL_BYTES_MAX, "a conditional object is at most 32 MiB");
    const call: Call = { verb: "create", path, signal, sizeBytes: bytes.length, idempotent: false };
    const outcome = await this.#write(call, async (client, key, trace) => {
      try {
        await client.putObject(this.#bucket, key, asBuffer(bytes), bytes.length, { "If-None-Match": "*" });
        return "created" as const;
      } catch (error) {
        if (trace.status === 412) return "exists" as const;
        if (trace.status === 409) return "conflict" as const;
        throw error;
      }
    });
    if (outcome !== "conflict") return outcome;
    // Another creator was in flight at the same moment (S3: ConditionalRequestConflict): only reading tells who made it.
    return (await this.stat(path, signal)) === undefined ? "unknown" : "exists";
  }

  async stat(path: string, signal?: AbortSignal): Promise<ObjectInfo | undefined> {
    const call: Call = { verb: "stat", path, signal, sizeBytes: 0, idempotent: true };
    const info = await this.#found(call, async (client, key) => {
      const found = await client.statObject(this.#bucket, key);
      return { path, sizeBytes: found.size, modifiedMs: found.lastModified.getTime() };
    });
    // The answer to HEAD has no body, so a missing bucket looks like a missing object: ask once more (M3).
    if (info === undefined) await this.#bucketMustExist(call);
    return info;
  }

  async list(prefix: string, signal?: AbortSignal): Promise<readonly ObjectInfo[]> {
    const start = prefix.slice(0, prefix.lastIndexOf("/") + 1);
    if (start !== "") checkPath(start.slice(0, -1));
    const call: Call = { verb: "list", path: prefix, signal, sizeBytes: PART_BYTES, idempotent: true };
    const found = await this.#call(call, async (client) => {
      const objects: ObjectInfo[] = [];
      const stream: AsyncIterable<{ readonly name?: string; readonly size?: number; readonly lastModified?: Date }> =
        client.listObjectsV2(this.#bucket, this.#keyPrefix + prefix, true);
      for await (const item of stream) {
        const key = item.name;
        if (key === undefined || key.endsWith("/") || !key.startsWith(this.#keyPrefix)) continue;
        objects.push({
          path: key.slice(this.#keyPrefix.length),
          sizeBytes: item.size ?? 0,
          modifiedMs: item.lastModified?.getTime() ?? 0,
        });
      }
      return objects;
    });
    if (found.type === "failed") throw found.failure;
    return found.value.sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
  }

  async remove(path: string, signal?: AbortSignal): Promise<void> {
    await this.#found({ verb: "remove", path, signal, sizeBytes: 0, idempotent: true }, (client, key) =>
      client.removeObject(this.#bucket, key),
    );
  }

  async #bucketMustExist(call: Call): Promise<void> {
    const exists = await this.#call({ ...call, verb: "find the bucket of" }, (client) =>
      client.bucketExists(this.#bucket),
    );
    if (exists.type === "failed") throw exists.failure;
    if (!exists.value) throw noSuchBucket(this.#bucket, this.#endpoint);
  }

  /** A read: undefined when the store said that there is no such key. */
  async #found<T>(call: Call, run: Run<T>): Promise<T | undefined> {
    const result = await this.#call(call, run);
    if (result.type === "done") return result.value;
    if (result.reason === "absent") return undefined;
    throw result.failure;
  }

  /** A write: `unknown` when it may have happened (M2). */
  async #write<T>(call: Call, run: Run<T>): Promise<T | "unknown"> {
    const result = await this.#call(call, run);
    if (result.type === "done") return result.value;
    if (result.reason === "ambiguous") return "unknown";
    throw result.failure;
  }

  async #call<T>(call: Call, run: Run<T>): Promise<CallResult<T>> {
    const { signal } = call;
    const what = `${call.verb} ${this.uri}/${call.path}`;
    if (call.verb !== "list" && call.verb !== "find the bucket of") checkPath(call.path);
    for (let attempt = 1; ; attempt += 1) {
      throwIfAborted(signal, what);
      const trace: CallTrace = { status: undefined, connected: false, reused: false, expired: false };
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
    const client = new Client({ ...this.#clientOptions, transport: this.#transport(controller.signal, trace) });
    try {
      const running = run(client, this.#keyPrefix + call.path, trace);
      running.catch(() => {}); // after the deadline nobody listens any more
      return { type: "done", value: await Promise.race([running, stop.promise]) };
    } catch (error) {
      if (isFailure(error)) throw error;
      const where = { verb: call.verb, path: call.path, uri: this.uri, bucket: this.#bucket, endpoint: this.#endpoint };
      return { type: "failed", ...classify(error, trace, where) };
    } finally {
      clearTimeout(timer);
      call.signal?.removeEventListener("abort", abort);
    }
  }

  #transport(signal: AbortSignal, trace: CallTrace): NonNullable<ClientOptions["transport"]> {
    const request = this.#secure ? httpsRequest : httpRequest;
    const traced = (options: RequestOptions, onResponse: (response: IncomingMessage) => void): ClientRequest => {
      trace.status = undefined;
      const sent = request({ ...options, signal }, (response) => {
        trace.status = response.statusCode;
        if (STATUSES_HIDDEN_BY_MINIO.has(response.statusCode ?? 0)) response.statusCode = STATUS_FOR_MINIO;
        onResponse(response);
      });
      sent.on("socket", (socket) => {
        trace.reused = sent.reusedSocket;
        if (socket.connecting) socket.once(this.#secure ? "secureConnect" : "connect", () => (trace.connected = true));
        else trace.connected = true;
      });
      return sent;
    };
    return { request: traced as typeof httpRequest };
  }
}

type Run<T> = (client: Client, key: string, trace: CallTrace) => Promise<T>;

type CallResult<T> =
  | { readonly type: "done"; readonly value: T }
  | { readonly type: "failed"; readonly reason: "absent" | "ambiguous" | "definite"; readonly failure: Failure };

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** The body, straight into its final place when the length is known. */
async function readAll(stream: Readable): Promise<Uint8Array> {
  const announced = Number((stream as Partial<IncomingMessage>).headers?.["content-length"] ?? Number.NaN);
  if (Number.isSafeInteger(announced)) {
    const bytes = new Uint8Array(announced);
    let at = 0;
    for await (const chunk of stream as AsyncIterable<Uint8Array>) {
      assert(at + chunk.length <= announced, "node:http delivers no more than the announced length");
      bytes.set(chunk, at);
      at += chunk.length;
    }
    if (at !== announced) throw new Error(`the body ended after ${at} of ${announced} bytes`);
    return bytes;
  }
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream as AsyncIterable<Uint8Array>) chunks.push(chunk);
  const whole = Buffer.concat(chunks);
  return new Uint8Array(whole.buffer, whole.byteOffset, whole.length);
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
