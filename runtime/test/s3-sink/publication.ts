// Publication of a sink's objects on a real MinIO, with the client cut off at a random moment of it; the next attempt then restores.
//
// A round: one attempt writes through a proxy and takes a snapshot, which counts as committed; it publishes, and at a random moment both
// ends of all its connections are closed, as the kernel does for a killed process. The next attempt opens with the snapshot; in half of the
// rounds it is cut off as well, and a third one opens.
//
// Invariants that are audited: every record is in exactly one visible object (OF1, OF7 of connectors/object-files.ts), nothing stays staged.

import { SeededRng } from "@sluice/kit";
import type { Rng, StagedUploads } from "@sluice/kit/env";
import { NodeTimers, openObjectStore, openStagedUploads } from "@sluice/kit/env/node";
import type { MinioServer } from "@sluice/tools/peers";
import { Client } from "minio";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { setImmediate as turn } from "node:timers/promises";

import { retryingUploads } from "../../src/connectors/index.ts";
import { ObjectFiles } from "../../src/connectors/object-files.ts";
import type { Barrier, CheckpointId, OperatorStateContent, RestoredOperatorState } from "../../src/model/index.ts";
import { testSubtask } from "../../src/operators/index.ts";

/**
 * `uploads-completed-late`: as releases did that completed the upload after the commit, without the precaution of s3-calls.ts (M5); for the
 * proof that a round notices a loss.
 */
export type Way = "staged" | "staged-in-parts" | "uploads-completed-late";

export interface RoundOutcome {
  /** Undefined: all is there, once. */
  readonly wrong: string | undefined;
  /** The cut came before the publication had ended. */
  readonly isCutInside: boolean;
}

export interface Rounds {
  /** One round; `seed` decides about the moment. */
  run(way: Way, seed: number): Promise<RoundOutcome>;
  close(): Promise<void>;
}

/** Smallest part that S3 takes before the last one. */
const PART_BYTES = 5 * 1024 * 1024;
const LINE = `${"x".repeat(1_023)}\n`;
const MEASURED_ROUNDS = 3;
const BUCKET = "publication";
const silent = { debug() {}, info() {}, warn() {}, error() {}, with: () => silent };

/** The bucket "publication" exists. */
export async function publicationRounds(server: MinioServer): Promise<Rounds> {
  const cutter = await startCutter(server);
  const durationsMs = new Map<Way, number>();
  let serial = 0;

  const uploadsAt = async (endpoint: string, prefix: string): Promise<StagedUploads> => {
    const { accessKey, secretKey } = server;
    const opened = await openStagedUploads(`s3://${BUCKET}/${prefix}`, { s3: { endpoint, accessKey, secretKey } });
    return retryingUploads(opened, { timers: new NodeTimers(), rng: new SeededRng(1), log: silent });
  };

  /** `cutAfterMs` undefined: not at all. */
  const round = async (
    way: Way,
    cutAfterMs: number | undefined,
    secondCutAfterMs?: number,
  ): Promise<RoundOutcome & { readonly durationMs: number }> => {
    serial += 1;
    const prefix = `${way}-${serial}`;
    const through = await uploadsAt(cutter.endpoint, prefix);
    const direct = await uploadsAt(server.endpoint, prefix);
    const lines = way === "staged-in-parts" ? [LINE.repeat(PART_BYTES / 1_024), "end\n"] : [`${serial}\n`, "end\n"];
    const text = lines.join("");
    const files = filesOver(through, 0);
    let state: OperatorStateContent;
    const { accessKey, secretKey } = server;
    let publish = (): Promise<unknown> => files.complete(1 as CheckpointId);
    if (way === "uploads-completed-late") {
      const upload = await through.begin("part-L-op-0-1.0-0.txt");
      const part = await through.putPart(upload, { number: 1, bytes: new TextEncoder().encode(text) });
      if (part === "absent") throw new Error("an upload that was begun takes parts");
      state = { mode: "split", items: [{ json: { lineage: "L", upload, parts: [part] } }] };
      const client = new Client({
        ...cutter.address,
        useSSL: false,
        accessKey,
        secretKey,
        retryOptions: { disableRetry: true },
      });
      const key = `${prefix}/${upload.path}`;
      publish = () => client.completeMultipartUpload(BUCKET, key, upload.uploadId, [{ part: 1, etag: part.etag }]);
    } else {
      for (const line of lines) files.append(line);
      state = await files.snapshot({ checkpointId: 1 as CheckpointId } as Barrier);
    }
    const startMs = performance.now();
    let endMs: number | undefined;
    const publishing = publish().then(
      () => void (endMs = performance.now()),
      () => undefined, // it is dead
    );
    if (cutAfterMs !== undefined) {
      await pauseMs(cutAfterMs);
      cutter.cut();
      await files.close(false);
    }
    await publishing;
    const isCutInside = endMs === undefined;
    cutter.join();
    const restored = {
      states: new Map([["sink-pending", structuredClone(state)]]),
    } as unknown as RestoredOperatorState;
    if (secondCutAfterMs !== undefined) {
      const second = filesOver(through, 1);
      const opening = second.open(restored).catch(() => undefined); // it dies, too
      await pauseMs(secondCutAfterMs);
      cutter.cut();
      await second.close(false);
      await opening;
      cutter.join();
    }
    const next = filesOver(direct, 2);
    let wrong: string | undefined;
    try {
      await next.open(restored);
    } catch (thrown) {
      wrong = `the next attempt cannot restore: ${(thrown as Error).message}`;
    }
    await next.close(false);
    wrong ??= await audit(direct, text);
    return { wrong, isCutInside, durationMs: (endMs ?? startMs) - startMs };
  };

  const audit = async (uploads: StagedUploads, text: string): Promise<string | undefined> => {
    const listed = (await uploads.listObjects("")).map(({ path }) => path);
    if (listed.length !== 1) return `objects: ${listed.join(", ")}`;
    const [name = ""] = listed;
    if (!name.startsWith("part-")) return `only ${name}`;
    const { endpoint, accessKey, secretKey } = server;
    const store = await openObjectStore(uploads.uri, { s3: { endpoint, accessKey, secretKey } });
    const found = await store.get(name);
    return new TextDecoder().decode(found) === text ? undefined : `${name} has other bytes than were written`;
  };

  return {
    run: async (way, seed) => {
      let durationMs = durationsMs.get(way);
      if (durationMs === undefined) {
        const measured: number[] = [];
        for (let i = 0; i < MEASURED_ROUNDS; i += 1) {
          const { wrong, durationMs: taken } = await round(way, undefined);
          if (wrong !== undefined) return { wrong: `without any cut: ${wrong}`, isCutInside: false };
          measured.push(taken);
        }
        durationMs = Math.min(...measured);
        durationsMs.set(way, durationMs);
      }
      const rng: Rng = new SeededRng(seed);
      const longestMs = 1.5 * durationMs;
      const moment = (): number => (rng.u32() / 2 ** 32) * longestMs;
      return await round(way, moment(), rng.chance(0.5) ? moment() : undefined);
    },
    close: () => cutter.close(),
  };
}

/** Finer than a timer, which counts whole milliseconds. */
async function pauseMs(durationMs: number): Promise<void> {
  const startMs = performance.now();
  while (performance.now() - startMs < durationMs) await turn();
}

function filesOver(uploads: StagedUploads, attempt: number): ObjectFiles {
  return new ObjectFiles({
    uploads,
    extension: ".txt",
    header: "",
    subtask: { ...testSubtask({}), lineage: "L", attempt: attempt as never },
    checkpointingEnabled: true,
    wake: () => {},
    partBytes: PART_BYTES,
  });
}

/** A pipe to MinIO whose user can be made to die. */
async function startCutter(server: MinioServer): Promise<{
  readonly endpoint: string;
  readonly address: { readonly endPoint: string; readonly port: number };
  cut(): void;
  /** Lets connections through again. */
  join(): void;
  close(): Promise<void>;
}> {
  let isCut = false;
  const sockets = new Set<Socket>();
  const pipe = createServer((client) => {
    if (isCut) {
      client.destroy();
      return;
    }
    const store = connect(server.port, server.host);
    for (const socket of [client, store]) {
      socket.setNoDelay(true);
      sockets.add(socket);
      socket.on("close", () => {
        sockets.delete(socket);
        client.destroy();
        store.destroy();
      });
      socket.on("error", () => socket.destroy());
    }
    client.pipe(store);
    store.pipe(client);
  }).listen(0, "127.0.0.1");
  await once(pipe, "listening");
  const { port } = pipe.address() as AddressInfo;
  return {
    endpoint: `http://127.0.0.1:${port}`,
    address: { endPoint: "127.0.0.1", port },
    cut: () => {
      isCut = true;
      for (const socket of sockets) socket.destroy();
    },
    join: () => void (isCut = false),
    close: async () => {
      for (const socket of sockets) socket.destroy();
      pipe.close();
      await once(pipe, "close");
    },
  };
}
