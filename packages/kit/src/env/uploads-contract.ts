// What every implementation of StagedUploads must do, as named cases (see contract.ts).

import { assert } from "../assert.ts";
import type { ContractCase } from "./contract.ts";
import { patternBytes } from "./contract.ts";
import type { ObjectStore } from "./storage.ts";
import { UPLOAD_PART_BYTES_MIN, type StagedUploads, type UploadedPart } from "./uploads.ts";

/** Both look at the same place: what was completed is read through the store. */
export interface UploadsAndStore {
  readonly uploads: StagedUploads;
  readonly store: Pick<ObjectStore, "get" | "list">;
}

/** Cases of {@link StagedUploads}. `make` gives an empty place for each case. */
export function uploadsContract(make: () => Promise<UploadsAndStore>): readonly ContractCase[] {
  const cases: readonly (readonly [string, (place: UploadsAndStore) => Promise<void>])[] = [
    [
      "SU1, SU2: parts are invisible until the upload is completed, by whoever knows its name",
      async ({ uploads, store }) => {
        const upload = await uploads.begin("dir/o");
        const first = patternBytes(UPLOAD_PART_BYTES_MIN, 1);
        const second = patternBytes(1_000, 2);
        const parts = [await put(uploads, upload, 1, first), await put(uploads, upload, 2, second)];
        assert((await store.list("dir/")).length === 0, "SU1: nothing is listed");
        assert((await store.get("dir/o")) === undefined, "SU1: nothing is read");
        assert((await uploads.sizeOf("dir/o")) === undefined, "SU1: it does not exist");
        const elsewhere = structuredClone({ upload, parts });
        assert((await uploads.complete(elsewhere.upload, elsewhere.parts)) === "completed", "completed");
        const bytes = await store.get("dir/o");
        assert(bytes?.length === first.length + second.length, "SU1: all of it is there");
        assert(
          bytes.subarray(0, first.length).every((byte, i) => byte === first[i]),
          "the first part comes first",
        );
        assert(
          bytes.subarray(first.length).every((byte, i) => byte === second[i]),
          "the second part follows",
        );
        assert((await uploads.sizeOf("dir/o")) === bytes.length, "it exists");
      },
    ],
    [
      "SU3: a part put again replaces the first one; completing again is absent and changes nothing",
      async ({ uploads, store }) => {
        const upload = await uploads.begin("a");
        await put(uploads, upload, 1, patternBytes(10, 1));
        const part = await put(uploads, upload, 1, patternBytes(10, 2));
        assert((await uploads.complete(upload, [part])) === "completed", "completed");
        assert((await uploads.complete(upload, [part])) === "absent", "SU3: the second time it is absent");
        assert((await store.get("a"))?.[0] === patternBytes(10, 2)[0], "the second content stands");
      },
    ],
    [
      "SU3: an aborted upload is gone, and aborting again is success",
      async ({ uploads }) => {
        const upload = await uploads.begin("a");
        const part = await put(uploads, upload, 1, patternBytes(10));
        await uploads.abort(upload);
        await uploads.abort(upload);
        assert((await uploads.complete(upload, [part])) === "absent", "nothing to complete");
        assert(
          (await uploads.putPart(upload, { number: 2, bytes: patternBytes(10) })) === "absent",
          "nothing to add to",
        );
        assert((await uploads.sizeOf("a")) === undefined, "nothing became visible");
      },
    ],
    [
      "two uploads of one name do not mix",
      async ({ uploads, store }) => {
        const [one, two] = [await uploads.begin("a"), await uploads.begin("a")];
        const parts = [
          await put(uploads, one, 1, patternBytes(10, 1)),
          await put(uploads, two, 1, patternBytes(20, 2)),
        ] as const;
        await uploads.abort(one);
        assert((await uploads.complete(two, [parts[1]])) === "completed", "the other one is whole");
        assert((await store.get("a"))?.length === 20, "and has its own content");
      },
    ],
    [
      "what was begun and neither completed nor aborted is listed, by prefix, with its start",
      async ({ uploads }) => {
        const [left, other, done, gone] = [
          await uploads.begin("dir/left"),
          await uploads.begin("other"),
          await uploads.begin("dir/done"),
          await uploads.begin("dir/gone"),
        ];
        await put(uploads, left, 1, patternBytes(10));
        await uploads.complete(done, [await put(uploads, done, 1, patternBytes(10))]);
        await uploads.abort(gone);
        const again = await uploads.begin("dir/left");
        const found = await uploads.list("dir/");
        assert(
          found.length === 2 && found.every(({ path }) => path === "dir/left"),
          "two uploads of one name, and no others",
        );
        const ids = new Set(found.map(({ uploadId }) => uploadId));
        assert(ids.has(left.uploadId) && ids.has(again.uploadId), "each by its id");
        assert(
          found.every(({ startedMs }) => Number.isFinite(startedMs)),
          "with their start",
        );
        assert((await uploads.list("")).length === 3, "the other one too");
        for (const upload of [...found, other]) await uploads.abort(upload);
        assert((await uploads.list("")).length === 0, "then nothing is left");
      },
    ],
    [
      "SU5: a copy is whole, leaves its source, and may be repeated, over an older object too",
      async ({ uploads, store }) => {
        const [bytes, other] = [patternBytes(1_000, 1), patternBytes(2_000, 2)];
        await uploads.put("dir/.staged ü+~1", bytes);
        await uploads.put("dir/final", other);
        for (let round = 0; round < 2; round += 1) {
          const copied = await uploads.copy("dir/.staged ü+~1", "dir/final", bytes.length);
          assert(copied === "copied", "SU5: copied, also again");
          for (const path of ["dir/.staged ü+~1", "dir/final"]) {
            const found = await store.get(path);
            assert(found !== undefined && Buffer.compare(found, bytes) === 0, `SU5: ${path} has the content`);
          }
        }
        await uploads.remove("dir/.staged ü+~1");
        await uploads.remove("dir/.staged ü+~1");
        assert((await uploads.copy("dir/.staged ü+~1", "dir/final", 1_000)) === "absent", "SU5: no source");
        assert((await uploads.sizeOf("dir/final")) === bytes.length, "SU5: what was there stays");
      },
    ],
    [
      "SU5: a completed upload of several parts is copied as a whole",
      async ({ uploads, store }) => {
        const upload = await uploads.begin("dir/.staged");
        const [first, second] = [patternBytes(UPLOAD_PART_BYTES_MIN, 1), patternBytes(7, 2)];
        const parts = [await put(uploads, upload, 1, first), await put(uploads, upload, 2, second)];
        await uploads.complete(upload, parts);
        const sizeBytes = first.length + second.length;
        assert((await uploads.copy("dir/.staged", "dir/final", sizeBytes)) === "copied", "copied");
        const found = await store.get("dir/final");
        assert(
          found !== undefined && Buffer.compare(found, Buffer.concat([first, second])) === 0,
          "all of it, in order",
        );
      },
    ],
    [
      "objects are listed by prefix, ascending, with size and age; no uploads among them",
      async ({ uploads }) => {
        for (const path of ["dir/b", "dir/a", "other"]) await uploads.put(path, patternBytes(path.length));
        const upload = await uploads.begin("dir/c");
        const found = await uploads.listObjects("dir/");
        assert(JSON.stringify(found.map(({ path }) => path)) === '["dir/a","dir/b"]', "two, in order");
        assert(
          found.every(({ sizeBytes, modifiedMs }) => sizeBytes === 5 && Number.isFinite(modifiedMs)),
          "with size and age",
        );
        await uploads.abort(upload);
      },
    ],
  ];
  return cases.map(([name, run]) => ({ name, run: async () => await run(await make()) }));
}

async function put(
  uploads: StagedUploads,
  upload: Parameters<StagedUploads["putPart"]>[0],
  number: number,
  bytes: Uint8Array,
): Promise<UploadedPart> {
  const part = await uploads.putPart(upload, { number, bytes });
  assert(part !== "absent", "an upload that was begun takes parts");
  return part;
}
