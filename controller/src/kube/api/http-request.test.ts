// Requests and answers as HTTP, and the lines of a watch (AE1, WL1-WL3).

import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { isConflict, isExpired, isUnknownOutcome, LEASES, NODES, PODS } from "../index.ts";
import type { KubeRequest, Pod, WatchEvent, WatchRequest } from "../index.ts";
import { apiErrorOf, httpRequestOf } from "./http-request.ts";
import { WatchLines } from "./watch-lines.ts";

const POD: Pod = { apiVersion: "v1", kind: "Pod", metadata: { namespace: "ns", name: "p" }, spec: { containers: [] } };
const AT = { namespace: "ns", name: "p" };

const REQUESTS: readonly (readonly [string, KubeRequest | WatchRequest])[] = [
  ["GET /api/v1/namespaces/ns/pods/p", { verb: "get", type: PODS, ...AT }],
  ["GET /api/v1/nodes/n", { verb: "get", type: NODES, name: "n" }],
  ["GET /apis/coordination.k8s.io/v1/leases?limit=500", { verb: "list", type: LEASES, limit: 500 }],
  [
    "GET /api/v1/pods?labelSelector=a%3Db%2Cc+in+%28d%29&continue=x%3D",
    { verb: "list", type: PODS, labelSelector: "a=b,c in (d)", continue: "x=" },
  ],
  [
    "GET /api/v1/pods?limit=500&resourceVersion=7&resourceVersionMatch=NotOlderThan",
    { verb: "list", type: PODS, limit: 500, resourceVersion: "7" },
  ],
  [
    "GET /api/v1/namespaces/ns/pods?watch=true&resourceVersion=7&allowWatchBookmarks=true&timeoutSeconds=300",
    {
      verb: "watch",
      type: PODS,
      namespace: "ns",
      resourceVersion: "7",
      allowWatchBookmarks: true,
      timeoutSeconds: 300,
    },
  ],
  [
    "POST /api/v1/namespaces/ns/pods?fieldManager=m",
    { verb: "create", type: PODS, namespace: "ns", body: POD, fieldManager: "m" },
  ],
  [
    "POST /api/v1/namespaces/ns/pods?dryRun=All",
    { verb: "create", type: PODS, namespace: "ns", body: POD, dryRun: true },
  ],
  ["PUT /api/v1/namespaces/ns/pods/p/status", { verb: "update", type: PODS, ...AT, subresource: "status", body: POD }],
  [
    "PATCH /api/v1/namespaces/ns/pods/p/status?fieldManager=m&force=true",
    {
      verb: "patch",
      type: PODS,
      ...AT,
      subresource: "status",
      patchType: "apply",
      fieldManager: "m",
      force: true,
      body: POD,
    },
  ],
  ["DELETE /api/v1/namespaces/ns/pods/p", { verb: "delete", type: PODS, ...AT, uid: "u", gracePeriodSeconds: 0 }],
];

test.each(REQUESTS)("%s", (expected, request) => {
  const { method, path } = httpRequestOf(request);
  expect(`${method} ${path}`).toBe(expected);
});

test("patches name their kind; deletes carry their preconditions", () => {
  const apply = httpRequestOf({ verb: "patch", type: PODS, ...AT, patchType: "apply", fieldManager: "m", body: POD });
  const merge = httpRequestOf({ verb: "patch", type: PODS, ...AT, patchType: "merge", body: {} });
  expect([apply.contentType, merge.contentType]).toEqual([
    "application/apply-patch+yaml",
    "application/merge-patch+json",
  ]);
  const { body } = httpRequestOf({ verb: "delete", type: PODS, ...AT, uid: "u", propagationPolicy: "Background" });
  expect(JSON.parse(body!)).toEqual({
    apiVersion: "v1",
    kind: "DeleteOptions",
    preconditions: { uid: "u" },
    propagationPolicy: "Background",
  });
});

describe("errors", () => {
  const status = (reason: string, details = {}): string =>
    JSON.stringify({ kind: "Status", reason, message: "why", details });

  test.each([
    [409, status("Conflict"), undefined, { reason: "Conflict", message: "why", outcome: "refused" }],
    [409, status("AlreadyExists"), undefined, { reason: "AlreadyExists", outcome: "refused" }],
    [410, status("Expired"), undefined, { reason: "Expired", outcome: "refused" }],
    [429, status("TooManyRequests", { retryAfterSeconds: 3 }), undefined, { retryAfterMs: 3_000, outcome: "refused" }],
    [429, "slow down", "7", { reason: "TooManyRequests", retryAfterMs: 7_000, message: "HTTP 429: slow down" }],
    [500, status("InternalError"), undefined, { outcome: "unknown", retryAfterMs: undefined }],
    [502, "<html>bad gateway</html>", undefined, { reason: "Unknown", outcome: "unknown" }],
    [
      503,
      "",
      "Wed, 21 Oct 2026 07:28:00 GMT",
      { reason: "ServiceUnavailable", retryAfterMs: undefined, outcome: "unknown" },
    ],
    [504, status("Timeout"), "1", { reason: "Timeout", retryAfterMs: 1_000, outcome: "unknown" }],
  ] as const)("AE1: %d %s", (code, body, retryAfter, expected) => {
    expect(apiErrorOf(code, body, retryAfter)).toMatchObject({ status: code, ...expected });
  });

  test("are told apart by predicates, not by texts", () => {
    expect(isConflict(apiErrorOf(409, status("Conflict")))).toBe(true);
    expect(isConflict(apiErrorOf(409, status("AlreadyExists")))).toBe(false);
    expect(isExpired(apiErrorOf(410, ""))).toBe(true);
    expect(isUnknownOutcome(apiErrorOf(504, ""))).toBe(true);
  });
});

describe("lines of a watch", () => {
  const line = (type: string, object: unknown): string => `${JSON.stringify({ type, object })}\n`;
  const pod = (version: number, note: string): unknown => ({
    ...POD,
    metadata: { ...AT, uid: "u", resourceVersion: `${version}`, annotations: { note } },
  });

  test("WL1: however the bytes are cut, also within a character, the events are the same", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.constantFrom("ADDED", "MODIFIED", "DELETED"), fc.string({ unit: "grapheme" })), {
          maxLength: 8,
        }),
        fc.array(fc.nat(40)),
        (events, cuts) => {
          const text = events.map(([type, note], i) => line(type, pod(i + 1, `ß日😀${note}`))).join("");
          const bytes = new TextEncoder().encode(text);
          const lines = new WatchLines();
          const seen: WatchEvent[] = [];
          let at = 0;
          for (const cut of [...cuts, bytes.length]) {
            seen.push(...lines.push(bytes.subarray(at, at + cut)));
            at += cut;
          }
          expect(seen).toEqual(events.map(([type, note], i) => ({ type, object: pod(i + 1, `ß日😀${note}`) })));
        },
      ),
    );
  });

  test("bookmarks and errors", () => {
    const lines = new WatchLines();
    const status = { kind: "Status", code: 410, reason: "Expired", message: "too old" };
    const text = line("BOOKMARK", { kind: "Pod", metadata: { resourceVersion: "9" } }) + line("ERROR", status);
    const [bookmark, error] = lines.push(new TextEncoder().encode(text));
    expect(bookmark).toEqual({ type: "BOOKMARK", resourceVersion: "9" });
    expect(error?.type === "ERROR" && isExpired(error.error)).toBe(true);
  });

  test.each([
    ["not JSON", "{nonsense\n"],
    ["an unknown type", line("RENAMED", pod(1, ""))],
    ["an object without a version", line("ADDED", { metadata: {} })],
    ["no UTF-8", undefined],
  ])("WL2: %s is an error, not skipped", (_, text) => {
    const bytes = text === undefined ? new Uint8Array([0xff, 0xfe, 10]) : new TextEncoder().encode(text);
    expect(() => new WatchLines().push(bytes)).toThrow("the watch sent");
  });

  test("WL3: a line without an end is an error before it fills the memory", () => {
    const lines = new WatchLines();
    const piece = new Uint8Array(1 << 20).fill(65);
    expect(() => {
      for (let i = 0; i < 17; i += 1) lines.push(piece);
    }).toThrow("a line of more than");
  });
});
