// Checks what a ledger job (jobs/ledger.ts) has published: every number once, in order, with the state that it must have had.
//
// Invariants (tests cite them):
//   AL1. Complete: every number of the range is there. A ledger whose end is not known must end at one cut: of each split, all numbers
//        up to its highest are there.
//   AL2. No number is there twice, and none that was never sent.
//   AL3. Within a file the sequence numbers of a key grow by one from line to line.
//   AL4. The count and the sum of a key's state follow from the sequence number: state that was lost, doubled or mixed up is seen.
//   AL5. The verdict comes from the published lines alone, never from what the system says about itself.
//
// Not here: reading a bucket (bucket.ts), times (timing.ts), damaging a ledger to test this file (control.ts).

/** One object of the sink, whole. */
export interface LedgerFile {
  readonly name: string;
  readonly text: string;
}

export interface LedgerLine {
  readonly key: number;
  readonly sequence: number;
  readonly count: number;
  readonly sum: number;
  /** Wall clock. */
  readonly emittedMs: number;
  /** Wall clock; together with the version it names the attempt that wrote the line. */
  readonly openedMs: number;
  readonly version: string;
}

export interface LedgerExpectation {
  readonly keys: number;
  /** Numbers 0 ... count - 1 are all there; undefined: the job was stopped somewhere (AL1). */
  readonly count: number | undefined;
  /** Parallelism of the source at its first start; with n splits the numbers of split s are s, s + n, s + 2n ... */
  readonly splits: number;
}

export interface LedgerAudit {
  readonly passed: boolean;
  readonly files: number;
  readonly records: number;
  readonly lost: number;
  readonly duplicates: number;
  /** Lines that no input explains. */
  readonly foreign: number;
  readonly outOfOrder: number;
  readonly wrongState: number;
  /** The first few problems in words. */
  readonly problems: readonly string[];
}

const PROBLEMS_MAX = 8;

/** AL1-AL4. */
export function auditLedger(files: readonly LedgerFile[], expected: LedgerExpectation): LedgerAudit {
  const { keys, count } = expected;
  const problems: string[] = [];
  const note = (problem: string): void => {
    if (problems.length < PROBLEMS_MAX) problems.push(problem);
  };
  const seen: number[] = [];
  let [records, duplicates, foreign, outOfOrder, wrongState] = [0, 0, 0, 0, 0];
  for (const file of files) {
    const lastOfKey = new Map<number, number>();
    for (const line of linesOf(file)) {
      records += 1;
      const { key, sequence } = line;
      const index = sequence * keys + key;
      if (key >= keys || (count !== undefined && index >= count)) {
        foreign += 1;
        note(`${file.name}: key ${key} sequence ${sequence} was never sent`);
        continue;
      }
      const times = (seen[index] ?? 0) + 1;
      seen[index] = times;
      if (times > 1) {
        duplicates += 1;
        note(`${file.name}: key ${key} sequence ${sequence} is there ${times} times`);
      }
      const last = lastOfKey.get(key);
      if (last !== undefined && sequence !== last + 1) {
        outOfOrder += 1;
        note(`${file.name}: key ${key} sequence ${sequence} comes after ${last}`);
      }
      lastOfKey.set(key, sequence);
      const sum = (keys * sequence * (sequence + 1)) / 2 + key * (sequence + 1);
      if (line.count !== sequence + 1 || line.sum !== sum) {
        wrongState += 1;
        note(
          `${file.name}: key ${key} sequence ${sequence} has count ${line.count} and sum ${line.sum}, not ${sequence + 1} and ${sum}`,
        );
      }
    }
  }
  const lost = countLost(seen, expected, note);
  const passed = records > 0 && lost + duplicates + foreign + outOfOrder + wrongState === 0;
  if (records === 0) note("there is no output at all");
  return { passed, files: files.length, records, lost, duplicates, foreign, outOfOrder, wrongState, problems };
}

/** AL1. */
function countLost(
  seen: readonly number[],
  { count, splits, keys }: LedgerExpectation,
  note: (problem: string) => void,
): number {
  let lost = 0;
  for (let split = 0; split < splits; split += 1) {
    let end = count ?? 0;
    if (count === undefined) for (let i = split; i < seen.length; i += splits) if (seen[i] !== undefined) end = i + 1;
    for (let i = split; i < end; i += splits) {
      if (seen[i] !== undefined) continue;
      lost += 1;
      note(`key ${i % keys} sequence ${Math.floor(i / keys)} (number ${i}) is missing`);
    }
  }
  return lost;
}

/** @throws Error naming file and line, for a line that is none. */
export function* linesOf(file: LedgerFile): Generator<LedgerLine> {
  let number = 0;
  for (const text of file.text.split("\n")) {
    number += 1;
    if (text === "") continue;
    const fields = text.split(" ");
    const [key = NaN, sequence = NaN, count = NaN, sum = NaN, emittedMs = NaN, openedMs = NaN] = fields.map(Number);
    const version = fields[6];
    const numbers = [key, sequence, count, sum, emittedMs, openedMs];
    if (
      fields.length !== 7 ||
      version === undefined ||
      !numbers.every((value) => Number.isSafeInteger(value) && value >= 0)
    ) {
      throw new Error(`${file.name}, line ${number} is no line of a ledger: ${text.slice(0, 100)}`);
    }
    yield { key, sequence, count, sum, emittedMs, openedMs, version };
  }
}

/** `part-{lineage}-{uid}-{subtask}-...`: which lineage of the job has written a file. */
export function lineageOf(file: LedgerFile): string {
  const lineage = /^part-([^-]+)-/.exec(file.name.split("/").at(-1) ?? "")?.[1];
  if (lineage === undefined) throw new Error(`${file.name} is not a name of the file sink`);
  return lineage;
}
