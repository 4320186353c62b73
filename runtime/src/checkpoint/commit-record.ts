// Writer and reader of one commit record, and the names of the objects.
//
//   {jobDir}/commits/{seq, 12 digits}      one frame of kind commit-record, JSON of CommitRecord, formatVersion 0
//
// Not here: who may append (commit-log.ts).

import type { CommitRecord } from "./types.ts";
import { readFrame, writeFrame } from "./frame.ts";

export const COMMIT_RECORD_VERSION = 0;
const SEQ_DIGITS = 12;

export type RecordContent =
  | { readonly type: "ok"; readonly record: CommitRecord }
  | { readonly type: "unsupported"; readonly version: number }
  | { readonly type: "damaged"; readonly reason: string };

/** Where the records lie. The job's directory may be the root of a store: "". */
export function commitsDirectory(jobDir: string): string {
  return jobDir === "" ? "commits/" : `${jobDir}/commits/`;
}

/** Store path of record `seq`. */
export function commitPath(jobDir: string, seq: number): string {
  return `${commitsDirectory(jobDir)}${String(seq).padStart(SEQ_DIGITS, "0")}`;
}

/** `seq` of a path, or undefined for anything else that lies there. */
export function commitSeq(jobDir: string, path: string): number | undefined {
  const prefix = commitsDirectory(jobDir);
  if (!path.startsWith(prefix)) return undefined;
  const name = path.slice(prefix.length);
  return name.length === SEQ_DIGITS && /^[0-9]+$/u.test(name) ? Number(name) : undefined;
}

export function writeCommitRecord(record: CommitRecord): Uint8Array {
  return writeFrame("commit-record", COMMIT_RECORD_VERSION, record);
}

export function readCommitRecord(bytes: Uint8Array): RecordContent {
  const frame = readFrame("commit-record", bytes);
  if (frame.type === "damaged") return frame;
  if (frame.version !== COMMIT_RECORD_VERSION) return { type: "unsupported", version: frame.version };
  const reason = shapeError(frame.json);
  return reason === undefined ? { type: "ok", record: frame.json as CommitRecord } : { type: "damaged", reason };
}

const FIELDS = {
  formatVersion: "number",
  seq: "number",
  epoch: "number",
  nonce: "string",
  uid: "string",
  lineage: "string",
  submission: "string",
  closed: "boolean",
  jobState: "string",
  idHigh: "number",
  planDigest: "string",
  writtenMs: "number",
} as const satisfies Partial<Record<keyof CommitRecord, string>>;
const LISTS = ["retained", "condemned", "pins", "ops"] as const satisfies readonly (keyof CommitRecord)[];

function shapeError(json: unknown): string | undefined {
  if (typeof json !== "object" || json === null) return "not an object";
  const fields = json as Readonly<Record<string, unknown>>;
  for (const [name, type] of Object.entries(FIELDS)) {
    if (typeof fields[name] !== type) return `field ${name} is not a ${type}`;
  }
  for (const name of LISTS) {
    if (!Array.isArray(fields[name])) return `field ${name} is not a list`;
  }
  if (fields["head"] !== null && !isRef(fields["head"])) return "field head is not a checkpoint reference";
  if (!(fields["retained"] as readonly unknown[]).every(isRef))
    return "field retained holds something else than references";
  if (!(fields["ops"] as readonly unknown[]).every(isOperation))
    return "field ops holds something else than operations";
  if (fields["rescale"] !== undefined && !isRescale(fields["rescale"])) return "field rescale is not one";
  if (fields["origin"] !== null && typeof fields["origin"] !== "string") return "field origin is not a path";
  return undefined;
}

function isRef(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return false;
  const ref = value as Readonly<Record<string, unknown>>;
  return Number.isSafeInteger(ref["id"]) && typeof ref["path"] === "string" && typeof ref["sha256"] === "string";
}

function isRescale(value: unknown): boolean {
  if (value === null) return true;
  if (typeof value !== "object") return false;
  const { parallelism, requirements } = value as Readonly<Record<string, unknown>>;
  if (typeof parallelism !== "object" || parallelism === null) return false;
  return (
    typeof requirements === "object" &&
    requirements !== null &&
    Object.values(parallelism).every((count) => Number.isSafeInteger(count) && (count as number) >= 1)
  );
}

function isOperation(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return false;
  const op = value as Readonly<Record<string, unknown>>;
  const isObject = (field: unknown): boolean => typeof field === "object" && field !== null;
  return (
    typeof op["id"] === "string" &&
    isObject(op["request"]) &&
    typeof (op["request"] as { readonly kind?: unknown }).kind === "string" &&
    (op["outcome"] === null || isObject(op["outcome"]))
  );
}
