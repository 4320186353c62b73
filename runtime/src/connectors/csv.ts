// CSV as RFC 4180 has it: a header, cells in quotes when they need it, quotes doubled inside.
//
// Invariants:
//   CV1. A record has exactly as many cells as the header; anything else is malformed.
//   CV2. Without `quotedNewlines` a line end always ends a record, so that files can be split anywhere between lines.

import type { TypeDescriptor } from "../model/index.ts";
import { optionInvalid } from "../operators/index.ts";
import { Malformed, textConverter } from "./record-shape.ts";

/** The cells of one record. Throws Malformed. */
export function parseCsvCells(line: string, delimiter: string): string[] {
  if (!line.includes('"')) return line.split(delimiter);
  const cells: string[] = [];
  let at = 0;
  for (;;) {
    if (line[at] !== '"') {
      const end = line.indexOf(delimiter, at);
      const cell = end < 0 ? line.slice(at) : line.slice(at, end);
      if (cell.includes('"')) throw new Malformed(`cell ${cells.length + 1} has a quote in its middle`);
      cells.push(cell);
      if (end < 0) return cells;
      at = end + 1;
      continue;
    }
    let cell = "";
    let from = at + 1;
    for (;;) {
      const quote = line.indexOf('"', from);
      if (quote < 0) {
        throw new Malformed(
          `cell ${cells.length + 1} has a quote that is never closed (for line ends inside quotes set quotedNewlines: true)`,
        );
      }
      cell += line.slice(from, quote);
      if (line[quote + 1] === '"') {
        cell += '"';
        from = quote + 2;
        continue;
      }
      at = quote + 1;
      break;
    }
    cells.push(cell);
    if (at === line.length) return cells;
    if (line[at] !== delimiter) throw new Malformed(`cell ${cells.length} goes on after its closing quote`);
    at += 1;
  }
}

/** From a line to a ROW. `header`: the file's columns; those that the type does not declare are ignored. */
export function csvParser(options: {
  readonly type: Extract<TypeDescriptor, { kind: "ROW" }>;
  readonly header: readonly string[];
  readonly delimiter: string;
}): (line: string) => unknown {
  const { type, header, delimiter } = options;
  const columns = type.names.map((name, i) => {
    const convert = textConverter(type.fields[i] as TypeDescriptor, name);
    if (convert === undefined) throw unsupported(name, type.fields[i] as TypeDescriptor);
    return { name, at: header.indexOf(name), convert };
  });
  return (line) => {
    const cells = parseCsvCells(line, delimiter);
    if (cells.length !== header.length)
      throw new Malformed(`it has ${cells.length} cells, the header has ${header.length}`);
    const row: Record<string, unknown> = {};
    for (let i = 0; i < columns.length; i += 1) {
      const { name, at, convert } = columns[i] as (typeof columns)[number];
      row[name] = convert(cells[at] as string);
    }
    return row;
  };
}

/** Refuses, when the job is built, a type that CSV cannot carry. */
export function checkCsvType(type: TypeDescriptor): asserts type is Extract<TypeDescriptor, { kind: "ROW" }> {
  if (type.kind !== "ROW")
    throw optionInvalid("FileSource.csv needs a ROW type", "declare the columns: Types.ROW({ name: Types.STRING() })");
  type.names.forEach((name, i) => {
    if (textConverter(type.fields[i] as TypeDescriptor, name) === undefined)
      throw unsupported(name, type.fields[i] as TypeDescriptor);
  });
}

function unsupported(name: string, type: TypeDescriptor): Error {
  return optionInvalid(
    `FileSource.csv: column "${name}" is declared as ${type.kind}`,
    "use INT, LONG, DOUBLE, STRING, BOOLEAN or INSTANT, and convert in a map",
  );
}
