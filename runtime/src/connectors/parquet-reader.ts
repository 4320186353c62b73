// Rows of a range of a Parquet file, column by column, with one slice read ahead.
//
// Invariants:
//   PQ1. `position` is the index in the file of the first row that was not taken yet.
//   PQ2. A slice is at most a row group, and at most SLICE_ROWS where the file has page indexes: memory is bounded by two.
//   PQ3. The columns of a slice are decoded one after the other on the slot's thread, some tens of milliseconds each.
//
// Not here: which ranges there are (file-source.ts).

import { assert, Failure, isFailure, toFailure } from "@sluice/kit";
import { parquetMetadataAsync, parquetScan, type AsyncBuffer, type FileMetaData, type ParquetScan } from "hyparquet";
import { compressors } from "hyparquet-compressors";
import type { TypeDescriptor } from "../model/index.ts";
import { optionInvalid } from "../operators/index.ts";
import type { LocalFiles } from "./local-files.ts";
import { columnConverter, type Convert } from "./record-shape.ts";

type RowType = Extract<TypeDescriptor, { kind: "ROW" }>;

/**
 * Rows decoded at once where pages can be found by an index. Every slice decodes the pages that it touches, and many writers
 * make one page per row group: small slices cost more time than they save memory (measured: 16 k rows 20 times as much).
 */
const SLICE_ROWS = 512 * 1_024;

/** Values of time as milliseconds since the epoch. */
const PARSERS = {
  timestampFromMilliseconds: (millis: bigint): number => Number(millis),
  timestampFromMicroseconds: (micros: bigint): number => Number(micros / 1_000n),
  timestampFromNanoseconds: (nanos: bigint): number => Number(nanos / 1_000_000n),
  dateFromDays: (days: number): number => days * 86_400_000,
};

function notParquet(path: string, thrown: unknown): Failure {
  if (isFailure(thrown)) return thrown;
  return new Failure("RECORD_MALFORMED", {
    retry: "never",
    message: `${path} cannot be read as Parquet: ${toFailure(thrown).message}`,
    remedy: "check that the file is whole",
    cause: thrown,
  });
}

/** Refuses, when the job is built, a type that columns cannot fill. */
export function checkParquetType(type: TypeDescriptor): asserts type is RowType {
  if (type.kind !== "ROW") {
    throw optionInvalid(
      "FileSource.parquet needs a ROW type",
      "declare the columns: Types.ROW({ name: Types.STRING() })",
    );
  }
  type.names.forEach((name, i) => {
    const { kind } = type.fields[i] as TypeDescriptor;
    if (columnConverter(type.fields[i] as TypeDescriptor, name) !== undefined) return;
    throw optionInvalid(
      `FileSource.parquet: column "${name}" is declared as ${kind}`,
      "use INT, LONG, DOUBLE, STRING, BOOLEAN, INSTANT or BYTES, and convert in a map",
    );
  });
}

export interface RowRange {
  readonly startRow: number;
  readonly endRow: number;
}

/** The row groups of a file; checks that it has the declared columns. */
export async function parquetRowGroups(files: LocalFiles, path: string, type: RowType): Promise<readonly RowRange[]> {
  const descriptor = await files.open(path);
  try {
    const buffer = await asyncBuffer(files, descriptor, path);
    const metadata = await parquetMetadataAsync(buffer).catch((thrown: unknown) => {
      throw notParquet(path, thrown);
    });
    const present = new Set(metadata.schema.slice(1).map(({ name }) => name));
    for (const name of type.names) {
      if (present.has(name)) continue;
      throw new Failure("RECORD_MALFORMED", {
        retry: "never",
        message: `${path} has no column "${name}"; it has ${[...present].join(", ")}`,
        remedy: "declare columns that the file has",
      });
    }
    let startRow = 0;
    return metadata.row_groups.map((group) => {
      const range = { startRow, endRow: startRow + Number(group.num_rows) };
      startRow = range.endRow;
      return range;
    });
  } finally {
    files.close(descriptor);
  }
}

async function asyncBuffer(files: LocalFiles, descriptor: number, path: string): Promise<AsyncBuffer> {
  const byteLength = await files.sizeOf(path);
  return {
    byteLength,
    async slice(start, end = byteLength) {
      const bytes = await files.read(descriptor, start, end - start, path);
      return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer;
    },
  };
}

interface Slice extends RowRange {
  readonly columns: readonly ArrayLike<unknown>[];
}

export interface ParquetReaderOptions {
  readonly files: LocalFiles;
  readonly path: string;
  readonly type: RowType;
  readonly position: number;
  readonly endRow: number;
  readonly onLoaded: () => void;
}

export class ParquetReader {
  readonly #options: ParquetReaderOptions;
  readonly #names: readonly string[];
  readonly #convert: readonly Convert[];
  #descriptor: number | undefined;
  #scan: ParquetScan | undefined;
  #sliceRows = SLICE_ROWS;
  #slice: Slice | undefined;
  #next: Slice | undefined;
  #loading = false;
  #closed = false;
  #failure: Failure | undefined;
  #position: number;

  constructor(options: ParquetReaderOptions) {
    this.#options = options;
    this.#position = options.position;
    this.#names = options.type.names;
    this.#convert = options.type.fields.map((field, i) => {
      const convert = columnConverter(field, this.#names[i] as string);
      assert(convert !== undefined, "the type was checked when the source was made");
      return convert;
    });
    if (this.#position < options.endRow) this.#load(this.#position);
  }

  /** PQ1. */
  get position(): number {
    return this.#position;
  }

  get takenPosition(): number {
    return this.#position - 1;
  }

  /** Makes the next row the current one, or says why there is none. Throws what reading threw. */
  advance(): "record" | "loading" | "ended" {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#position >= this.#options.endRow) return "ended";
    if (this.#slice !== undefined && this.#position >= this.#slice.endRow) {
      this.#slice = this.#next;
      this.#next = undefined;
      this.#readAhead();
    }
    if (this.#slice === undefined) return "loading";
    this.#position += 1;
    return "record";
  }

  /** The current row. Throws Malformed. */
  row(): unknown {
    const slice = this.#slice as Slice;
    const at = this.#position - 1 - slice.startRow;
    const row: Record<string, unknown> = {};
    const names = this.#names;
    for (let i = 0; i < names.length; i += 1) {
      row[names[i] as string] = (this.#convert[i] as Convert)((slice.columns[i] as ArrayLike<unknown>)[at]);
    }
    return row;
  }

  rawText(): string {
    const slice = this.#slice as Slice;
    const at = this.#position - 1 - slice.startRow;
    const cells = this.#names.map((name, i) => [name, (slice.columns[i] as ArrayLike<unknown>)[at]]);
    return JSON.stringify(Object.fromEntries(cells), (_, value: unknown) =>
      typeof value === "bigint" ? String(value) : value,
    );
  }

  close(): void {
    this.#closed = true;
    if (this.#descriptor === undefined || this.#loading) return;
    this.#options.files.close(this.#descriptor);
    this.#descriptor = undefined;
  }

  #readAhead(): void {
    if (this.#loading) return;
    const from = this.#slice?.endRow ?? this.#position;
    if (from < this.#options.endRow) this.#load(from);
  }

  #load(startRow: number): void {
    assert(!this.#loading, "one read at a time");
    this.#loading = true;
    this.#read(startRow)
      .then((slice) => {
        this.#loading = false;
        if (this.#slice === undefined) {
          this.#slice = slice;
          this.#readAhead();
        } else {
          this.#next = slice;
        }
      })
      .catch((thrown: unknown) => {
        this.#loading = false;
        this.#failure = notParquet(this.#options.path, thrown);
      })
      .finally(() => {
        if (this.#closed) this.close();
        else this.#options.onLoaded();
      });
  }

  async #read(startRow: number): Promise<Slice> {
    const scan = (this.#scan ??= await this.#open());
    const endRow = Math.min(startRow + this.#sliceRows, this.#options.endRow);
    const columns: ArrayLike<unknown>[] = [];
    for (const column of this.#names)
      columns.push(await scan.readColumn({ column, rowStart: startRow, rowEnd: endRow }));
    for (const column of columns) {
      if (column.length === endRow - startRow) continue;
      throw new Error(`rows ${startRow} to ${endRow} have ${column.length} values in a column`);
    }
    return { startRow, endRow, columns };
  }

  async #open(): Promise<ParquetScan> {
    const { files, path, type } = this.#options;
    this.#descriptor = await files.open(path);
    const file = await asyncBuffer(files, this.#descriptor, path);
    const metadata = await parquetMetadataAsync(file);
    if (!hasPageIndexes(metadata)) this.#sliceRows = Number.MAX_SAFE_INTEGER; // PQ2: the split is one row group
    return parquetScan({
      file,
      metadata,
      columns: [...this.#names],
      compressors,
      parsers: PARSERS,
      utf8: !type.fields.some(({ kind }) => kind === "BYTES"),
    });
  }
}

function hasPageIndexes(metadata: FileMetaData): boolean {
  return metadata.row_groups.every(({ columns }) =>
    columns.every((column) => column.offset_index_offset !== undefined),
  );
}
