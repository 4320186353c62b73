// The object store of a URI.

import { fileURLToPath } from "node:url";

import { didYouMean } from "../../nearest.ts";
import { SeededRng } from "../../rng.ts";
import { Failure } from "../../failure.ts";
import { FaultInjectingStore } from "../faults.ts";
import type { StoreFaults } from "../faults.ts";
import type { ObjectStore } from "../storage.ts";
import type { StagedUploads } from "../uploads.ts";
import { FileObjectStore } from "./file-store.ts";
import type { S3StoreOptions } from "./s3-calls.ts";

/** Stores that Sluice is going to speak, but does not yet. */
const PLANNED = ["hdfs", "webhdfs", "gs", "abfs", "abfss", "wasb", "oss", "swift"] as const;

const EXAMPLES = 'Write for example "file:///var/lib/sluice/checkpoints" or "s3://my-bucket/checkpoints".';

export interface OpenStoreOptions {
  /** Needed for `s3://`. */
  readonly s3?: Partial<S3StoreOptions>;
  /** Test harnesses only: makes the store fail as told, with a seed. */
  readonly faults?: { readonly seed: number; readonly rates: Partial<StoreFaults> };
}

/**
 * Opens the store of `uri`: `file:///dir`, `s3://bucket/prefix`. Does no I/O; a wrong bucket or directory shows at the first
 * call. Rejects with CONFIG_INVALID or CONFIG_NOT_IMPLEMENTED. The S3 client is loaded only when it is needed.
 */
export async function openObjectStore(uri: string, options: OpenStoreOptions = {}): Promise<ObjectStore> {
  const store = await open(uri, options);
  if (options.faults === undefined) return store;
  return new FaultInjectingStore(store, { rng: new SeededRng(options.faults.seed), rates: options.faults.rates });
}

async function open(uri: string, options: OpenStoreOptions): Promise<ObjectStore> {
  const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):/.exec(uri)?.[1]?.toLowerCase();
  switch (scheme) {
    case undefined:
      throw invalid(uri, uri.startsWith("/") ? `is a path, not a URI; did you mean "file://${uri}"?` : "has no scheme");
    case "file":
      return new FileObjectStore(fileRoot(uri));
    case "s3":
    case "s3a":
    case "s3p": {
      const target = s3Target(uri);
      const s3 = s3Options(uri, options.s3);
      const { S3ObjectStore } = await import("./s3-store.ts");
      return new S3ObjectStore(target, s3);
    }
    default:
      if ((PLANNED as readonly string[]).includes(scheme)) {
        throw new Failure("CONFIG_NOT_IMPLEMENTED", {
          retry: "never",
          message: `the storage ${JSON.stringify(uri)} cannot be used: ${scheme}:// is not implemented yet`,
          remedy: EXAMPLES,
        });
      }
      throw invalid(uri, `has the unknown scheme "${scheme}"${didYouMean(scheme, ["file", "s3", ...PLANNED])}`);
  }
}

/**
 * Staged uploads at `s3://bucket/prefix`; does no I/O. Rejects with CONFIG_INVALID for another scheme or missing settings.
 */
export async function openStagedUploads(
  uri: string,
  options: Pick<OpenStoreOptions, "s3"> = {},
): Promise<StagedUploads> {
  if (!/^s3[ap]?:/i.test(uri)) throw invalid(uri, "is not of an S3 store");
  const target = s3Target(uri);
  const s3 = s3Options(uri, options.s3);
  const { S3StagedUploads } = await import("./s3-uploads.ts");
  return new S3StagedUploads(target, s3);
}

function fileRoot(uri: string): string {
  const url = URL.parse(uri);
  if (url === null || !/^file:\/\/(localhost)?\//i.test(uri))
    throw invalid(uri, "needs three slashes and an absolute directory");
  if (url.search !== "" || url.hash !== "") throw invalid(uri, "contains ? or #, which must be written as %3F and %23");
  let root: string;
  try {
    root = fileURLToPath(url);
  } catch (cause) {
    throw invalid(uri, "is not a directory of this machine", cause);
  }
  if (root.replace(/\/+$/, "") === "") throw invalid(uri, "is the root of the file system; name a directory");
  return root;
}

function s3Target(uri: string): { readonly bucket: string; readonly prefix: string } {
  const match = /^s3[ap]?:\/\/([^/?#]*)(?:\/([^?#]*))?$/i.exec(uri);
  const bucket = match?.[1] ?? "";
  if (match === null || bucket === "") throw invalid(uri, "needs a bucket");
  if (!/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/.test(bucket)) {
    throw invalid(
      uri,
      `has a bucket name that S3 does not allow: "${bucket}" (3 to 63 lower-case letters, digits, hyphens, dots)`,
    );
  }
  return { bucket, prefix: (match[2] ?? "").replace(/^\/+|\/+$/g, "") };
}

function s3Options(uri: string, given: Partial<S3StoreOptions> | undefined): S3StoreOptions {
  const { endpoint, accessKey, secretKey } = given ?? {};
  const missing = Object.entries({
    "s3.endpoint": endpoint,
    AWS_ACCESS_KEY_ID: accessKey,
    AWS_SECRET_ACCESS_KEY: secretKey,
  }).filter(([, value]) => value === undefined || value === "");
  if (endpoint === undefined || accessKey === undefined || secretKey === undefined || missing.length > 0) {
    throw new Failure("CONFIG_INVALID", {
      retry: "never",
      message: `the storage ${JSON.stringify(uri)} needs ${missing.map(([name]) => name).join(", ")}`,
      remedy:
        'Configure s3.endpoint (for example "http://minio:9000"), and set the environment variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.',
    });
  }
  return { ...given, endpoint, accessKey, secretKey };
}

function invalid(uri: string, reason: string, cause?: unknown): Failure {
  return new Failure("CONFIG_INVALID", {
    retry: "never",
    message: `the storage ${JSON.stringify(uri)} ${reason}`,
    remedy: EXAMPLES,
    cause,
  });
}
