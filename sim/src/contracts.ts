// The contract cases of the seams (kit/env/contract.ts), run against the simulated implementations in virtual time.

import { netContract, storeContract, type ContractCase } from "@sluice/kit/env/contract";
import { uploadsContract } from "@sluice/kit/env/uploads-contract";
import { SeededRng } from "@sluice/kit";
import type { ObjectStore } from "@sluice/kit/env";
import { HEALTHY } from "./faults.ts";
import { World } from "./node.ts";
import { UploadSpace } from "./uploads.ts";

const LIMITS = { virtualMs: 3_600_000, events: 2_000_000 };

/** How many cases ran, and which broke a promise. */
export async function runContracts(): Promise<{
  readonly runs: number;
  readonly failed: readonly { readonly name: string; readonly reason: string }[];
}> {
  let world = newWorld();
  const owner = { name: "contract", isAlive: true, pausedUntilMs: 0 };
  const cases: readonly ContractCase[] = [
    ...storeContract(() => Promise.resolve(world.storage.client(owner))),
    ...netContract(() => Promise.resolve(world.wires.net(owner, "machine")), {
      listenAddress: "machine:0",
      deadAddress: "machine:1",
    }),
    ...uploadsContract(() => {
      const space = new UploadSpace(new SeededRng(1));
      const { objects } = space;
      const store: Pick<ObjectStore, "get" | "list"> = {
        get: (path) => Promise.resolve(objects.get(path)),
        list: (prefix) => Promise.resolve(space.list(prefix)),
      };
      return Promise.resolve({ uploads: space.client(), store });
    }),
  ];
  const failed: { readonly name: string; readonly reason: string }[] = [];
  for (const { name, run } of cases) {
    world = newWorld();
    let outcome: string | undefined;
    run().then(
      () => (outcome = ""),
      (thrown: unknown) => (outcome = thrown instanceof Error ? thrown.message : String(thrown)),
    );
    try {
      // One event keeps the queue from being empty before the case has asked for anything.
      world.after(0, "begin", () => undefined);
      const end = await world.runUntil(() => outcome !== undefined, LIMITS);
      const reason = end === "limit" ? "it never ended" : outcome;
      if (reason !== undefined && reason !== "") failed.push({ name, reason });
    } catch (thrown) {
      failed.push({ name, reason: thrown instanceof Error ? thrown.message : String(thrown) });
    }
  }
  return { runs: cases.length, failed };
}

function newWorld(): World {
  return new World({ seed: 1, faults: HEALTHY, keepsTrace: false });
}
