// Reads every byte of a snapshot and checks it: checksums of parts, headers and blocks, every value, every key's place.
//
// Invariants:
//   VE1. Damage is collected, not thrown: one wrong part does not hide the next. A store that does not answer is a failure.
//   VE2. A snapshot without problems restores: everything that a restore checks is checked here, and more.
//   VE3. Memory stays small: parts are read in pieces.
//
// Not here: whether a job can use the snapshot (compatibility).

import { Failure, isFailure } from "@sluice/kit";
import type { ByteReader } from "@sluice/kit";
import { codecFor, decodeValue, keyPlacer, placeOf, readBlock, readItems, rowReader } from "../state/index.ts";
import type { BlockRow, OperatorPartDescription, PartDescription, PartHeader } from "../state/index.ts";
import type { StoredPart } from "./stored-part.ts";
import type { StoredSnapshot } from "./stored-snapshot.ts";

const PIECE_BYTES = 4 * 1024 * 1024;
const PROBLEMS_MAX = 100;

/** Work done so far, for people who wait. */
export interface InspectProgress {
  readonly doneBytes: number;
  readonly totalBytes: number;
}

export interface VerifyOutcome {
  readonly partCount: number;
  readonly blockCount: number;
  readonly entryCount: number;
  readonly sizeBytes: number;
  /** What is wrong, at most 100 of them, in words. */
  readonly problems: readonly string[];
}

/** Verifies the snapshot (VE1-VE3). Rejects with STORAGE_* only. */
export async function verifySnapshot(
  snapshot: StoredSnapshot,
  onProgress: (progress: InspectProgress) => void,
): Promise<VerifyOutcome> {
  const problems: string[] = [];
  const counts = { partCount: 0, blockCount: 0, entryCount: 0, sizeBytes: snapshot.metadataBytes };
  const totalBytes = snapshot.states.reduce((sum, state) => sum + state.sizeBytes, snapshot.metadataBytes);
  const found = (problem: string): void => {
    if (problems.length < PROBLEMS_MAX) problems.push(problem);
  };
  for (const problem of coverageProblems(snapshot)) found(problem);
  for (const state of snapshot.states) {
    for (const part of state.parts) {
      const before = counts.sizeBytes;
      try {
        await verifyPart(part, {
          onPiece: (lengthBytes) => {
            counts.sizeBytes += lengthBytes;
            onProgress({ doneBytes: counts.sizeBytes, totalBytes });
          },
          onBlock: (entryCount) => {
            counts.blockCount += 1;
            counts.entryCount += entryCount;
          },
        });
      } catch (thrown) {
        if (!isFailure(thrown) || (thrown.code !== "SNAPSHOT_DAMAGED" && thrown.code !== "FORMAT_UNSUPPORTED"))
          throw thrown;
        found(thrown.message);
        counts.sizeBytes = before + part.handle.lengthBytes;
      }
      counts.partCount += 1;
    }
  }
  return { ...counts, problems };
}

/** No key group of a state may be missing or in two parts. */
function coverageProblems(snapshot: StoredSnapshot): readonly string[] {
  return snapshot.states.flatMap((state) => {
    if (state.kind !== "keyed") return [];
    const owners = new Set<number>();
    const problems: string[] = [];
    for (const part of state.parts) {
      const [first = 0, last = -1] = part.handle.keyGroups ?? [];
      for (let group = first; group <= last; group += 1) {
        if (owners.has(group) || group >= state.maxParallelism) {
          const why = owners.has(group) ? "is in another part, too" : `is none of ${state.maxParallelism}`;
          problems.push(`${part.where}: key group ${group} ${why}`);
          break;
        }
        owners.add(group);
      }
    }
    return problems;
  });
}

interface PartWatcher {
  readonly onPiece: (lengthBytes: number) => void;
  readonly onBlock: (entryCount: number) => void;
}

async function verifyPart(part: StoredPart, watch: PartWatcher): Promise<void> {
  const header = await part.header();
  checkNames(part, header.description);
  const check = checkerOf(part, header);
  let next = 0;
  let entryCount = 0;
  let rest = new Uint8Array(0);
  let restAt = 0;
  for await (const piece of part.pieces(PIECE_BYTES)) {
    const bytes = new Uint8Array(rest.length + piece.length);
    bytes.set(rest);
    bytes.set(piece, rest.length);
    for (let row = header.blocks[next]; row !== undefined; row = header.blocks[next]) {
      const from = row.offset - restAt;
      if (from + row.lengthBytes > bytes.length) break;
      const block = readBlock(row, bytes.subarray(from, from + row.lengthBytes), part.where);
      check(block, row);
      entryCount += row.entryCount;
      watch.onBlock(row.entryCount);
      next += 1;
    }
    // What is behind the last whole block goes on in the next piece.
    const keptFrom = header.blocks[next]?.offset ?? restAt + bytes.length;
    rest = bytes.subarray(Math.min(keptFrom - restAt, bytes.length));
    restAt = Math.min(keptFrom, restAt + bytes.length);
    watch.onPiece(piece.length);
  }
  const { itemCount } = part.handle;
  if (itemCount !== undefined && itemCount !== entryCount)
    throw part.damaged(`it holds ${entryCount} entries where _metadata counts ${itemCount}`);
}

function checkNames(part: StoredPart, description: PartDescription): void {
  const { uid, stateName, kind, keyGroups, mode } = part.handle;
  const isKeyed = description.section !== "operator-list";
  const isSame =
    description.uid === uid &&
    description.stateName === stateName &&
    isKeyed === (kind === "keyed") &&
    (isKeyed ? description.keyGroups.join() === keyGroups?.join() : description.mode === mode);
  if (!isSame)
    throw part.damaged(`the part found there is of operator uid ${description.uid}, state "${description.stateName}"`);
}

/** Checks the entries of a block: values, number, order, key groups, and that no key of a value state occurs twice. */
function checkerOf(part: StoredPart, header: PartHeader): (block: ByteReader, row: BlockRow) => void {
  const { description } = header;
  if (description.section === "operator-list") return (block, row) => checkItems(block, row, description);
  const read = rowReader(description);
  const placer = keyPlacer(description);
  const hasOneRow = !["list", "map", "timers"].includes(description.stateKind);
  let before = -1;
  let atPlace = new Set<string>();
  return (block, row) => {
    let count = 0;
    for (; block.remaining > 0; count += 1) {
      const { key } = read(block);
      const { place, keyGroup, bytes } = placer(key);
      if (keyGroup !== row.keyGroup) throw block.failure("a key that does not belong to its key group");
      if (place < before) throw block.failure("entries that are out of order");
      if (count === 0 && place !== placeOf(row.keyGroup, row.firstHash))
        throw block.failure("its first entry has another order hash than the directory says");
      if (place !== before) atPlace = new Set();
      before = place;
      if (!hasOneRow) continue;
      const text = Buffer.from(bytes).toString("latin1");
      if (atPlace.has(text)) throw block.failure("a key that occurs twice");
      atPlace.add(text);
    }
    if (count !== row.entryCount)
      throw block.failure(`${count} entries where the directory of ${part.where} counts ${row.entryCount}`);
  };
}

function checkItems(block: ByteReader, row: BlockRow, description: OperatorPartDescription): void {
  const items = readItems(block, description);
  const { itemType } = description;
  if (itemType !== null) {
    const codec = codecFor(itemType);
    for (const item of items) if ("bytes" in item) decodeValue(codec, item.bytes, "an item of operator state");
  }
  if (items.length !== row.entryCount)
    throw block.failure(`${items.length} items where its directory counts ${row.entryCount}`);
}

/** The failure of a snapshot that has problems. */
export function verifyFailure(snapshot: StoredSnapshot, outcome: VerifyOutcome): Failure {
  const { problems } = outcome;
  return new Failure("SNAPSHOT_DAMAGED", {
    retry: "never",
    message: `${snapshot.store.uri}/${snapshot.directory}: ${problems.length} problem${problems.length === 1 ? "" : "s"}\n  ${problems.join("\n  ")}`,
    remedy: "restore from another checkpoint or savepoint, or put the damaged objects back from a copy",
  });
}
