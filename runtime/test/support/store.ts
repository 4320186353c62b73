// The job's checkpoint store as a test sees it from outside: reads the head, damages what it names, makes stores that are small.

import { execFileSync } from "node:child_process";
import { closeSync, mkdirSync, mkdtempSync, openSync, rmdirSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import type { ObjectStore } from "@sluice/kit/env";
import {
  metadataPath,
  readCheckpointMetadata,
  readCommitHead,
  referencedObjects,
} from "@sluice/runtime/internal/checkpoint";
import type { CommitRecord } from "@sluice/runtime/internal/checkpoint";
import type { CheckpointMetadata } from "@sluice/runtime/internal/model";
import type { MinioServer } from "@sluice/tools/peers";
import { Client } from "minio";

/** The highest record of the job's commit log. */
export async function headOf(store: ObjectStore, jobDir: string): Promise<CommitRecord> {
  const head = await readCommitHead(store, jobDir);
  if (head === undefined) throw new Error(`${store.uri}/${jobDir} has no commit log`);
  return head;
}

/** `_metadata` of the newest checkpoint. A job that runs may have replaced and deleted it between the two reads: then of the next. */
export async function newestMetadata(store: ObjectStore, jobDir: string): Promise<CheckpointMetadata> {
  for (let lookedAt = -1; ;) {
    const { head } = await headOf(store, jobDir);
    const bytes = head === null ? undefined : await store.get(head.path);
    const content = bytes === undefined ? undefined : readCheckpointMetadata(bytes);
    if (content?.type === "ok") return content.metadata;
    if (head === null || head.id === lookedAt)
      throw new Error(`${store.uri}/${jobDir}: the newest checkpoint cannot be read`);
    lookedAt = head.id;
  }
}

export type DamageKind = "flipped byte in a pack" | "missing pack" | "missing _metadata";

/** Damages the newest checkpoint; returns its id. */
export async function damageHead(store: ObjectStore, jobDir: string, kind: DamageKind): Promise<number> {
  const metadata = await newestMetadata(store, jobDir);
  const id = metadata.checkpointId;
  if (kind === "missing _metadata") {
    await store.remove(metadataPath(jobDir, id));
    return id;
  }
  // A part that somebody will read: the keyed state of the first subtask that has any.
  const part = metadata.vertices
    .flatMap((vertex) => vertex.subtasks.flatMap((subtask) => subtask.parts))
    .find(({ kind: partKind, lengthBytes }) => partKind === "keyed" && lengthBytes > 0);
  if (part === undefined) throw new Error(`checkpoint ${id} holds no keyed state to damage`);
  const path = `${jobDir}/${part.object}`;
  if (!referencedObjects(jobDir, metadata).has(path)) throw new Error(`${path} is not an object of checkpoint ${id}`);
  if (kind === "missing pack") {
    await store.remove(path);
    return id;
  }
  const bytes = await store.get(path);
  if (bytes === undefined) throw new Error(`${path} is not there`);
  const flipped = Uint8Array.from(bytes);
  const at = part.offset + Math.floor(part.lengthBytes / 2);
  flipped[at] = (flipped[at] ?? 0) ^ 0x10;
  await store.remove(path);
  await store.put(path, flipped);
  return id;
}

/** Whether `mountTmpfs` works here. */
export function mayMountTmpfs(): boolean {
  const directory = mkdtempSync(join(tmpdir(), "sluice-mount-"));
  const mounted = mountTmpfs(directory, 65_536);
  mounted?.unmount();
  rmdirSync(directory);
  return mounted !== undefined;
}

/** A file system of its own, of this size; undefined where this user may not mount one. */
export function mountTmpfs(directory: string, sizeBytes: number): { unmount(): void } | undefined {
  mkdirSync(directory, { recursive: true });
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", `size=${sizeBytes}`, "tmpfs", directory], { stdio: "pipe" });
  } catch {
    return undefined;
  }
  return { unmount: () => void execFileSync("umount", ["-l", directory], { stdio: "pipe" }) };
}

/** Writes until nothing more fits: others write there at the same time. */
export function fillUp(path: string): void {
  const page = new Uint8Array(4_096);
  const descriptor = openSync(path, "w");
  try {
    for (;;) writeSync(descriptor, page);
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code !== "ENOSPC") throw thrown;
  } finally {
    closeSync(descriptor);
  }
}

/** What processes need in their environment to use this MinIO. */
export function s3Environment(server: MinioServer): Readonly<Record<string, string>> {
  return { AWS_ACCESS_KEY_ID: server.accessKey, AWS_SECRET_ACCESS_KEY: server.secretKey };
}

export async function makeBucket(server: MinioServer, bucket: string): Promise<void> {
  const { host: endPoint, port, accessKey, secretKey } = server;
  await new Client({ endPoint, port, useSSL: false, accessKey, secretKey }).makeBucket(bucket);
}
