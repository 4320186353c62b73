// Events (events.k8s.io/v1) about objects, for `kubectl describe` and `kubectl events`.
//
// Invariants:
//   ER1. Recording never waits and never fails: what cannot be sent is dropped and counted.
//   ER2. The same thing again (object, type, reason, action) within SERIES_MS is one event with a series, not another event.
//   ER3. Everything is bounded: remembered events, events waiting to be sent, events per object and time.
//   ER4. An event is sent by one request at a time, in the order recorded.
//
// Not here: which events there are (decide/).

import { Failure, retry, toFailure } from "@sluice/kit";
import type { Clock, Log, Rng, Timers } from "@sluice/kit/env";
import { failureOfApiError, isAlreadyExists, isNotFound, isRejected } from "./api/api-error.ts";
import type { KubeClient } from "./api/client.ts";
import { microTime } from "./election.ts";
import type { KubeEvent, KubeObject, ObjectReference, Stored } from "./api/objects.ts";
import { EVENTS } from "./api/resources.ts";
import { TokenBucket } from "./work/rate-limits.ts";

export interface EventRecorderOptions {
  readonly client: KubeClient;
  readonly env: { readonly clock: Clock; readonly timers: Timers; readonly rng: Rng; readonly log: Log };
  /** "sluice.dev/controller". */
  readonly reportingController: string;
  /** Name of this pod. */
  readonly reportingInstance: string;
}

export interface EventToRecord {
  readonly type: "Normal" | "Warning";
  /** Why, in CamelCase: "UpgradeRejected". */
  readonly reason: string;
  /** What was done or tried, in CamelCase: "Upgrade". */
  readonly action: string;
  /** For people; cut at NOTE_BYTES_MAX. */
  readonly note: string;
  readonly related?: Stored<KubeObject>;
}

/** The API server refuses longer ones. It says characters and counts bytes of UTF-8. */
const NOTE_BYTES_MAX = 1024;
const SERIES_MS = 360_000;
/** A series is written at most this often. */
const SERIES_WRITE_MS = 30_000;
const REMEMBERED_COUNT_MAX = 512;
const WAITING_COUNT_MAX = 256;
const OBJECT_COUNT_MAX = 512;
/** Per object: client-go's defaults. */
const BURST = 25;
const PER_SECOND = 1 / 300;
const BACKOFF = { initialMs: 500, maxMs: 10_000, multiplier: 2, jitter: 0.3, resetAfterMs: Number.POSITIVE_INFINITY };
const SEND_MS_MAX = 30_000;

interface Remembered {
  event: KubeEvent;
  count: number;
  lastMs: number;
  writtenMs: number;
  isWaiting: boolean;
  /** The server has it. */
  isSent: boolean;
}

export class EventRecorder {
  readonly #options: EventRecorderOptions;
  /** Oldest first, by time of last use. */
  readonly #remembered = new Map<string, Remembered>();
  readonly #buckets = new Map<string, TokenBucket>();
  readonly #waiting: Remembered[] = [];
  #sending: Promise<void> | undefined;
  #droppedCount = 0;
  #nameCount = 0;

  constructor(options: EventRecorderOptions) {
    this.#options = options;
  }

  /** Events that were not sent, for whatever reason. */
  get droppedCount(): number {
    return this.#droppedCount;
  }

  /** Events waiting to be sent. */
  get waitingCount(): number {
    return this.#waiting.length;
  }

  /** Says about `regarding` what happened (ER1). */
  record(regarding: Stored<KubeObject>, what: EventToRecord): void {
    const nowMs = this.#options.env.clock.nowMs();
    const id = [regarding.metadata.uid, what.type, what.reason, what.action, what.related?.metadata.uid ?? ""].join(
      " ",
    );
    const known = this.#remembered.get(id);
    if (known !== undefined && nowMs - known.lastMs < SERIES_MS) {
      this.#remembered.delete(id);
      this.#remembered.set(id, known);
      known.count += 1;
      known.lastMs = nowMs;
      this.#scheduleSeries(known, nowMs);
      return;
    }
    if (!this.#bucketOf(regarding.metadata.uid).tryTake()) {
      this.#droppedCount += 1; // ER3
      return;
    }
    const one: Remembered = {
      event: this.#event(regarding, what),
      count: 1,
      lastMs: nowMs,
      writtenMs: nowMs,
      isWaiting: false,
      isSent: false,
    };
    this.#remembered.delete(id);
    this.#remembered.set(id, one);
    dropOldest(this.#remembered, REMEMBERED_COUNT_MAX);
    this.#enqueue(one);
  }

  /** Sends what waits, series included; for the end of the process. */
  async flush(): Promise<void> {
    for (const one of this.#remembered.values()) if (one.count > (one.event.series?.count ?? 1)) this.#enqueue(one);
    while (this.#sending !== undefined) await this.#sending;
  }

  #scheduleSeries(one: Remembered, nowMs: number): void {
    if (one.isWaiting) return;
    // The second time is told at once, the others every SERIES_WRITE_MS.
    const inMs = one.count === 2 ? 0 : one.writtenMs + SERIES_WRITE_MS - nowMs;
    one.isWaiting = true;
    this.#options.env.timers.after(Math.max(0, inMs), "event series", () => {
      one.isWaiting = false;
      this.#enqueue(one);
    });
  }

  #enqueue(one: Remembered): void {
    if (this.#waiting.includes(one)) return;
    if (this.#waiting.length >= WAITING_COUNT_MAX) {
      this.#droppedCount += 1;
      return;
    }
    this.#waiting.push(one);
    this.#sending ??= this.#sendAll().finally(() => (this.#sending = undefined));
  }

  async #sendAll(): Promise<void> {
    const { clock, timers, rng, log } = this.#options.env;
    for (let one = this.#waiting.shift(); one !== undefined; one = this.#waiting.shift()) {
      const next = one;
      try {
        const options = { backoff: BACKOFF, clock, timers, rng, deadlineMs: SEND_MS_MAX };
        await retry(async () => await this.#send(next), options);
      } catch (thrown) {
        this.#droppedCount += 1;
        const error = toFailure(thrown).message;
        log.warn("an event was not recorded", { reason: next.event.reason, note: next.event.note, error });
      }
    }
  }

  async #send(one: Remembered): Promise<void> {
    const { client, env } = this.#options;
    const { count } = one;
    const lastObservedTime = microTime(env.clock.wallMs());
    const event = count > 1 ? { ...one.event, series: { count, lastObservedTime } } : one.event;
    one.writtenMs = env.clock.nowMs();
    const at = { namespace: event.metadata.namespace!, name: event.metadata.name! };
    try {
      if (one.isSent) await client.mergePatch(EVENTS, at, { series: event.series });
      else await client.create(EVENTS, event);
      one.isSent = true;
      one.event = event;
    } catch (thrown) {
      if (isAlreadyExists(thrown))
        one.isSent = true; // an earlier try was done after all
      else if (one.isSent && isNotFound(thrown))
        one.isSent = false; // events live an hour
      else if (isRejected(thrown)) {
        throw new Failure("PEER_REJECTED", { retry: "never", message: toFailure(thrown).message, cause: thrown });
      } else throw failureOfApiError(thrown);
      if (one.isSent && count === 1) return;
      throw new Failure("OPERATION_CONFLICT", { retry: "now", message: toFailure(thrown).message, cause: thrown });
    }
  }

  #event(regarding: Stored<KubeObject>, what: EventToRecord): KubeEvent {
    const { env, reportingController, reportingInstance } = this.#options;
    this.#nameCount += 1;
    // As client-go names events: the object, then something unique.
    const unique = `${env.rng.u32().toString(16)}${this.#nameCount.toString(16)}`;
    return {
      apiVersion: "events.k8s.io/v1",
      kind: "Event",
      metadata: {
        namespace: regarding.metadata.namespace ?? "default",
        name: `${regarding.metadata.name.slice(0, 200)}.${unique}`,
      },
      eventTime: microTime(env.clock.wallMs()),
      reportingController,
      reportingInstance,
      type: what.type,
      reason: what.reason,
      action: what.action,
      note: cut(what.note, NOTE_BYTES_MAX),
      regarding: referenceTo(regarding),
      ...(what.related && { related: referenceTo(what.related) }),
    };
  }

  #bucketOf(uid: string): TokenBucket {
    const bucket =
      this.#buckets.get(uid) ??
      new TokenBucket({ perSecond: PER_SECOND, burst: BURST, clock: this.#options.env.clock });
    this.#buckets.delete(uid);
    this.#buckets.set(uid, bucket);
    dropOldest(this.#buckets, OBJECT_COUNT_MAX);
    return bucket;
  }
}

/** What says which object is meant. */
export function referenceTo(object: Stored<KubeObject>): ObjectReference {
  const { apiVersion, kind, metadata } = object;
  const { namespace, name, uid, resourceVersion } = metadata;
  return { apiVersion, kind, name, uid, resourceVersion, ...(namespace !== undefined && { namespace }) };
}

/** The text, or as much of it as fits, with an ellipsis. */
function cut(text: string, bytesMax: number): string {
  const bytes = new TextEncoder().encode(text);
  if (bytes.length <= bytesMax) return text;
  // A character cut in half would become a replacement character: decoding as a stream leaves it out.
  return `${new TextDecoder().decode(bytes.subarray(0, bytesMax - 3), { stream: true })}…`;
}

function dropOldest(map: Map<string, unknown>, countMax: number): void {
  for (const id of map.keys()) {
    if (map.size <= countMax) return;
    map.delete(id);
  }
}
