// A newest checkpoint that was damaged while the job was down, on real processes and real stores: repaired from a local copy, gone
// back behind with the output taken back, or refused with both choices named. Never silently something else.

import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import type { LocalClusterOptions } from "@sluice/cli";
import type { ObjectStore } from "@sluice/kit/env";
import { openObjectStore } from "@sluice/kit/env/node";
import { parsePublishedName } from "@sluice/runtime/internal/connectors";
import { minio, startMinio } from "@sluice/tools/peers";
import type { MinioServer } from "@sluice/tools/peers";
import { describeWithPeer } from "@sluice/tools/peers/jest";
import { readFileSync, rmSync } from "node:fs";

import { endOf, NumbersRun, untilCompleted } from "../support/numbers-run.ts";
import type { NumbersOptions } from "../support/numbers-options.ts";
import { publishedFiles } from "../support/published.ts";
import { damageHead, headOf, makeBucket, s3Environment } from "../support/store.ts";
import type { DamageKind } from "../support/store.ts";

const TEST_TIMEOUT_MS = 180_000;
const COUNT = 40_000;
/** Of each subtask of the source: the input outlasts all that is done to the job, on a slow machine too; drained at full speed. */
const PER_SECOND = 200;

const undo: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).toReversed()) await step();
});
interface Place {
  readonly run: NumbersRun;
  readonly store: ObjectStore;
  readonly cluster: Partial<LocalClusterOptions>;
}

/** With a job that has committed output and was killed. `options`: of a job of its own. */
type MakePlace = (options?: Partial<NumbersOptions>) => Promise<Place>;

/** One killed job, which every kind of damage begins from; `makeNew` gives the place for it, and for jobs with options of their own. */
function firstOf(makeNew: () => Promise<Place>): MakePlace {
  let first: { readonly place: Place; readonly objects: ReadonlyMap<string, Uint8Array> } | undefined;
  afterAll(async () => await first?.place.run.dispose());
  return async (options) => {
    if (first !== undefined && options === undefined) {
      await first.place.run.back();
      await putAll(first.place.store, first.objects);
      return first.place;
    }
    const place = await makeNew();
    if (options !== undefined) undo.push(() => place.run.dispose());
    await runAndKill(place, options);
    if (options !== undefined) return place;
    place.run.keep();
    first = { place, objects: await getAll(place.store) };
    return place;
  };
}

async function getAll(store: ObjectStore): Promise<ReadonlyMap<string, Uint8Array>> {
  const all = new Map<string, Uint8Array>();
  for (const { path } of await store.list("")) all.set(path, (await store.get(path)) ?? new Uint8Array());
  return all;
}

/** Afterwards the store holds these objects and nothing else. */
async function putAll(store: ObjectStore, objects: ReadonlyMap<string, Uint8Array>): Promise<void> {
  for (const { path } of await store.list("")) await store.remove(path);
  for (const [path, bytes] of objects) await store.put(path, bytes);
}

/**
 * Runs until checkpoints are committed, kills everything; again, until the newest checkpoint of a killed run had its output published:
 * what going back behind it must take back.
 */
async function runAndKill({ run, store, cluster: where }: Place, options: Partial<NumbersOptions> = {}): Promise<void> {
  for (let published = false; !published;) {
    const cluster = await run.start({ sourcePerSecond: PER_SECOND, ...options }, where);
    const newest = await untilCompleted(cluster, 4);
    await cluster.until("its output is published", () => publishedOf(run, newest) > 0, { timeoutMs: 60_000 });
    await cluster.stop(0);
    const { head } = await headOf(store, `default/${run.name}`);
    published = publishedOf(run, head?.id ?? 0) > 0;
  }
}

/** How many files of this checkpoint's output are published. */
function publishedOf(run: NumbersRun, checkpointId: number): number {
  const files = publishedFiles(run.outputDirectory);
  return files.filter((name) => parsePublishedName(name)?.checkpointId === checkpointId).length;
}

interface Damaged extends Place {
  readonly jobDir: string;
  readonly damagedId: number;
}

/** A job that was killed, with a head that is damaged. */
async function runAndDamage(
  makePlace: MakePlace,
  damage: { readonly kind: DamageKind; readonly localCopies: "kept" | "lost" },
  options?: Partial<NumbersOptions>,
): Promise<Damaged> {
  const place = await makePlace(options);
  const { run, store } = place;
  const jobDir = `default/${run.name}`;
  const damagedId = await damageHead(store, jobDir, damage.kind);
  if (damage.localCopies === "lost") {
    for (const id of ["tm-1", "tm-2"]) rmSync(run.at("work", id), { recursive: true, force: true });
  }
  return { ...place, jobDir, damagedId };
}

interface Finished {
  /** Id of the checkpoint that the second run restored. */
  readonly restoredId: number;
  readonly override: string | null;
  readonly logs: string;
}

/** Starts it again and lets it run to its end; the output must be exact. */
async function finish(
  damaged: Damaged,
  options: Partial<NumbersOptions> = {},
  cluster: Partial<LocalClusterOptions> = {},
): Promise<Finished> {
  const { run, store, jobDir } = damaged;
  const configuration = { ...damaged.cluster.configuration, ...cluster.configuration };
  const second = await run.start(
    { sourcePerSecond: PER_SECOND, ...options },
    { ...damaged.cluster, ...cluster, configuration },
  );
  const restored = await second.until(
    "every task runs from a restored checkpoint",
    async () => {
      const { latest } = await second.rest.checkpoints();
      const { vertices } = await second.rest.job();
      const isRunning = vertices.every((vertex) => vertex.tasks.RUNNING === vertex.parallelism);
      return isRunning ? latest.restored : undefined;
    },
    { timeoutMs: 60_000 },
  );
  const { override } = await headOf(store, jobDir);
  run.drain();
  const outcome = await endOf(second);
  const logs = second
    .processes()
    .map(({ logPath }) => readFileSync(logPath, "utf8"))
    .join("");
  expect({ outcome, logs }).toMatchObject({ outcome: { state: "FINISHED" } });
  expect(run.audit()).toMatchObject({ passed: true, problems: [] });
  return { restoredId: restored.id, override: override?.type ?? null, logs };
}

function damagedHead(makePlace: MakePlace, repairs: readonly DamageKind[], rollbacks: readonly DamageKind[]): void {
  test.each(repairs)(
    "%s: the local copies are read instead or heal it, nothing is replayed twice",
    async (kind) => {
      const damaged = await runAndDamage(makePlace, { kind, localCopies: "kept" });
      // A missing object shows when the JobManager looks for it; other damage only to who reads the store first.
      const isSeen = kind === "missing pack";
      const { restoredId, override, logs } = await finish(
        damaged,
        {},
        isSeen ? {} : { configuration: { "execution.state-recovery.from-local": "false" } },
      );
      expect({ restoredId, override }).toEqual({ restoredId: damaged.damagedId, override: null });
      expect(logs).toMatch(isSeen ? /repaired from local copies/ : /restored from the local copy/);
    },
    TEST_TIMEOUT_MS,
  );

  test.each(rollbacks)(
    "%s without local copies: back to an older checkpoint, published output is taken back",
    async (kind) => {
      const damaged = await runAndDamage(makePlace, { kind, localCopies: "lost" });
      const { restoredId, logs } = await finish(damaged);
      expect(restoredId).toBeLessThan(damaged.damagedId);
      expect(logs).toMatch(/goes back behind its newest checkpoint.*all-sinks-retract/);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    "with a sink that cannot take output back: stops and names both choices; allow-replay goes on",
    async () => {
      const options = { withFinalSink: true };
      const damaged = await runAndDamage(makePlace, { kind: "flipped byte in a pack", localCopies: "lost" }, options);
      const { run, cluster } = damaged;
      const refused = await run.start({ sourcePerSecond: PER_SECOND, ...options }, cluster);
      const outcome = await endOf(refused);
      expect(outcome.state).toBe("FAILED");
      expect(outcome.message).toContain(`checkpoint ${damaged.damagedId}, the newest, is damaged`);
      const text =
        outcome.state === "FAILED" && outcome.failure !== undefined ? outcome.failure.remedy : outcome.message;
      expect(text).toContain("restore the damaged objects from a copy");
      const ids = /execution\.state-recovery\.allow-replay to one of the whole older checkpoints: ([\d, ]+)/.exec(
        text,
      )?.[1];
      const newest = ids?.split(", ").at(-1) ?? "none";
      expect(Number(newest)).toBeLessThan(damaged.damagedId);

      const { restoredId, logs } = await finish(damaged, options, {
        configuration: { "execution.state-recovery.allow-replay": newest },
      });
      expect(restoredId).toBe(Number(newest));
      expect(logs).toMatch(/goes back behind its newest checkpoint.*allow-replay/);
    },
    TEST_TIMEOUT_MS,
  );
}

describe("a damaged head on a file store", () => {
  const onFile = firstOf(async () => {
    const run = new NumbersRun({ seed: 1, count: COUNT });
    return { run, store: await openObjectStore(run.storeUri), cluster: {} };
  });
  damagedHead(onFile, ["flipped byte in a pack", "missing pack"], ["flipped byte in a pack", "missing _metadata"]);
});

describeWithPeer(minio, "a damaged head on MinIO", () => {
  let server: MinioServer;
  beforeAll(async () => {
    server = await startMinio();
    await makeBucket(server, "checkpoints");
  });
  afterAll(async () => await server.stop());
  let jobs = 0;
  const onMinio = firstOf(async () => {
    jobs += 1;
    const run = new NumbersRun({ seed: 1, count: COUNT, storeUri: `s3://checkpoints/test-${jobs}` });
    const { endpoint, accessKey, secretKey } = server;
    return {
      run,
      store: await openObjectStore(run.storeUri, { s3: { endpoint, accessKey, secretKey } }),
      cluster: { env: s3Environment(server), configuration: { "s3.endpoint": endpoint } },
    };
  });
  damagedHead(onMinio, ["flipped byte in a pack"], ["missing _metadata"]);
});
