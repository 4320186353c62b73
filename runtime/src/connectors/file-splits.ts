// How files are cut into splits, in the plan process.
//
// Invariants:
//   SP1. Text splits begin at 0 (or behind the header, or a byte order mark) or just behind a line end, and touch each other.
//   SP2. Every file exists and fits its format before the job is planned (INPUT_NOT_FOUND, RECORD_MALFORMED).

import { Failure } from "@sluice/kit";
import type { TypeDescriptor } from "../model/index.ts";
import { checkCsvType, parseCsvCells } from "./csv.ts";
import { RECORD_BYTES_MAX } from "./line-reader.ts";
import type { LocalFiles } from "./local-files.ts";
import { checkParquetType, parquetRowGroups } from "./parquet-reader.ts";

export type FileFormat =
  | { readonly kind: "text" }
  | { readonly kind: "ndjson" }
  | { readonly kind: "csv"; readonly delimiter: string; readonly quotedNewlines: boolean }
  | { readonly kind: "parquet" };

/** Part of a file: bytes of text, or rows of Parquet, [start, end). Plain JSON: it travels in plan and state. */
export interface FileSplit {
  readonly path: string;
  readonly unit: "bytes" | "rows";
  readonly start: number;
  readonly end: number;
  /** Columns of a CSV file. */
  readonly header?: readonly string[];
}

const PROBE_BYTES = 64 * 1_024;
const NEWLINE = 10;

export async function planFiles(options: {
  readonly files: LocalFiles;
  readonly paths: readonly string[];
  readonly format: FileFormat;
  readonly type: TypeDescriptor;
  readonly splitBytes: number;
}): Promise<readonly FileSplit[]> {
  const { files, paths, format, type, splitBytes } = options;
  const splits: FileSplit[] = [];
  for (const path of paths) {
    const sizeBytes = await files.sizeOf(path);
    if (format.kind === "parquet") {
      checkParquetType(type);
      const groups = await parquetRowGroups(files, path, type);
      for (const { startRow, endRow } of groups)
        if (endRow > startRow) splits.push({ path, unit: "rows", start: startRow, end: endRow });
      continue;
    }
    const descriptor = await files.open(path);
    try {
      const file = { files, path, descriptor, sizeBytes };
      let start = await byteOrderMark(file);
      let header: readonly string[] | undefined;
      if (format.kind === "csv") ({ header, start } = await readHeader(file, start, format, type));
      const whole = format.kind === "csv" && format.quotedNewlines;
      while (start < sizeBytes) {
        const end =
          whole || start + splitBytes >= sizeBytes ? sizeBytes : await behindLineEnd(file, start + splitBytes - 1);
        splits.push({ path, unit: "bytes", start, end, ...(header === undefined ? {} : { header }) });
        start = end;
      }
    } finally {
      files.close(descriptor);
    }
  }
  return splits;
}

interface OpenFile {
  readonly files: LocalFiles;
  readonly path: string;
  readonly descriptor: number;
  readonly sizeBytes: number;
}

function readAt(file: OpenFile, position: number, lengthBytes: number): Promise<Buffer> {
  return file.files.read(file.descriptor, position, Math.min(lengthBytes, file.sizeBytes - position), file.path);
}

async function byteOrderMark(file: OpenFile): Promise<number> {
  const first = await readAt(file, 0, 3);
  return first.length === 3 && first[0] === 0xef && first[1] === 0xbb && first[2] === 0xbf ? 3 : 0;
}

/** Position behind the first line end at or after `from`; the end of the file when there is none. */
async function behindLineEnd(file: OpenFile, from: number): Promise<number> {
  for (let position = from; position < file.sizeBytes; position += PROBE_BYTES) {
    const bytes = await readAt(file, position, PROBE_BYTES);
    const at = bytes.indexOf(NEWLINE);
    if (at >= 0) return position + at + 1;
  }
  return file.sizeBytes;
}

async function readHeader(
  file: OpenFile,
  from: number,
  format: Extract<FileFormat, { kind: "csv" }>,
  type: TypeDescriptor,
): Promise<{ readonly header: readonly string[]; readonly start: number }> {
  checkCsvType(type);
  const refuse = (reason: string): Failure =>
    new Failure("RECORD_MALFORMED", {
      retry: "never",
      message: `${file.path}: ${reason}`,
      remedy: "the first line of a CSV file names its columns, and the type declares columns that are among them",
    });
  const start = await behindLineEnd(file, from);
  if (start - from > RECORD_BYTES_MAX) throw refuse("the header is too long");
  const line = (await readAt(file, from, start - from)).toString("utf8").replace(/\r?\n$/, "");
  if (line === "") throw refuse("there is no header");
  let header: readonly string[];
  try {
    header = parseCsvCells(line, format.delimiter);
  } catch (thrown) {
    throw refuse(`the header cannot be read: ${(thrown as Error).message}`);
  }
  for (const name of type.names) {
    if (!header.includes(name)) throw refuse(`there is no column "${name}"; the header has ${header.join(", ")}`);
    if (header.indexOf(name) !== header.lastIndexOf(name)) throw refuse(`column "${name}" is there twice`);
  }
  return { header, start };
}
