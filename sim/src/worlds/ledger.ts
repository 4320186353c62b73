// What the sinks of the coordinator world published, checked record by record against the model.
//
// Invariants:
//   L1. Per lane every record is published at most once, and at the end exactly once, with the count and sum that a
//       single-threaded run over 0, 1, 2, ... gives.
//   L3. What was retracted never comes back under its name.
//   L2. Publishing a transaction twice is harmless (renaming a file that is gone already).

/** One output record: the input number, how many came before and with it, and their sum. */
export type OutputRecord = readonly [value: number, count: number, sum: number];

export class Ledger {
  readonly #transactions = new Map<string, string>();
  readonly #values: Set<number>[];
  readonly #violate: (reason: string) => void;
  publishedTransactionCount = 0;
  retractedTransactionCount = 0;
  readonly #hidden = new Set<string>();

  constructor(laneCount: number, violate: (reason: string) => void) {
    this.#values = Array.from({ length: laneCount }, () => new Set<number>());
    this.#violate = violate;
  }

  /** Hides what was published of lane `lane`, or might still publish, for checkpoints in (aboveId, throughId] of the lineage. */
  retract(lineage: string, lane: number, range: { readonly aboveId: number; readonly throughId: number }): void {
    for (let id = range.aboveId + 1; id <= range.throughId; id += 1) {
      const name = `${lineage}/${lane}/${id}`;
      this.#hidden.add(name);
      const content = this.#transactions.get(name);
      if (content === undefined) continue;
      this.#transactions.delete(name);
      this.retractedTransactionCount += 1;
      for (const [value] of JSON.parse(content) as OutputRecord[]) this.#values[lane]?.delete(value);
    }
  }

  publish(name: string, lane: number, records: readonly OutputRecord[]): void {
    if (this.#hidden.has(name)) return; // its pending file is gone
    const content = JSON.stringify(records);
    const before = this.#transactions.get(name);
    if (before !== undefined) {
      if (before !== content) this.#violate(`CL4: transaction ${name} exists with other content`);
      return; // L2
    }
    this.#transactions.set(name, content);
    this.publishedTransactionCount += 1;
    const values = this.#values[lane];
    for (const [value, count, sum] of records) {
      if (values?.has(value) === true)
        this.#violate(`L1: record ${value} of lane ${lane} is published twice, now by ${name}`);
      values?.add(value);
      if (count !== value + 1 || sum !== (value * (value + 1)) / 2) {
        this.#violate(`L1: record ${value} of lane ${lane} has count ${count} and sum ${sum}`);
      }
    }
  }

  /** After the job has finished: is anything missing? `recordCountOf`: of a lane's input, as far as it was read. */
  finish(recordCountOf: (lane: number) => number): void {
    this.#values.forEach((values, lane) => {
      const recordCount = recordCountOf(lane);
      if (values.size !== recordCount) {
        this.#violate(`L1: lane ${lane} published ${values.size} of ${recordCount} records`);
      }
    });
  }
}
