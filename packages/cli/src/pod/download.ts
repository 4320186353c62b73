// One file over http(s): limits of size, time and redirects, retries, and failures that say who can do something about it.
//
// Invariants:
//   DL1. Never more than `bytesMax` bytes are held.
//   DL2. Redirects stay with http(s), and are followed at most five times.
//
// Not here: checksums, s3:// (source.ts).

import { setTimeout as sleep } from "node:timers/promises";

import { Failure, toFailure } from "@sluice/kit";

const REDIRECTS_MAX = 5;
const TRIES_MAX = 4;
const FIRST_DELAY_MS = 500;

export interface DownloadLimits {
  readonly bytesMax: number;
  /** For all tries together. */
  readonly timeoutMs: number;
}

/**
 * Failures: INPUT_NOT_FOUND (404, 410), STORAGE_DENIED (401, 403, never tried again), STORAGE_UNAVAILABLE (does not answer, 5xx, 429),
 * CONFIG_INVALID (too large, redirects in circles or elsewhere, any other answer).
 */
export async function download(url: string, limits: DownloadLimits): Promise<Uint8Array> {
  const signal = AbortSignal.timeout(limits.timeoutMs);
  for (let tries = 1; ; tries += 1) {
    try {
      return await get(url, limits, signal);
    } catch (thrown) {
      const failure = signal.aborted
        ? unavailable(url, `it did not arrive within ${limits.timeoutMs / 1000} s`, thrown)
        : toFailure(thrown);
      if (failure.retry === "never" || tries === TRIES_MAX || signal.aborted) throw failure;
      await sleep(FIRST_DELAY_MS * 2 ** (tries - 1));
    }
  }
}

async function get(url: string, limits: DownloadLimits, signal: AbortSignal): Promise<Uint8Array> {
  let at = url;
  for (let redirects = 0; redirects <= REDIRECTS_MAX; redirects += 1) {
    let response: Response;
    try {
      response = await fetch(at, { redirect: "manual", signal });
    } catch (thrown) {
      const { message, cause } = thrown as {
        readonly message?: string;
        readonly cause?: { readonly message?: string };
      };
      throw unavailable(at, cause?.message ?? message ?? "no answer", thrown);
    }
    const location = response.headers.get("location");
    if (response.status < 300 || response.status >= 400 || location === null) return await bodyOf(at, response, limits);
    await response.body?.cancel();
    at = redirected(at, location);
  }
  throw refused(url, `more than ${REDIRECTS_MAX} redirects`, "name the place that they lead to");
}

/** DL2. */
function redirected(from: string, location: string): string {
  const to = URL.parse(location, from);
  if (to?.protocol === "http:" || to?.protocol === "https:") return to.href;
  throw refused(from, `it redirects to ${location}`, "name a place that http or https reaches");
}

async function bodyOf(url: string, response: Response, { bytesMax }: DownloadLimits): Promise<Uint8Array> {
  const { status } = response;
  if (status !== 200) {
    await response.body?.cancel();
    throw answerFailure(url, status);
  }
  const tooLarge = (): Failure =>
    refused(url, `it is larger than ${bytesMax} bytes`, "bundle the job without what it does not need");
  if (Number(response.headers.get("content-length") ?? 0) > bytesMax) {
    await response.body?.cancel();
    throw tooLarge();
  }
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  try {
    for await (const chunk of response.body ?? []) {
      sizeBytes += (chunk as Uint8Array).length;
      if (sizeBytes > bytesMax) throw tooLarge(); // DL1
      chunks.push(chunk as Uint8Array);
    }
  } catch (thrown) {
    if (thrown instanceof Failure) throw thrown;
    throw unavailable(url, `it broke off after ${sizeBytes} bytes: ${(thrown as Error).message}`, thrown);
  }
  return Buffer.concat(chunks);
}

function answerFailure(url: string, status: number): Failure {
  if (status === 404 || status === 410) {
    return new Failure("INPUT_NOT_FOUND", {
      retry: "never",
      message: `the job's source ${url} does not exist (HTTP ${status})`,
      remedy: "correct spec.job.uri.url",
    });
  }
  if (status === 401 || status === 403) {
    return new Failure("STORAGE_DENIED", {
      retry: "never",
      message: `the job's source ${url} may not be read (HTTP ${status})`,
      remedy: "put it where the job's pods may read it without credentials, or into the object store (s3://)",
    });
  }
  if (status >= 500 || status === 408 || status === 429) return unavailable(url, `HTTP ${status}`);
  return refused(url, `it was answered with HTTP ${status}`, "correct spec.job.uri.url");
}

function unavailable(url: string, reason: string, cause?: unknown): Failure {
  return new Failure("STORAGE_UNAVAILABLE", {
    retry: "backoff",
    message: `the job's source ${url} cannot be fetched: ${reason}`,
    remedy: "check that its host can be reached from the cluster",
    cause,
  });
}

function refused(url: string, reason: string, remedy: string): Failure {
  return new Failure("CONFIG_INVALID", {
    retry: "never",
    message: `the job's source ${url} cannot be used: ${reason}`,
    remedy,
  });
}
