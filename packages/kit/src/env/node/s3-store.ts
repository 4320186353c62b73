// Object store on S3 or MinIO.
//
// Invariants (besides S1-S3 of ../storage.ts): M1-M4 of s3-calls.ts.
//
// Above `partSize` minio goes multipart, where If-None-Match does not hold; hence the limit of putIfAbsent.
// It hashes the whole body synchronously (SHA-256 over http, MD5 over https): large uploads belong into a worker.
//
// Not here: calls, deadlines, errors (s3-calls.ts), staged uploads (s3-uploads.ts).

import type { IncomingMessage } from "node:http";
import type { Readable } from "node:stream";

import { assert } from "../../assert.ts";
import { checkPath } from "../paths.ts";
import { CONDITIONAL_BYTES_MAX } from "../storage.ts";
import type { ObjectInfo, ObjectStore, PutIfAbsentOutcome, PutOutcome } from "../storage.ts";
import { asBuffer, PART_BYTES, S3Calls } from "./s3-calls.ts";
import type { Call, S3StoreOptions } from "./s3-calls.ts";

export class S3ObjectStore implements ObjectStore {
  readonly uri: string;
  readonly #calls: S3Calls;

  /** `prefix`: without slashes around it, may be empty. Throws CONFIG_INVALID for an endpoint that is none. */
  constructor(target: { readonly bucket: string; readonly prefix: string }, options: S3StoreOptions) {
    this.#calls = new S3Calls(target, options);
    this.uri = this.#calls.uri;
  }

  async get(path: string, signal?: AbortSignal): Promise<Uint8Array | undefined> {
    return await this.#calls.found(
      { verb: "read", path, signal, sizeBytes: PART_BYTES, idempotent: true },
      async (client, key) => readAll(await client.getObject(this.#calls.bucket, key)),
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
    return await this.#calls.found(call, async (client, key, trace) => {
      try {
        return await readAll(await client.getPartialObject(this.#calls.bucket, key, offset, lengthBytes));
      } catch (error) {
        if (trace.status === 416) return new Uint8Array(0); // the object ends before the range begins
        throw error;
      }
    });
  }

  async put(path: string, bytes: Uint8Array, signal?: AbortSignal): Promise<PutOutcome> {
    const call: Call = { verb: "write", path, signal, sizeBytes: bytes.length, idempotent: true };
    const outcome = await this.#calls.write(call, async (client, key) => {
      await client.putObject(this.#calls.bucket, key, asBuffer(bytes), bytes.length);
      return "stored" as const;
    });
    return outcome;
  }

  async putIfAbsent(path: string, bytes: Uint8Array, signal?: AbortSignal): Promise<PutIfAbsentOutcome> {
    assert(bytes.length <= CONDITIONAL_BYTES_MAX, "a conditional object is at most 32 MiB");
    const call: Call = { verb: "create", path, signal, sizeBytes: bytes.length, idempotent: false };
    const outcome = await this.#calls.write(call, async (client, key, trace) => {
      try {
        await client.putObject(this.#calls.bucket, key, asBuffer(bytes), bytes.length, { "If-None-Match": "*" });
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
    const info = await this.#calls.found(call, async (client, key) => {
      const found = await client.statObject(this.#calls.bucket, key);
      return { path, sizeBytes: found.size, modifiedMs: found.lastModified.getTime() };
    });
    // The answer to HEAD has no body, so a missing bucket looks like a missing object: ask once more (M3).
    if (info === undefined) await this.#calls.bucketMustExist(call);
    return info;
  }

  async list(prefix: string, signal?: AbortSignal): Promise<readonly ObjectInfo[]> {
    const start = prefix.slice(0, prefix.lastIndexOf("/") + 1);
    if (start !== "") checkPath(start.slice(0, -1));
    const call: Call = { verb: "list", path: prefix, signal, sizeBytes: PART_BYTES, idempotent: true };
    const found = await this.#calls.call(call, async (client) => {
      const objects: ObjectInfo[] = [];
      const stream: AsyncIterable<{ readonly name?: string; readonly size?: number; readonly lastModified?: Date }> =
        client.listObjectsV2(this.#calls.bucket, this.#calls.keyPrefix + prefix, true);
      for await (const item of stream) {
        const key = item.name;
        if (key === undefined || key.endsWith("/") || !key.startsWith(this.#calls.keyPrefix)) continue;
        objects.push({
          path: key.slice(this.#calls.keyPrefix.length),
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
    await this.#calls.found({ verb: "remove", path, signal, sizeBytes: 0, idempotent: true }, (client, key) =>
      client.removeObject(this.#calls.bucket, key),
    );
  }
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
