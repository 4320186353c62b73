// What an error of an S3 call means: absent, definite or ambiguous, and which Failure. Pure.
//
// Invariants:
//   X1. Ambiguous is the default for anything that came after the connection stood: only answers that S3 defines as "not
//       done" are definite (M2 of s3-store.ts).
//   X2. Only NoSuchKey, and 404 to HEAD, are absent. A bare 404 to anything else is nobody's answer: S3 says what is not there.

import { Failure } from "../../failure.ts";
import type { FailureCode, Retry } from "../../failure.ts";

/** What the transport saw of the last request of a call. */
export interface CallTrace {
  /** Of the last request; undefined when none was made. */
  method: string | undefined;
  /** HTTP status of the answer; undefined without an answer. */
  status: number | undefined;
  /** The connection stood, so the request may have arrived. */
  connected: boolean;
  /** The connection had served another request before. */
  reused: boolean;
  /** The deadline ended the call. */
  expired: boolean;
}

export interface CallPlace {
  readonly verb: string;
  readonly path: string;
  readonly uri: string;
  readonly bucket: string;
  readonly endpoint: string;
}

export interface Classified {
  readonly reason: "absent" | "ambiguous" | "definite";
  readonly failure: Failure;
}

interface Rule {
  readonly codes: readonly string[];
  readonly failure: FailureCode;
  readonly retry: Retry;
  readonly remedy: string;
}

// SlowDownWrite is missing on purpose: MinIO says so when it lost its write quorum, which may leave the object behind.
const RULES: readonly Rule[] = [
  {
    codes: [
      "SlowDown",
      "SlowDownRead",
      "ServiceUnavailable",
      "Busy",
      "TooManyRequests",
      "RequestTimeout",
      "XMinioServerNotInitialized",
    ],
    failure: "STORAGE_UNAVAILABLE",
    retry: "backoff",
    remedy: "The store asks for fewer requests; it is tried again.",
  },
  {
    codes: ["XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded", "InsufficientStorage"],
    failure: "STORAGE_FULL",
    retry: "backoff",
    remedy: "Free space in the store, raise the quota, or retain fewer checkpoints.",
  },
  {
    codes: [
      "AccessDenied",
      "InvalidAccessKeyId",
      "SignatureDoesNotMatch",
      "InvalidToken",
      "ExpiredToken",
      "AllAccessDisabled",
      "AccountProblem",
      "InvalidSecurity",
    ],
    failure: "STORAGE_DENIED",
    retry: "never",
    remedy: "Check access key, secret key and the policy: get, put, delete and list are needed under this prefix.",
  },
  {
    codes: ["RequestTimeTooSkewed"],
    failure: "STORAGE_DENIED",
    retry: "backoff",
    remedy: "The clocks of this machine and of the store differ too much: synchronise them.",
  },
  {
    codes: [
      "AuthorizationHeaderMalformed",
      "PermanentRedirect",
      "MovedPermanently",
      "TemporaryRedirect",
      "IllegalLocationConstraintException",
    ],
    failure: "CONFIG_INVALID",
    retry: "never",
    remedy: "The bucket lives in another region or at another endpoint: set both.",
  },
  {
    codes: ["NotImplemented", "MethodNotAllowed", "InvalidBucketName", "InvalidBucketNameError"],
    failure: "CONFIG_INVALID",
    retry: "never",
    remedy:
      "Use a store that supports conditional writes (If-None-Match), and a bucket name of 3 to 63 lower-case letters, digits and hyphens.",
  },
];

/** Sorts an error thrown by a call through minio. */
export function classify(error: unknown, trace: CallTrace, place: CallPlace): Classified {
  const code = textOf(error, "code");
  const { status } = trace;
  const make = (failure: FailureCode, retry: Retry, remedy: string): Failure =>
    new Failure(failure, { retry, message: describe(error, code, trace, place), remedy, cause: error });

  if (status === 404 && code === "NoSuchBucket") {
    const message = `the bucket "${place.bucket}" does not exist at ${place.endpoint}`;
    const remedy = "Create the bucket, or correct its name in the configuration.";
    return {
      reason: "definite",
      failure: new Failure("CONFIG_INVALID", { retry: "never", message, remedy, cause: error }),
    };
  }
  const isBare = status === 404 && code === "NotFound"; // so minio calls an answer without a body
  if (status === 404 && (code === "NoSuchKey" || (isBare && trace.method === "HEAD"))) {
    return { reason: "absent", failure: make("INPUT_NOT_FOUND", "never", "") };
  }
  const rule = RULES.find((r) => r.codes.includes(code));
  if (rule !== undefined && (status !== undefined || rule.failure === "CONFIG_INVALID")) {
    return { reason: "definite", failure: make(rule.failure, rule.retry, rule.remedy) };
  }
  if (status === 507)
    return { reason: "definite", failure: make("STORAGE_FULL", "backoff", "Free space in the store.") };
  if (status === 401 || status === 403) {
    return {
      reason: "definite",
      failure: make("STORAGE_DENIED", "never", "Check the credentials and the policy of the bucket."),
    };
  }
  const unavailable = make(
    "STORAGE_UNAVAILABLE",
    "backoff",
    "Check that the store runs and can be reached; it is tried again.",
  );
  if (status === undefined && !trace.connected) return { reason: "definite", failure: unavailable };
  const isKnown = status !== undefined && status >= 400 && status < 500 && ![408, 409, 429, 499].includes(status);
  if (isKnown && !isBare) {
    return { reason: "definite", failure: unavailable }; // refused, for a reason that we do not know
  }
  return { reason: "ambiguous", failure: unavailable };
}

function describe(error: unknown, code: string, trace: CallTrace, place: CallPlace): string {
  const what = `cannot ${place.verb} ${place.uri}/${place.path} at ${place.endpoint}`;
  const message = textOf(error, "message");
  const reason = [
    trace.status === undefined ? "" : `HTTP ${trace.status}`,
    code,
    message === code ? "" : message,
  ].filter((part) => part !== "");
  return `${what}: ${reason.length === 0 ? "no reason given" : reason.join(", ")}`;
}

function textOf(value: unknown, key: string): string {
  const text =
    typeof value === "object" && value !== null ? (value as Readonly<Record<string, unknown>>)[key] : undefined;
  return typeof text === "string" ? text : "";
}
