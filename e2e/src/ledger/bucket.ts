// Reads a ledger out of a bucket.
//
// Invariants:
//   LB1. Only committed objects are listed by S3: uploads that are not completed are invisible, so no name needs to be left out.
//   LB2. A read that fails is repeated some times: a port-forward in between may have been renewed.

import { setTimeout as sleep } from "node:timers/promises";

import { Client } from "minio";

import type { LedgerFile } from "./audit.ts";

const READS_AT_ONCE = 8;
const ATTEMPTS_MAX = 20;
const RETRY_MS = 500;
const SIGNED_SECONDS = 3_600;

export interface BucketAccess {
  /** Where this machine reaches the store; asked anew for each attempt. */
  readonly endpoint: () => string;
  readonly accessKey: string;
  readonly secretKey: string;
}

export class Bucket {
  readonly #access: BucketAccess;
  readonly #bucket: string;

  constructor(access: BucketAccess, bucket: string) {
    this.#access = access;
    this.#bucket = bucket;
  }

  async create(): Promise<void> {
    await this.#retried(async (client) => {
      if (!(await client.bucketExists(this.#bucket))) await client.makeBucket(this.#bucket);
    });
  }

  /** Names below a prefix that ends with a slash. */
  async list(prefix: string): Promise<readonly string[]> {
    return await this.#retried(async (client) => {
      const names: string[] = [];
      for await (const item of client.listObjectsV2(this.#bucket, prefix, true)) {
        const { name } = item as { readonly name?: string };
        if (name !== undefined && isVisible(name)) names.push(name);
      }
      return names.toSorted();
    });
  }

  /** Bytes of all objects below the prefix: how much is published, without reading it. */
  async sizeBytes(prefix: string): Promise<number> {
    return await this.#retried(async (client) => {
      let sizeBytes = 0;
      for await (const item of client.listObjectsV2(this.#bucket, prefix, true)) {
        const { name = "", size = 0 } = item as { readonly name?: string; readonly size?: number };
        if (isVisible(name)) sizeBytes += size;
      }
      return sizeBytes;
    });
  }

  /** All objects below the prefix, whole. */
  async read(prefix: string): Promise<readonly LedgerFile[]> {
    const names = [...(await this.list(prefix))];
    const files: LedgerFile[] = [];
    const reader = async (): Promise<void> => {
      for (let name = names.pop(); name !== undefined; name = names.pop()) {
        files.push({ name, text: await this.#get(name) });
      }
    };
    await Promise.all(Array.from({ length: READS_AT_ONCE }, reader));
    return files.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  }

  async put(name: string, text: string): Promise<void> {
    await this.#retried(async (client) => {
      await client.putObject(this.#bucket, name, text);
    });
  }

  /**
   * A URL that needs no credentials, for whoever reaches the store at `endpoint`. Nothing is asked of the store.
   * @param endpoint http://HOST:PORT; it is part of what is signed.
   */
  async signedUrl(name: string, endpoint: string, region: string): Promise<string> {
    const { hostname, port } = new URL(endpoint);
    const { accessKey, secretKey } = this.#access;
    const at = { endPoint: hostname, port: Number(port), useSSL: false, region };
    return await new Client({ ...at, accessKey, secretKey }).presignedGetObject(this.#bucket, name, SIGNED_SECONDS);
  }

  async #get(name: string): Promise<string> {
    return await this.#retried(async (client) => {
      const chunks: Buffer[] = [];
      for await (const chunk of await client.getObject(this.#bucket, name)) chunks.push(chunk as Buffer);
      return Buffer.concat(chunks).toString("utf8");
    });
  }

  /** LB2. */
  async #retried<T>(body: (client: Client) => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt += 1) {
      const { hostname, port } = new URL(this.#access.endpoint());
      const { accessKey, secretKey } = this.#access;
      try {
        return await body(new Client({ endPoint: hostname, port: Number(port), useSSL: false, accessKey, secretKey }));
      } catch (error) {
        if (attempt === ATTEMPTS_MAX) throw error;
        await sleep(RETRY_MS);
      }
    }
  }
}

/** Readers skip names that begin with a dot: what a sink has staged and not published. */
function isVisible(name: string): boolean {
  return !name.slice(name.lastIndexOf("/") + 1).startsWith(".");
}
