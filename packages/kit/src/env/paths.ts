// Object and disk paths: one rule for every store, so that what works on one works on all.

import { Failure } from "../failure.ts";

/** Longest path in UTF-8 bytes: S3 allows 1,024 for the whole key; the rest is for the store's prefix. */
export const PATH_BYTES_MAX = 900;
const SEGMENT_BYTES_MAX = 240; // file systems allow 255; temporary names need the rest

/**
 * Throws CONFIG_INVALID unless `path` is a plain relative path: '/'-separated segments, none of them empty, "." or "..",
 * without control characters and backslashes, within the length limits. Paths come from users too (savepoint names).
 */
export function checkPath(path: string): void {
  const reason = pathProblem(path);
  if (reason !== undefined) {
    throw new Failure("CONFIG_INVALID", {
      retry: "never",
      message: `${JSON.stringify(path)} is not a path inside of a store: ${reason}`,
      remedy: 'Use names separated by single slashes, for example "jobs/orders/chk-7/_metadata".',
    });
  }
}

function pathProblem(path: string): string | undefined {
  if (path === "") return "it is empty";
  if (Buffer.byteLength(path) > PATH_BYTES_MAX) return `it is longer than ${PATH_BYTES_MAX} bytes`;
  // eslint-disable-next-line no-control-regex
  if (/[\u0000-\u001f\u007f\\]/.test(path)) return "it contains a control character or a backslash";
  if (!path.isWellFormed()) return "it contains half of a surrogate pair";
  for (const segment of path.split("/")) {
    if (segment === "") return "it has an empty segment";
    if (segment === "." || segment === "..") return `it has the segment "${segment}"`;
    if (Buffer.byteLength(segment) > SEGMENT_BYTES_MAX) return `a segment is longer than ${SEGMENT_BYTES_MAX} bytes`;
  }
  return undefined;
}
