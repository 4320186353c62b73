// Expected failures: what the world does to us. Each says what happened, where, who must act and what to do next.
//
// Invariants:
//   F1. Callers decide by `code` and `retry`, never by parsing `message`.
//   F2. Every caught unknown goes through `toFailure`; nothing is swallowed.
//   F3. A Failure survives a process boundary: `failureToJson` and `failureFromJson` are inverse.
//
// Not here: bugs (assert.ts).

/** Who can make the failure go away: a code belongs to exactly one of them. */
export type Actor = "user" | "platform" | "sluice";

const CODES = {
  // configuration and job code: the user acts
  CONFIG_INVALID: "user",
  CONFIG_UNKNOWN_KEY: "user",
  CONFIG_NOT_IMPLEMENTED: "user",
  JOB_MODULE_NOT_FOUND: "user",
  JOB_MODULE_INVALID: "user",
  JOB_MAIN_FAILED: "user",
  JOB_MAIN_TIMEOUT: "user",
  JOB_GRAPH_INVALID: "user",
  PLAN_MISMATCH: "user",
  USER_FUNCTION_FAILED: "user",
  USER_FUNCTION_STUCK: "user",
  TYPE_MISMATCH: "user",
  RECORD_MALFORMED: "user",
  INPUT_NOT_FOUND: "user",
  STATE_ACCESS_INVALID: "user",
  STATE_INCOMPATIBLE: "user",
  JOB_FINISHED: "user",
  JOB_FOREIGN: "user",
  JOB_CLOSED: "user",
  SNAPSHOT_DAMAGED: "user",
  OPERATION_CONFLICT: "user",
  // storage, network, memory: the platform acts (or time does)
  STORAGE_UNAVAILABLE: "platform",
  STORAGE_FULL: "platform",
  STORAGE_DENIED: "platform",
  STORAGE_CONFLICT: "platform",
  DISK_FULL: "platform",
  DISK_FAILED: "platform",
  PEER_LOST: "platform",
  PEER_REJECTED: "platform",
  ADDRESS_IN_USE: "platform",
  NO_SLOTS: "platform",
  OUT_OF_MEMORY: "platform",
  TASK_LOST: "platform",
  // the protocol itself
  FENCED: "sluice",
  HEAD_MOVED: "sluice",
  CHECKPOINT_EXPIRED: "sluice",
  CHECKPOINT_DECLINED: "sluice",
  CHECKPOINT_SUPERSEDED: "sluice",
  CANCELED: "sluice",
  FORMAT_UNSUPPORTED: "sluice",
  PROTOCOL_VIOLATION: "sluice",
  INTERNAL: "sluice",
} as const satisfies Record<string, Actor>;

/** The closed list of failure codes. */
export type FailureCode = keyof typeof CODES;

/** `now`: the same call may succeed at once; `backoff`: later; `never`: only a change by the actor helps. */
export type Retry = "now" | "backoff" | "never";

/** An expected failure. `message` says what and where, `remedy` what to do next. */
export class Failure extends Error {
  override readonly name = "Failure";
  readonly code: FailureCode;
  readonly retry: Retry;
  readonly remedy: string;

  constructor(
    code: FailureCode,
    options: { readonly retry: Retry; readonly message: string; readonly remedy?: string; readonly cause?: unknown },
  ) {
    super(options.message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.retry = options.retry;
    this.remedy = options.remedy ?? "";
  }

  /** Who must act. */
  get actor(): Actor {
    return CODES[this.code];
  }
}

/** True for a Failure of any realm or copy of this module (by shape, not by class). */
export function isFailure(value: unknown): value is Failure {
  return (
    typeof value === "object" &&
    value !== null &&
    (value as { name?: unknown }).name === "Failure" &&
    typeof (value as { code?: unknown }).code === "string" &&
    Object.hasOwn(CODES, (value as { code: string }).code)
  );
}

/** Turns anything thrown into a Failure; `code` applies to what is not one yet. */
export function toFailure(thrown: unknown, code: FailureCode = "INTERNAL", where = ""): Failure {
  if (isFailure(thrown)) return thrown;
  const message = thrown instanceof Error || isErrorLike(thrown) ? thrown.message : String(thrown);
  return new Failure(code, { retry: "never", message: where === "" ? message : `${where}: ${message}`, cause: thrown });
}

function isErrorLike(value: unknown): value is { readonly message: string } {
  return typeof value === "object" && value !== null && typeof (value as { message?: unknown }).message === "string";
}

/** A Failure as plain data, for RPC, REST and logs. `stack` is that of the innermost cause: where it really happened. */
export interface FailureJson {
  readonly code: FailureCode;
  readonly retry: Retry;
  readonly message: string;
  readonly remedy: string;
  readonly stack: string;
}

/** Plain data of a Failure (F3). */
export function failureToJson(failure: Failure): FailureJson {
  let deepest: unknown = failure;
  for (let depth = 0; depth < 10; depth += 1) {
    const cause = (deepest as { cause?: unknown }).cause;
    if (typeof cause !== "object" || cause === null || !isErrorLike(cause)) break;
    deepest = cause;
  }
  const stack = (deepest as { stack?: unknown }).stack;
  return {
    code: failure.code,
    retry: failure.retry,
    message: failure.message,
    remedy: failure.remedy,
    stack: typeof stack === "string" ? stack : "",
  };
}

/** The Failure of plain data; unknown codes (of a newer peer) become INTERNAL and keep their name in the message. */
export function failureFromJson(json: FailureJson): Failure {
  const known = Object.hasOwn(CODES, json.code);
  const failure = new Failure(known ? json.code : "INTERNAL", {
    retry: json.retry,
    message: known ? json.message : `${json.code}: ${json.message}`,
    remedy: json.remedy,
  });
  if (json.stack !== "") failure.stack = json.stack;
  return failure;
}

/** One text for people: code, what, what to do. */
export function describeFailure(failure: Failure): string {
  return failure.remedy === ""
    ? `${failure.code}: ${failure.message}`
    : `${failure.code}: ${failure.message}\n  What to do: ${failure.remedy}`;
}
