// The plan's digest: equal iff two graphs mean the same (P1 in model/plan.ts).
//
// Invariants:
//   D1. Canonical JSON: object keys sorted, no white space, undefined members left out.
//   D2. Names, configuration and splits are not in the digest: none of them changes what a record means.

import { createHash } from "node:crypto";
import { assert } from "@sluice/kit";
import type { PlanEnvironment, PlanVertex } from "../model/index.ts";

/** D1. Plain data only: null, booleans, finite numbers, strings, arrays, objects. */
export function canonicalJson(value: unknown): string {
  if (value === null || typeof value === "boolean" || typeof value === "string") return JSON.stringify(value);
  if (typeof value === "number") {
    assert(Number.isFinite(value), "canonical JSON holds finite numbers");
    return JSON.stringify(value);
  }
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(",")}]`;
  assert(typeof value === "object", "canonical JSON holds plain data");
  const members = Object.entries(value as Record<string, unknown>)
    .filter(([, member]) => member !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${members.map(([key, member]) => `${JSON.stringify(key)}:${canonicalJson(member)}`).join(",")}}`;
}

export function sha256Hex(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

/** Stable id of the vertex whose head has this uid: 32 hex digits. */
export function vertexIdOf(headUid: string): string {
  return sha256Hex(`vertex\0${headUid}`).slice(0, 32);
}

/** Digest over everything that decides meaning. `bundleHash` identifies the job's code ("" when it is not known). */
export function planDigest(options: {
  readonly vertices: readonly PlanVertex[];
  readonly arguments: readonly string[];
  readonly environment?: PlanEnvironment | undefined;
  readonly bundleHash: string;
}): string {
  return sha256Hex(
    canonicalJson({
      formatVersion: 0,
      bundleHash: options.bundleHash,
      arguments: options.arguments,
      environment: options.environment,
      vertices: options.vertices.map((vertex) => ({
        id: vertex.id,
        parallelism: vertex.parallelism,
        maxParallelism: vertex.maxParallelism,
        keyType: vertex.keyType,
        chain: vertex.chain.map(({ transformationId, uid, kind, stateful, canRetract }) => ({
          transformationId,
          uid,
          kind,
          stateful,
          canRetract,
        })),
        inputs: vertex.inputs,
      })),
    }),
  );
}
