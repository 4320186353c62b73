// How a file sink writes a record as text.
//
// Invariants:
//   EN1. One record is one line; a line end inside a record is escaped (JSON) or quoted (CSV).

import { assert, Failure } from "@sluice/kit";
import type { TypeDescriptor, TypeInformation } from "../model/index.ts";
import { optionInvalid } from "../operators/index.ts";

export interface RecordEncoder<T> {
  /** Of the files, with its dot. */
  readonly extension: string;
  /** First line of each file with its line end, or "". */
  readonly header: string;
  /** The record with its line end. */
  encode(record: T): string;
}

function csvCell(text: string): string {
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function csvValue(value: unknown, column: string): string {
  switch (typeof value) {
    case "string":
      return csvCell(value);
    case "number":
    case "boolean":
    case "bigint":
      return String(value);
    default:
      throw new Failure("TYPE_MISMATCH", {
        retry: "never",
        message: `CSV column "${column}" got ${value === null ? "null" : typeof value}`,
        remedy: "map the record to strings, numbers and booleans before this sink",
      });
  }
}

/** What comes between two encoders' names and their use: `FileSink.forRowFormat(directory, Encoders.ndjson())`. */
export const Encoders = {
  /** One JSON value per line. */
  ndjson: <T>(): RecordEncoder<T> => ({
    extension: ".ndjson",
    header: "",
    encode(record) {
      const text = JSON.stringify(record) as string | undefined;
      if (text !== undefined) return `${text}\n`;
      throw new Failure("TYPE_MISMATCH", {
        retry: "never",
        message: `a record of type ${typeof record} has no JSON form`,
        remedy: "emit objects, arrays, strings, numbers, booleans or null into this sink",
      });
    },
  }),
  /** A line per record, as its string form. */
  text: <T extends string | number | boolean>(): RecordEncoder<T> => ({
    extension: ".txt",
    header: "",
    encode: (record) => `${String(record)}\n`,
  }),
  /** CSV with a header; columns are the fields of the ROW type, in its order. */
  csv: <T extends object>(type: TypeInformation<T>): RecordEncoder<T> => {
    const row: TypeDescriptor = type.descriptor;
    if (row.kind !== "ROW")
      throw optionInvalid("Encoders.csv needs a ROW type", "declare the columns: Types.ROW({ name: Types.STRING() })");
    const { names } = row;
    assert(names.length > 0, "a ROW has at least one field");
    return {
      extension: ".csv",
      header: `${names.map(csvCell).join(",")}\n`,
      encode(record) {
        const fields = record as Readonly<Record<string, unknown>>;
        let line = "";
        for (let i = 0; i < names.length; i += 1) {
          const name = names[i] as string;
          if (i > 0) line += ",";
          line += csvValue(fields[name], name);
        }
        return `${line}\n`;
      },
    };
  },
} as const;
