// `_metadata`: what was written is read back; what is not known, and what was changed, is refused.

import { expect, test } from "@jest/globals";
import fc from "fast-check";

import type { CheckpointMetadata } from "../model/index.ts";
import { writeFrame } from "./frame.ts";
import { readCheckpointMetadata, writeCheckpointMetadata } from "./metadata.ts";

const name = fc.string({ maxLength: 8 });
const part = fc.record(
  {
    uid: fc.constantFrom("a", "b", "ü"),
    stateName: fc.constantFrom("s", "t"),
    kind: fc.constantFrom("keyed" as const, "operator" as const),
    keyGroups: fc.tuple(fc.nat(100), fc.nat(100)),
    mode: fc.constantFrom("split" as const, "union" as const, "broadcast" as const),
    itemCount: fc.nat(),
    object: fc.constantFrom("chk-1/x-1", "chk-1/x-2"),
    offset: fc.nat(),
    lengthBytes: fc.nat(),
    crc32c: fc.nat(0xffffffff),
  },
  { requiredKeys: ["uid", "stateName", "kind", "object", "offset", "lengthBytes", "crc32c"] },
);
const metadata = fc.record({
  checkpointId: fc.nat(),
  kind: fc.constantFrom("checkpoint", "savepoint"),
  base: fc.constantFrom("job", "self"),
  lineage: name,
  epoch: fc.nat(),
  attempt: fc.nat(),
  planDigest: name,
  timestampMs: fc.nat(),
  isFinal: fc.boolean(),
  vertices: fc.array(
    fc.record({
      vertexId: name,
      parallelism: fc.nat(),
      maxParallelism: fc.nat(),
      uids: fc.array(name, { maxLength: 3 }),
      subtasks: fc.array(
        fc.record({ subtaskIndex: fc.nat(), finished: fc.boolean(), parts: fc.array(part, { maxLength: 4 }) }),
        { maxLength: 4 },
      ),
    }),
    { maxLength: 3 },
  ),
}) as unknown as fc.Arbitrary<CheckpointMetadata>;

test("ME3: metadata survives the round trip, byte for byte", () => {
  fc.assert(
    fc.property(metadata, (written) => {
      const bytes = writeCheckpointMetadata(written);
      const read = readCheckpointMetadata(bytes);
      expect(read).toEqual({ type: "ok", metadata: written });
      if (read.type === "ok") expect(writeCheckpointMetadata(read.metadata)).toEqual(bytes);
    }),
  );
});

const [SAMPLE] = fc.sample(
  metadata.filter((m) => m.vertices.some((v) => v.subtasks.some((s) => s.parts.length > 2))),
  { numRuns: 1, seed: 7 },
) as [CheckpointMetadata];

test("a changed or missing byte is damage", () => {
  const bytes = writeCheckpointMetadata(SAMPLE);
  for (let at = 0; at < bytes.length; at += 1) {
    const changed = bytes.slice();
    changed[at] = (changed[at] as number) ^ (1 << (at % 8));
    expect([at, readCheckpointMetadata(changed).type === "ok"]).toEqual([at, false]);
    expect(readCheckpointMetadata(bytes.slice(0, at)).type).toBe("damaged");
  }
});

test("ME1: 10,000 subtasks with three parts each fit in two megabytes", () => {
  const subtasks = Array.from({ length: 10_000 }, (_, subtaskIndex) => ({
    subtaskIndex,
    finished: false,
    parts: [0, 1, 2].map((i) => ({
      uid: "customer-profiles",
      stateName: `state-${i}`,
      kind: "keyed" as const,
      keyGroups: [subtaskIndex * 3, subtaskIndex * 3 + 2] as const,
      itemCount: 12_345,
      object: `chk-4711/x-3.0.tm-${subtaskIndex % 1_000}-0123456789abcdef`,
      offset: i * 1_000_000,
      lengthBytes: 987_654,
      crc32c: 0x89abcdef + i,
    })),
  }));
  const vertex = { vertexId: "v", parallelism: 10_000, maxParallelism: 32_768, uids: ["customer-profiles"], subtasks };
  expect(writeCheckpointMetadata({ ...SAMPLE, vertices: [vertex] }).length).toBeLessThan(2_000_000);
});

const stored = JSON.parse(new TextDecoder().decode(writeCheckpointMetadata(SAMPLE).subarray(16))) as Readonly<
  Record<string, unknown>
>;

test.each([
  ["a field of a newer writer", 1, { ...stored, compression: "zstd" }, "unsupported", /unknown field "compression"/],
  ["a kind of a newer writer", 1, { ...stored, kind: "clone" }, "unsupported", /its kind is "clone"/],
  ["version 0", 0, stored, "unsupported", /has format version 0; this release reads version 1/],
  ["a newer version", 2, stored, "unsupported", /has format version 2; this release reads version 1/],
  ["objects that are missing", 1, { ...stored, objects: [] }, "damaged", /a part that is none/],
  ["no vertices", 1, { ...stored, vertices: null }, "damaged", /vertices is no list/],
  ["something else", 1, [1, 2], "damaged", /not checkpoint metadata/],
])("ME2: %s is refused", (_what, version, json, type, reason) => {
  const content = readCheckpointMetadata(writeFrame("checkpoint-metadata", version, json));
  expect(content).toMatchObject({ type, reason: expect.stringMatching(reason) });
});
