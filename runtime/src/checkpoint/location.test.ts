// Which store a checkpoint or savepoint is reached through, by how it is named.

import { expect, test } from "@jest/globals";
import type { ObjectStore } from "@sluice/kit/env";
import type { CheckpointMetadata } from "../model/index.ts";
import { readCommitHead } from "./commit-log.ts";
import { objectsDirectory, placeOf, recordedPath } from "./location.ts";
import { MemoryStore } from "./memory-store.fixture.ts";

const own = new MemoryStore();
const openStore = (uri: string): Promise<ObjectStore> => Promise.resolve(Object.assign(new MemoryStore(), { uri }));
const at = (name: string) => placeOf(name, { store: own, openStore });

test.each([
  ["a path in the job's store", "ns/job/chk-7", undefined, "ns/job/chk-7/_metadata"],
  ["LO2: a URI below it", "mem://store/sp/savepoint-1", undefined, "sp/savepoint-1/_metadata"],
  ["LO3: a savepoint", "file:///mnt/savepoints/savepoint-1-2", "file:///mnt/savepoints", "savepoint-1-2/_metadata"],
  ["LO3: a savepoint under another name", "/mnt/kept/before the sale", "file:///mnt/kept", "before the sale/_metadata"],
  ["LO3: a savepoint in a bucket", "s3://b/savepoint-1-2/_metadata", "s3://b", "savepoint-1-2/_metadata"],
  ["a checkpoint, with its job's log", "s3://b/c/ns/job/chk-7", "s3://b/c/ns", "job/chk-7/_metadata"],
  ["a checkpoint without anything above it", "file:///kept/chk-7", "file:///kept", "chk-7/_metadata"],
])("%s", async (_what, name, storeUri, metadataPath) => {
  expect(await at(name)).toMatchObject({ storeUri, metadataPath });
});

test.each(["file:///savepoint-1", "s3://", "/"])("LO1: %s has no store above it", async (name) => {
  await expect(at(name)).rejects.toMatchObject({ code: "CONFIG_INVALID" });
});

test("LO1: a checkpoint at the root of a store is recorded by its URI, and its job's log looked for there", async () => {
  const place = await at("file:///kept/chk-7");
  expect(recordedPath(place)).toBe("file:///kept/chk-7/_metadata");
  const jobDir = objectsDirectory(place, { base: "job" } as CheckpointMetadata);
  expect(jobDir).toBe("");
  expect(await readCommitHead(place.store, jobDir)).toBeUndefined();
});
