// Asks a JobManager that may die and come back at any time.
//
// Invariants:
//   RC1. Every question has a time limit and looks up the address anew.
//   RC2. What changes something is asked with an id: asking again after a lost answer does nothing twice.

import { randomBytes } from "node:crypto";

import { OPERATION_ID_HEADER } from "@sluice/api";
import type {
  CheckpointingMessage,
  ClusterOverviewMessage,
  ErrorMessage,
  JobDetailsMessage,
  JobExceptionsMessage,
  JobIdsMessage,
  MetricEntry,
} from "@sluice/api";
import { Failure } from "@sluice/kit";

const TIMEOUT_MS = 2_000;

export class RestClient {
  readonly #url: () => string | undefined;

  /** `url`: of the JobManager as it is now, `http://host:port`; undefined while there is none. */
  constructor(url: () => string | undefined) {
    this.#url = url;
  }

  /** Rejects with PEER_LOST (backoff) while nobody answers, with INTERNAL and the answer's message for errors. */
  async get<T>(path: string): Promise<T> {
    return (await this.#ask("GET", path)) as T;
  }

  /** The id of the one job of a JobManager. */
  async jobId(): Promise<string> {
    const [job] = (await this.get<JobIdsMessage>("/jobs")).jobs;
    if (job !== undefined) return job.id;
    throw new Failure("PEER_LOST", { retry: "backoff", message: "the JobManager has no job yet" });
  }

  overview(): Promise<ClusterOverviewMessage> {
    return this.get("/overview");
  }

  async job(): Promise<JobDetailsMessage> {
    return await this.get(`/jobs/${await this.jobId()}`);
  }

  async checkpoints(): Promise<CheckpointingMessage> {
    return await this.get(`/jobs/${await this.jobId()}/checkpoints`);
  }

  async exceptions(): Promise<JobExceptionsMessage> {
    return await this.get(`/jobs/${await this.jobId()}/exceptions`);
  }

  /** A metric of the job; NaN when there is none of this name. */
  async metric(name: string): Promise<number> {
    return (await this.metrics([name]))[name] ?? Number.NaN;
  }

  /** Metrics of the job, of one moment; those that do not exist are left out. */
  async metrics<Name extends string>(names: readonly Name[]): Promise<Readonly<Partial<Record<Name, number>>>> {
    const path = `/jobs/${await this.jobId()}/metrics?get=${names.join(",")}`;
    const entries = await this.get<readonly MetricEntry[]>(path);
    return Object.fromEntries(entries.map(({ id, value }) => [id, Number(value)])) as Partial<Record<Name, number>>;
  }

  /** Asks for cancellation; the job ends some time after. Whoever asks again gives the same `operationId` (RC2). */
  async cancel(operationId = newOperationId()): Promise<void> {
    await this.#ask("PATCH", `/jobs/${await this.jobId()}?mode=cancel`, { [OPERATION_ID_HEADER]: operationId });
  }

  /** Has something done once per `operationId`, however often it is asked for (RC2). */
  async post(path: string, message: unknown, operationId: string): Promise<void> {
    const headers = { [OPERATION_ID_HEADER]: operationId, "content-type": "application/json" };
    await this.#ask("POST", path, headers, JSON.stringify(message));
  }

  /** The same for what is replaced. */
  async put(path: string, message: unknown, operationId: string): Promise<void> {
    const headers = { [OPERATION_ID_HEADER]: operationId, "content-type": "application/json" };
    await this.#ask("PUT", path, headers, JSON.stringify(message));
  }

  async #ask(
    method: "GET" | "PATCH" | "POST" | "PUT",
    path: string,
    headers: Readonly<Record<string, string>> = {},
    content: string | null = null,
  ): Promise<unknown> {
    const url = this.#url();
    if (url === undefined) throw new Failure("PEER_LOST", { retry: "backoff", message: "there is no JobManager now" });
    let response: Response;
    let body: unknown;
    try {
      response = await fetch(`${url}${path}`, {
        method,
        headers: { ...authorization(), ...headers },
        ...(content === null ? {} : { body: content }),
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      body = await response.json();
    } catch (cause) {
      const { message, cause: inner } = cause as Error;
      const reason = inner instanceof Error ? inner.message : message;
      throw new Failure("PEER_LOST", {
        retry: "backoff",
        message: `no JobManager answers at ${url}: ${reason}`,
        remedy: "Check the address, and that the job runs.",
        cause,
      });
    }
    if (response.ok) return body;
    const [message = "no message"] = (body as Partial<ErrorMessage>).errors ?? [];
    if (response.status === 401) {
      throw new Failure("CONFIG_INVALID", {
        retry: "never",
        message: `${url} does not take the token: ${message}`,
        remedy: "Set SLUICE_REST_TOKEN to the token that the JobManager was started with.",
      });
    }
    if (response.status === 503) {
      throw new Failure("PEER_LOST", { retry: "backoff", message: `${method} ${path}: ${message}` });
    }
    throw new Failure("INTERNAL", { retry: "never", message: `${method} ${path}: ${response.status} ${message}` });
  }
}

/** An id for an operation: 32 hex digits that nobody else draws. */
export function newOperationId(): string {
  return randomBytes(16).toString("hex");
}

function authorization(): Readonly<Record<string, string>> {
  const token = process.env["SLUICE_REST_TOKEN"] ?? "";
  return token === "" ? {} : { authorization: `Bearer ${token}` };
}
