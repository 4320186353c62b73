// Deleting what was condemned, over a store in memory that counts how many removals are under way.

import { expect, test } from "@jest/globals";
import type { CheckpointId, Epoch } from "../model/index.ts";
import { CheckpointGarbage } from "./garbage.ts";
import { MemoryStore } from "./memory-store.fixture.ts";
import type { CommitRecord } from "./types.ts";

const CONDEMNED = 3 as CheckpointId;
const RECORD: CommitRecord = {
  formatVersion: 0,
  seq: 1,
  epoch: 1 as Epoch,
  nonce: "n",
  uid: "u",
  lineage: "l",
  submission: "s",
  closed: false,
  jobState: "active",
  idHigh: 64,
  planDigest: "p",
  head: null,
  origin: null,
  retained: [],
  condemned: [CONDEMNED],
  pins: [],
  ops: [],
  override: null,
  writtenMs: 0,
};

class CountingStore extends MemoryStore {
  underWay = 0;
  mostUnderWay = 0;

  override async remove(path: string): Promise<void> {
    this.underWay += 1;
    this.mostUnderWay = Math.max(this.mostUnderWay, this.underWay);
    await Promise.resolve(); // others may begin
    await super.remove(path);
    this.underWay -= 1;
  }
}

test.each([
  [true, 8],
  [false, 1],
])("cleaner.parallel-mode %s: at most %i removals at a time; G2: _metadata first", async (cleansInParallel, most) => {
  const store = new CountingStore();
  const names = ["_metadata", ...Array.from({ length: 20 }, (_, i) => `x-${i}`)];
  for (const name of names) await store.put(`j/chk-3/${name}`, Uint8Array.of(1));
  await store.put("j/chk-4/_metadata", Uint8Array.of(1));
  const garbage = new CheckpointGarbage(store, "j", { cleansInParallel });
  const removed = await garbage.remove(
    CONDEMNED,
    () => RECORD,
    () => true,
  );
  expect(removed).toBe("removed");
  expect([...store.objects.keys()]).toEqual(["j/chk-4/_metadata"]);
  expect(store.removed).toHaveLength(names.length);
  expect(store.removed[0]).toBe("j/chk-3/_metadata");
  expect(store.mostUnderWay).toBe(most);
});
