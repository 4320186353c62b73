// A newest checkpoint that was damaged while the job was down, on real processes and real stores: repaired from a local copy, gone
// back behind with the output taken back, or refused with both choices named. Never silently something else.

import { afterAll, afterEach, describe, expect, test } from "@jest/globals";
import type { LocalClusterOptions } from "@sluice/cli";
import type { ObjectStore } from "@sluice/kit/env";
import { openObjectStore } from "@sluice/kit/env/node";
import { minio, startMinio } from "@sluice/tools/peers";
import { describeWithPeer } from "@sluice/tools/peers/jest";
import { readFileSync, rmSync } from "node:fs";

import { endOf, NumbersRun, untilCompleted } from "../support/numbers-run.ts";
import type { NumbersOptions } from "../support/numbers-options.ts";
import { damageHead, headOf, makeBucket, s3Environment } from "../support/store.ts";
import type { DamageKind } from "../support/store.ts";

const TEST_TIMEOUT_MS = 180_000;
const COUNT = 40_000;
const PER_SECOND = 1_500;

const undo: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).toReversed()) await step();
});
afterAll(async () => await firstRun?.dispose());

/** The job in files, as it was killed: one run, which every kind of damage begins from. */
let firstRun: NumbersRun | undefined;

interface Place {
  readonly run: NumbersRun;
  readonly store: ObjectStore;
  readonly cluster: Partial<LocalClusterOptions>;
}

/** With a job that has committed output and was killed. `options`: of a job of its own. */
type MakePlace = (options?: Partial<NumbersOptions>) => Promise<Place>;

const onFile: MakePlace = async (options) => {
  if (firstRun !== undefined && options === undefined) {
    await firstRun.back();
    return { run: firstRun, store: await openObjectStore(firstRun.storeUri), cluster: {} };
  }
  const run = new NumbersRun({ seed: 1, count: COUNT });
  const place = { run, store: await openObjectStore(run.storeUri), cluster: {} };
  if (options !== undefined) undo.push(() => run.dispose());
  else firstRun = run;
  await runAndKill(place, options);
  run.keep();
  return place;
};

const onMinio: MakePlace = async (options) => {
  const server = await startMinio();
  undo.push(() => server.stop());
  await makeBucket(server, "checkpoints");
  const run = new NumbersRun({ seed: 1, count: COUNT, storeUri: "s3://checkpoints/test" });
  undo.push(() => run.dispose());
  const { endpoint, accessKey, secretKey } = server;
  const place = {
    run,
    store: await openObjectStore(run.storeUri, { s3: { endpoint, accessKey, secretKey } }),
    cluster: { env: s3Environment(server), configuration: { "s3.endpoint": endpoint } },
  };
  await runAndKill(place, options);
  return place;
};

/** Runs until there is committed output, kills everything. */
async function runAndKill({ run, cluster: where }: Place, options: Partial<NumbersOptions> = {}): Promise<void> {
  const cluster = await run.start({ perSecond: PER_SECOND, ...options }, where);
  await untilCompleted(cluster, 4);
  await cluster.until("output is published", () => run.publishedFileCount > 2, { timeoutMs: 60_000 });
  await cluster.stop(0);
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
    { perSecond: PER_SECOND, ...options },
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
      const refused = await run.start({ perSecond: PER_SECOND, ...options }, cluster);
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
  damagedHead(onFile, ["flipped byte in a pack", "missing pack"], ["flipped byte in a pack", "missing _metadata"]);
});

describeWithPeer(minio, "a damaged head on MinIO", () => {
  damagedHead(onMinio, ["flipped byte in a pack"], ["missing _metadata"]);
});
